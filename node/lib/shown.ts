/** What objects show of themselves where they are not used but logged or sent. */
import * as threads from 'node:worker_threads';

/**
 * Shows an object whose fields are private as what its `toJSON` returns, in `console.log` and `util.inspect`.
 *
 * @param name - what the class is called
 */
export function showAsJson(of: { readonly prototype: { toJSON(): object } }, name: string): void {
  Object.defineProperty(of.prototype, Symbol.for('nodejs.util.inspect.custom'), {
    value(this: { toJSON(): object }, depth: number, options: object, inspect: (value: unknown, options: object) => string) {
      // As what is nested too deeply is shown.
      if (depth < 0) return `[${name}]`;
      return `${name} ${inspect(this.toJSON(), options)}`;
    },
  });
}

/**
 * Has `structuredClone` and `postMessage` refuse an object that is more than its data: a clone of it would count nothing. Before Node.js
 * 22.10 there is no way to, and the clone is an object of the public fields.
 */
export function refuseClones(object: object): void {
  (threads as { markAsUncloneable?: (object: object) => void }).markAsUncloneable?.(object);
}
