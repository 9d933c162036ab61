/**
 * The store of the package express-rate-limit, with counts that hold across restarts and across instances.
 *
 * @packageDocumentation
 */
import type { ClientRateLimitInfo, Options, Store } from 'express-rate-limit';

import { brand } from './brand.js';
import { ClosedError, CounterError, InvalidInputError, call, settled } from './errors.js';
import { Increments } from './increments.js';
import { LimiterHandle, type LimiterSource } from './limiter-handle.js';
import { native } from './native.js';
import { checkVersion, type PeerRange } from './peer.js';
import { refuseClones, showAsJson } from './shown.js';
import { checkKeys, checkObject, checkText, show } from './validate.js';

/** The versions that the store is tested with. */
const PEER: PeerRange = { name: 'express-rate-limit', first: 7, last: 8 };
/** What the counters are named in the store. */
const COUNTERS = 'express-rate-limit';
const WINDOW_MAX_MS = 366 * 86_400_000;

/** What {@link TallymeshStore} needs to know. */
export interface TallymeshStoreOptions {
  /**
   * The limiter, or a promise of it: what is asked before it is open waits for it. Its own limits do not matter here. Who opened it
   * closes it.
   */
  readonly limiter: LimiterSource;
  /**
   * Tells this store's keys from those of others in the cluster: give each `rateLimit()` its own, and the same one on every
   * instance. 1 to 8,192 characters. Default: `'default'`.
   */
  readonly prefix?: string;
}

/** What the options may be; the type above, for what is checked while the program runs. */
const OPTIONS = Object.keys({ limiter: true, prefix: true } satisfies Record<keyof TallymeshStoreOptions, true>);

/**
 * A store for `rateLimit({ store })`, of express-rate-limit 7 and 8.
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
  readonly #limiter: LimiterHandle;
  readonly #increments = new Increments();
  #windowMs: number | undefined;

  static {
    brand(this, 'TallymeshStore');
    showAsJson(this, 'TallymeshStore');
  }

  /**
   * @throws {@link InvalidInputError} when an option cannot be used
   * @throws {@link PeerPackageError} when the express-rate-limit that is installed is older than 7 or newer than 8
   */
  constructor(options: TallymeshStoreOptions) {
    checkVersion(PEER);
    checkObject('the options of TallymeshStore', options);
    checkKeys('TallymeshStore', options, OPTIONS);
    const { limiter, prefix = 'default' } = options;
    checkText('prefix', prefix);
    this.#limiter = new LimiterHandle(limiter, COUNTERS);
    this.prefix = prefix;
    refuseClones(this);
  }

  /**
   * Called by `rateLimit()`, with its options.
   *
   * @throws {@link InvalidInputError} when `windowMs` is less than 1 or more than 366 days, or when another `rateLimit()` with
   * another `windowMs` has this store already
   */
  init(options: Pick<Options, 'windowMs'> & Partial<Options>): void {
    checkObject('the options of rateLimit', options);
    const { windowMs } = options;
    if (typeof windowMs !== 'number' || !(windowMs >= 1 && windowMs <= WINDOW_MAX_MS)) {
      throw new InvalidInputError(`windowMs is ${show(windowMs)}: give milliseconds from 1 to those of 366 days`);
    }
    const windowMsBefore = this.#windowMs;
    if (windowMsBefore !== undefined && windowMsBefore !== Math.floor(windowMs)) {
      const message = `windowMs is ${windowMs}, and another rateLimit() has this store with ${windowMsBefore}`;
      throw new InvalidInputError(`${message}: make a store for each, with a prefix of its own`);
    }
    this.#windowMs = Math.floor(windowMs);
    if (options.skipFailedRequests || options.skipSuccessfulRequests) this.#increments.followRequests();
  }

  /** How often the key was counted in this window; undefined if not at all. */
  async get(key: string): Promise<ClientRateLimitInfo | undefined> {
    const count = await this.#count(key, 0);
    return count.value === 0 ? undefined : infoOf(count);
  }

  /**
   * Counts.
   *
   * @throws {@link CounterError} when the key is too long or there is no room for another counter
   * @throws {@link ClosedError} when the limiter is closed
   */
  increment(key: string): Promise<ClientRateLimitInfo> {
    // Before anything is waited for: what comes after is not seen as the request's.
    const increment = this.#increments.begin(key);
    return this.#count(key, 1).then((count) => {
      this.#increments.counted(increment, count.endsAtMs);
      return infoOf(count);
    });
  }

  /**
   * Takes an increment back, in the window in which it was counted; nothing once that is over. `rateLimit()` calls it after the
   * response, where nothing takes an error: in a limiter that is closed by then, the hit stays.
   */
  async decrement(key: string): Promise<void> {
    checkText('the key', key);
    const endsAtMs = this.#increments.take(key);
    if (endsAtMs === undefined) return;
    try {
      call(() => native.windowTake(this.#limiter.now(), COUNTERS, this.#values(key), this.#length(), endsAtMs));
    } catch (error) {
      if (!(error instanceof ClosedError || error instanceof CounterError)) throw error;
    }
  }

  /** Resets a key, on every instance. */
  async resetKey(key: string): Promise<void> {
    checkText('the key', key);
    const limiter = await this.#limiter.opened();
    this.#increments.forget(key);
    call(() => native.windowReset(limiter, COUNTERS, this.#values(key), this.#length()));
  }

  /** Resets all keys of this prefix, on every instance. */
  async resetAll(): Promise<void> {
    const limiter = await this.#limiter.opened();
    this.#increments.forget();
    await settled(() => native.resetAll(limiter, COUNTERS, this.prefix));
  }

  /** Resolves when what was counted is on disk. The limiter stays open. */
  async shutdown(): Promise<void> {
    const limiter = await this.#limiter.opened();
    await settled(() => native.flush(limiter));
  }

  /** What `JSON.stringify` and `console.log` show: the prefix, and `windowMs` once it is known. */
  toJSON(): object {
    const { localKeys, prefix } = this;
    return { localKeys, prefix, windowMs: this.#windowMs };
  }

  async #count(key: string, amount: number): Promise<native.WindowCount> {
    checkText('the key', key);
    const [values, length] = [this.#values(key), this.#length()];
    const limiter = await this.#limiter.opened();
    return call(() => native.windowAdd(limiter, COUNTERS, values, length, amount));
  }

  #length(): number {
    if (this.#windowMs !== undefined) return this.#windowMs;
    throw new InvalidInputError('the store does not know windowMs yet: give it to rateLimit(), which calls init');
  }

  #values(key: string): string {
    return `${this.prefix}\0${key}`;
  }
}

function infoOf(count: native.WindowCount): ClientRateLimitInfo {
  return { totalHits: count.value, resetTime: new Date(count.endsAtMs) };
}
