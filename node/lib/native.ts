/** The native half, as `napi build` makes it. */
export * as native from '../native/index.js';
