/** A class, whatever its constructor. */
interface Class {
  readonly prototype: object;
}

/**
 * Makes the class one class to `instanceof`, whichever copy of this package made the object and in whichever realm (a `vm` context, as
 * of Jest and of the pools `vmThreads` and `vmForks` of Vitest): by a symbol of the registry, which all of them share.
 *
 * @param name - what the class is called, also where a bundler renames it
 */
export function brand(of: Class, name: string): void {
  const symbol = Symbol.for(`tallymesh.${name}`);
  Object.defineProperty(of.prototype, symbol, { value: true });
  Object.defineProperty(of, Symbol.hasInstance, {
    value(this: unknown, value: unknown): boolean {
      // A subclass of a user's inherits this, and has no symbol of its own.
      if (this !== of) return Function.prototype[Symbol.hasInstance].call(this as never, value);
      return typeof value === 'object' && value !== null && symbol in value;
    },
  });
}
