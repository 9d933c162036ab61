/**
 * The store of the package express-rate-limit, with counts that hold across restarts and across instances.
 *
 * @packageDocumentation
 */
import type { ClientRateLimitInfo, Options, Store } from 'express-rate-limit';

import { InvalidInputError, call, settled } from './errors.js';
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
  init(options: Pick<Options, 'windowMs'>): void {
    checkObject('the options of rateLimit', options);
    const { windowMs } = options;
    if (typeof windowMs !== 'number' || !(windowMs >= 1 && windowMs <= WINDOW_MAX_MS)) {
      throw new InvalidInputError(`windowMs is ${show(windowMs)}: give milliseconds from 1 to those of 366 days`);
    }
    this.#windowMs = Math.floor(windowMs);
  }

  /** How often the key was counted in this window; undefined if not at all. */
  get(key: string): ClientRateLimitInfo | undefined {
    const info = this.#add(key, 0);
    return info.totalHits === 0 ? undefined : info;
  }

  /**
   * Counts.
   *
   * @throws {@link CounterError} when the key is too long or there is no room for another counter
   */
  increment(key: string): ClientRateLimitInfo {
    return this.#add(key, 1);
  }

  /** Takes one back. */
  decrement(key: string): void {
    this.#add(key, -1);
  }

  /** Resets a key, on every instance. */
  resetKey(key: string): void {
    checkText('the key', key);
    call(() => native.windowReset(this.#limiter, COUNTERS, this.#values(key), this.#windowMs));
  }

  /** Resets all keys of this prefix, on every instance. */
  resetAll(): Promise<void> {
    return settled(() => native.resetAll(this.#limiter, COUNTERS, this.prefix));
  }

  /** Resolves when what was counted is on disk. The limiter stays open. */
  shutdown(): Promise<void> {
    return settled(() => native.flush(this.#limiter));
  }

  #add(key: string, amount: number): ClientRateLimitInfo {
    checkText('the key', key);
    const count = call(() => native.windowAdd(this.#limiter, COUNTERS, this.#values(key), this.#windowMs, amount));
    return { totalHits: count.value, resetTime: new Date(count.endsAtMs) };
  }

  #values(key: string): string {
    return `${this.prefix}\0${key}`;
  }
}
