// One implementation for both module systems, so that a class is the same class in either.
export * from '../index.js';
