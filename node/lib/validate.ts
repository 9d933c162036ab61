/** Checks of what users hand in. Each says what is wrong with what, and what to do. */
import { InvalidInputError } from './errors.js';

/** The longest text of a label, in UTF-16 units; the native half has a bound on whole keys, `maxKeyBytes`. */
export const TEXT_LENGTH_MAX = 8192;

/** The most labels of one request that are looked at; `maxLabels` may be less. */
export const LABELS_MAX = 1024;

/** Refuses everything but a text that can name something. */
export function checkText(what: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') {
    const meant = typeof value === 'number' || typeof value === 'bigint' ? `"${value}"` : undefined;
    throw new InvalidInputError(
      `${what} is ${show(value)}: give a string, or leave it out if it is optional${suggested(meant)}`,
    );
  }
  if (value === '') throw new InvalidInputError(`${what} is empty: give at least one character, or leave it out`);
  if (value.length > TEXT_LENGTH_MAX) {
    const message = `${what} has ${value.length} characters: give at most ${TEXT_LENGTH_MAX}, for example a hash of it`;
    throw new InvalidInputError(message);
  }
  if (value.includes('\0')) throw new InvalidInputError(`${what} is ${show(value)}: leave the NUL out`);
  if (!value.isWellFormed()) {
    const message = `${what} is ${show(value)}, with half of a surrogate pair: give well-formed text (see toWellFormed())`;
    throw new InvalidInputError(message);
  }
}

/** The items of an array of texts that can name something; everything else is refused. */
export function textsIn(what: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw new InvalidInputError(`${what} is ${show(value)}: give an array of strings`);
  return Array.from(value as readonly unknown[], (item, index) => {
    checkText(`${what}[${index}]`, item);
    return item;
  });
}

/** The keys of an array; everything else is refused, and nothing of it is shown. */
export function secretsIn(what: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw new InvalidInputError(`${what} is no array: give an array of strings`);
  return Array.from(value as readonly unknown[], (item, index) => secretIn(`${what}[${index}]`, item));
}

/** A key; everything else is refused, and nothing of it is shown. */
export function secretIn(what: string, value: unknown): string {
  if (typeof value !== 'string') throw new InvalidInputError(`${what} is no string: give 64 hex digits`);
  return value;
}

/** Refuses everything but a whole number from `least` to 2^53 - 1. */
export function checkCount(what: string, value: unknown, least = 0): asserts value is number {
  if (Number.isSafeInteger(value) && (value as number) >= least) return;
  const meant = typeof value === 'string' || typeof value === 'bigint' ? countIn(String(value), least) : undefined;
  throw new InvalidInputError(`${what} is ${show(value)}: give a whole number from ${least} to 2^53 - 1${suggested(meant)}`);
}

/** Refuses everything but `true` and `false`. */
export function checkFlag(what: string, value: unknown): asserts value is boolean {
  if (typeof value !== 'boolean') throw new InvalidInputError(`${what} is ${show(value)}: give true or false`);
}

/** Refuses everything but a plain object: of a `Map` or an instance of a class, what it holds would not be seen. */
export function checkObject(what: string, value: unknown): asserts value is object {
  if (isPlainObject(value)) return;
  const plain = typeof value === 'object' && value !== null && !Array.isArray(value) ? 'a plain object' : 'an object';
  throw new InvalidInputError(`${what} is ${show(value)}: give ${plain}`);
}

/** Refuses keys that are none of the options, by name, and says which one may be meant. */
export function checkKeys(what: string, given: object, known: readonly string[]): void {
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const meant = suggested(nearestOf(unknown, known));
  throw new InvalidInputError(`${unknown} is no option of ${what}: those are ${known.join(', ')}${meant}`);
}

/** The end of a message that says what may be meant; nothing where that is not known. */
export function suggested(meant: string | undefined): string {
  return meant === undefined ? '' : `; is ${meant} meant?`;
}

/** The text of the duration that is probably meant by a number, or by a text that is one: 60 by `"60s"`, 60000 as well. */
export function meantDuration(value: unknown, unit: 'ms' | 's' = 's'): string | undefined {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (!Number.isSafeInteger(number) || (number as number) <= 0) return undefined;
  const count = number as number;
  // Seconds by the thousand are milliseconds.
  if (unit === 's' && count >= 1000) return count % 1000 === 0 ? `"${count / 1000}s"` : `"${count}ms"`;
  return `"${count}${unit}"`;
}

/** The number that a text is, if it is a count. */
function countIn(text: string, least: number): string | undefined {
  const number = /^\d+$/.test(text) ? Number(text) : -1;
  return Number.isSafeInteger(number) && number >= least ? String(number) : undefined;
}

/** The known word that is nearest to this one, capital letters and `_` apart; by default at most a third of its letters away. */
export function nearestOf(word: string, known: readonly string[], most?: number): string | undefined {
  const plain = (text: string): string => text.toLowerCase().replaceAll('_', '');
  const away = (other: string): number => distance(plain(word), plain(other));
  const nearest = known.reduce<string | undefined>(
    (best, other) => (best === undefined || away(other) < away(best) ? other : best),
    undefined,
  );
  return nearest !== undefined && away(nearest) <= (most ?? Math.ceil(nearest.length / 3)) ? nearest : undefined;
}

/** How many letters must be put in, left out or changed to make one word of the other. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (const [place, letter] of [...one].entries()) {
    const next = [place + 1];
    for (let column = 1; column <= other.length; column += 1) {
      const changed = (row[column - 1] ?? 0) + Number(letter !== other[column - 1]);
      next.push(Math.min(changed, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}

/** Whether this is an object literal or the like: one without a prototype, or with that of all objects, of any realm. */
export function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** A value as a message shows it: short, and whatever it is. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object' && value !== null) return isPlainObject(value) ? 'an object' : kindOf(value);
  if (typeof value === 'function') return 'a function';
  return String(value);
}

/** What an object is that is not plain: by its class, if it has one. */
function kindOf(value: object): string {
  const { name } = (value as { constructor?: { name?: unknown } }).constructor ?? {};
  if (typeof name !== 'string' || name === '' || name === 'Object') return 'an object that inherits from another';
  return `an object of class ${name}`;
}
