/** What was counted where, for taking it back: by the key alone, nothing says in which window it was. */
import { AsyncLocalStorage } from 'node:async_hooks';

/** How many increments are remembered: the latest ones. */
export const INCREMENTS_MAX = 65_536;

/** One increment of a key. */
export interface Increment {
  readonly key: string;
  /** When its window ends, in milliseconds since 1970; undefined as long as it is not counted. */
  endsAtMs: number | undefined;
  /** Whether it was taken back, or is no longer to be. */
  done: boolean;
  /** The next of the same key. */
  next: Increment | undefined;
}

/**
 * The latest increments, each with its window.
 *
 * Within a request (see {@link followRequests}), what is taken back is the request's own increment. Elsewhere it is the key's
 * earliest that was not taken back, so that a late decrement never reaches what was counted after it.
 */
export class Increments {
  readonly #byKey = new Map<string, { first: Increment; last: Increment }>();
  /** A ring: number `n` is at `n % INCREMENTS_MAX`. */
  readonly #latest: Increment[] = [];
  #count = 0;
  #requests: AsyncLocalStorage<Increment> | undefined;

  /** From now on, remembers which asynchronous context made an increment. Only where decrements are to come, since it costs. */
  followRequests(): void {
    this.#requests ??= new AsyncLocalStorage();
  }

  /** Begins an increment that the present request makes. It must be called before the request waits for anything. */
  begin(key: string): Increment {
    const increment: Increment = { key, endsAtMs: undefined, done: false, next: undefined };
    this.#requests?.enterWith(increment);
    return increment;
  }

  /** Remembers an increment that was counted in the window that ends then, and forgets the oldest one if there are too many. */
  counted(increment: Increment, endsAtMs: number): void {
    increment.endsAtMs = endsAtMs;
    const index = this.#count % INCREMENTS_MAX;
    const oldest = this.#latest[index];
    if (oldest !== undefined) this.#finish(oldest);
    this.#latest[index] = increment;
    this.#count += 1;
    const held = this.#byKey.get(increment.key);
    if (held === undefined) {
      this.#byKey.set(increment.key, { first: increment, last: increment });
    } else {
      held.last.next = increment;
      held.last = increment;
    }
  }

  /** When the window ends of the increment that is to be taken back; undefined if none is known. */
  take(key: string): number | undefined {
    const own = this.#requests?.getStore();
    const increment = own?.key === key ? own : this.#byKey.get(key)?.first;
    if (increment?.endsAtMs === undefined || increment.done) return undefined;
    this.#finish(increment);
    return increment.endsAtMs;
  }

  /** Forgets the increments of a key, or all. */
  forget(key?: string): void {
    const keys = key === undefined ? [...this.#byKey.keys()] : [key];
    for (const each of keys) {
      for (let next = this.#byKey.get(each)?.first; next !== undefined; next = next.next) next.done = true;
      this.#byKey.delete(each);
    }
  }

  #finish(increment: Increment): void {
    if (increment.done) return;
    increment.done = true;
    const held = this.#byKey.get(increment.key);
    // Those before the first one that is not done are of no more use.
    let first = held?.first;
    while (first?.done) first = first.next;
    if (held === undefined || first === undefined) this.#byKey.delete(increment.key);
    else held.first = first;
  }
}
