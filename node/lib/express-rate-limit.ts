/**
 * The store of the package express-rate-limit, with counts that hold across restarts and across instances.
 *
 * @packageDocumentation
 */
import type { ClientRateLimitInfo, Options, Store } from 'express-rate-limit';

import { InvalidInputError, call, settled } from './errors.js';
import { Increments } from './increments.js';
import { handleOf, type Limiter } from './limiter.js';
import { native } from './native.js';
import { checkObject, checkText, show } from './validate.js';

/** What the counters are named in the store. */
const COUNTERS = 'express-rate-limit';
const WINDOW_MAX_MS = 366 * 86_400_000;

/** What {@link TallymeshStore} needs to know. */
export interface TallymeshStoreOptions {
  /** The open limiter; its own limits do not matter here. Who opened it closes it. */
  readonly limiter: Limiter;
  /**
   * Tells this store's keys from those of others in the cluster: give each `rateLimit()` its own, and the same one on every
   * instance. 1 to 8,192 characters. Default: `'default'`.
   */
  readonly prefix?: string;
}

/**
 * A store for `rateLimit({ store })`.
 *
 * A decrement (of `skipFailedRequests` or `skipSuccessfulRequests`) takes back what its own request counted, in the window in
 * which that was: once the window is over, it changes nothing. For that, a store remembers its latest 65,536 increments. Called
 * by hand, it takes back the earliest increment of the key in this store that was not taken back. Hits are so never below 0:
 * nothing is taken that this store did not count, nor more than the key shows here.
 *
 * Windows are aligned to UTC, so that all instances agree on them: a client's first window may end early.
 *
 * @example
 * ```ts
 * app.use(rateLimit({ windowMs: 60_000, limit: 100, store: new TallymeshStore({ limiter }) }));
 * ```
 */
export class TallymeshStore implements Store {
  /** Keys that are counted in one instance are counted in all. */
  readonly localKeys = false;
  /** Tells this store's keys from those of others. */
  readonly prefix: string;
  readonly #limiter: number;
  readonly #increments = new Increments();
  #windowMs = 60_000;

  /** @throws {@link InvalidInputError} when an option cannot be used */
  constructor(options: TallymeshStoreOptions) {
    checkObject('the options of TallymeshStore', options);
    const { limiter, prefix = 'default' } = options;
    checkText('prefix', prefix);
    this.#limiter = handleOf(limiter, COUNTERS);
    this.prefix = prefix;
  }

  /**
   * Called by `rateLimit()`, with its options.
   *
   * @throws {@link InvalidInputError} when `windowMs` is less than 1 or more than 366 days
   */
  init(options: Pick<Options, 'windowMs'> & Partial<Options>): void {
    checkObject('the options of rateLimit', options);
    const { windowMs } = options;
    if (typeof windowMs !== 'number' || !(windowMs >= 1 && windowMs <= WINDOW_MAX_MS)) {
      throw new InvalidInputError(`windowMs is ${show(windowMs)}: give milliseconds from 1 to those of 366 days`);
    }
    this.#windowMs = Math.floor(windowMs);
    if (options.skipFailedRequests || options.skipSuccessfulRequests) this.#increments.followRequests();
  }

  /** How often the key was counted in this window; undefined if not at all. */
  get(key: string): ClientRateLimitInfo | undefined {
    const count = this.#count(key, 0);
    return count.value === 0 ? undefined : infoOf(count);
  }

  /**
   * Counts.
   *
   * @throws {@link CounterError} when the key is too long or there is no room for another counter
   */
  increment(key: string): ClientRateLimitInfo {
    const count = this.#count(key, 1);
    this.#increments.add(key, count.endsAtMs);
    return infoOf(count);
  }

  /** Takes an increment back, in the window in which it was counted; nothing once that is over. */
  decrement(key: string): void {
    checkText('the key', key);
    const endsAtMs = this.#increments.take(key);
    if (endsAtMs === undefined) return;
    call(() => native.windowTake(this.#limiter, COUNTERS, this.#values(key), this.#windowMs, endsAtMs));
  }

  /** Resets a key, on every instance. */
  resetKey(key: string): void {
    checkText('the key', key);
    this.#increments.forget(key);
    call(() => native.windowReset(this.#limiter, COUNTERS, this.#values(key), this.#windowMs));
  }

  /** Resets all keys of this prefix, on every instance. */
  resetAll(): Promise<void> {
    this.#increments.forget();
    return settled(() => native.resetAll(this.#limiter, COUNTERS, this.prefix));
  }

  /** Resolves when what was counted is on disk. The limiter stays open. */
  shutdown(): Promise<void> {
    return settled(() => native.flush(this.#limiter));
  }

  #count(key: string, amount: number): native.WindowCount {
    checkText('the key', key);
    return call(() => native.windowAdd(this.#limiter, COUNTERS, this.#values(key), this.#windowMs, amount));
  }

  #values(key: string): string {
    return `${this.prefix}\0${key}`;
  }
}

function infoOf(count: native.WindowCount): ClientRateLimitInfo {
  return { totalHits: count.value, resetTime: new Date(count.endsAtMs) };
}
