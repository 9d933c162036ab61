/**
 * A limiter with the interface of the package rate-limiter-flexible, with counts that hold across restarts and across
 * instances.
 *
 * @packageDocumentation
 */
import { setTimeout as delay } from 'node:timers/promises';

import { RateLimiterCompatibleAbstract, RateLimiterRes } from 'rate-limiter-flexible';

import { InvalidInputError, call } from './errors.js';
import { handleOf, type Limiter } from './limiter.js';
import { native } from './native.js';
import { checkCount, checkObject, checkText, show } from './validate.js';

/** What the counters are named in the store. */
const COUNTERS = 'rate-limiter-flexible';
const BLOCKS = 'rate-limiter-flexible block';

/** What {@link RateLimiterTallymesh} needs to know. Durations are in seconds, from 0.001 to those of 366 days. */
export interface RateLimiterTallymeshOptions {
  /** The open limiter; its own limits do not matter here. Who opened it closes it. */
  readonly limiter: Limiter;
  /** How many points may be consumed in a window; a whole number from 0 to 2^53 - 1. */
  readonly points: number;
  /** How long a window is; 0 for no windows: then points are consumed for good. */
  readonly duration: number;
  /** For how long a key is blocked that asks for more points than there are. Default: 0, not beyond the window. */
  readonly blockDuration?: number;
  /** Tells this limiter's keys from those of others in the cluster. Default: `'rlflx'`. */
  readonly keyPrefix?: string;
  /** Whether calls are delayed so that they spread over the window. Default: false. */
  readonly execEvenly?: boolean;
  /** With `execEvenly`, the least delay in milliseconds. Default: that of the window, divided by the points. */
  readonly execEvenlyMinDelayMs?: number;
}

/**
 * A limiter like `RateLimiterRedis`, without Redis: `consume` and the others resolve to a `RateLimiterRes`, or reject with one
 * when there are no points left.
 *
 * It differs from the limiters of the package itself in what follows. Windows of `duration` are aligned to UTC, so that all
 * instances agree on them: a key's first window may end early. With `duration` 0, a key is forgotten when it was not changed
 * for `counters.ttl` (24 hours); a block lasts as long as it was set for. A key's points are never below 0. It waits for nothing
 * that could fail, so it takes no insurance limiter.
 */
export class RateLimiterTallymesh extends RateLimiterCompatibleAbstract {
  /** How many points may be consumed in a window. */
  readonly points: number;
  /** How long a window is, in seconds; 0 for no windows. */
  readonly duration: number;
  /** For how long a key is blocked that asks for more points than there are, in seconds. */
  override blockDuration: number;
  /** Tells this limiter's keys from those of others. */
  override readonly keyPrefix: string;
  /** Whether calls are delayed so that they spread over the window. */
  override execEvenly: boolean;
  /** With `execEvenly`, the least delay in milliseconds. */
  readonly execEvenlyMinDelayMs: number;
  readonly #limiter: number;
  readonly #windowMs: number;

  /** @throws {@link InvalidInputError} when an option cannot be used */
  constructor(options: RateLimiterTallymeshOptions) {
    super();
    checkObject('the options of RateLimiterTallymesh', options);
    const { limiter, points, duration, blockDuration = 0, keyPrefix = 'rlflx' } = options;
    checkCount('points', points);
    if (duration !== 0) checkSeconds('duration', duration);
    if (blockDuration !== 0) checkSeconds('blockDuration', blockDuration);
    if (keyPrefix !== '') checkText('keyPrefix', keyPrefix);
    const evenMs = Math.ceil((duration * 1000) / Math.max(points, 1));
    const { execEvenly = false, execEvenlyMinDelayMs = evenMs } = options;
    checkCount('execEvenlyMinDelayMs', execEvenlyMinDelayMs);
    this.#limiter = handleOf(limiter, COUNTERS);
    this.#windowMs = Math.round(duration * 1000);
    this.points = points;
    this.duration = duration;
    this.blockDuration = blockDuration;
    this.keyPrefix = keyPrefix;
    this.execEvenly = execEvenly;
    this.execEvenlyMinDelayMs = execEvenlyMinDelayMs;
  }

  /**
   * Consumes points of a key.
   *
   * @returns resolves when there were enough; rejects with a `RateLimiterRes` when not, or when the key is blocked
   */
  override async consume(key: string | number, pointsToConsume = 1, options?: object): Promise<RateLimiterRes> {
    checkCount('pointsToConsume', pointsToConsume);
    refuseCustomDuration(options);
    const values = this.#values(key);
    const blockedMs = call(() => native.blockRemaining(this.#limiter, BLOCKS, values));
    if (blockedMs > 0) throw this.#blocked(blockedMs);
    const result = this.#add(values, pointsToConsume);
    if (result.consumedPoints > this.points) {
      if (this.blockDuration > 0) throw this.#block(values, this.blockDuration * 1000, result.consumedPoints);
      throw result;
    }
    return this.execEvenly ? this.#evenly(result) : result;
  }

  /** Takes points away from a key, whether it has them or not. */
  override async penalty(key: string | number, points = 1, options?: object): Promise<RateLimiterRes> {
    checkCount('points', points);
    refuseCustomDuration(options);
    return this.#add(this.#values(key), points);
  }

  /** Gives points back to a key, at most those that were consumed. */
  override async reward(key: string | number, points = 1, options?: object): Promise<RateLimiterRes> {
    checkCount('points', points);
    refuseCustomDuration(options);
    return this.#add(this.#values(key), -points);
  }

  /** How a key is; null if nothing was consumed in this window, and it is not blocked. */
  override async get(key: string | number): Promise<RateLimiterRes | null> {
    const values = this.#values(key);
    const blockedMs = call(() => native.blockRemaining(this.#limiter, BLOCKS, values));
    if (blockedMs > 0) return this.#blocked(blockedMs);
    const result = this.#add(values, 0);
    return result.consumedPoints === 0 ? null : result;
  }

  /**
   * Sets how many points of a key are consumed in this window.
   *
   * @param secDuration - `duration`, or left out: all instances must agree on when the window ends
   */
  override async set(key: string | number, points: number, secDuration = this.duration): Promise<RateLimiterRes> {
    checkCount('points', points);
    if (secDuration >= 0 && secDuration !== this.duration) {
      const message = `secDuration is ${secDuration}: give the limiter's duration of ${this.duration}, or leave it out`;
      throw new InvalidInputError(`${message}, since windows are the same for all keys and instances; see also block()`);
    }
    const values = this.#values(key);
    return this.#result(
      call(() => native.windowSet(this.#limiter, COUNTERS, values, this.#windowMs, points)),
      0,
    );
  }

  /**
   * Blocks a key on every instance. What it had consumed is forgotten: after the block it starts from 0.
   *
   * @param secDuration - for how long, rounded up to a whole second; over 0, at most 366 days
   */
  override async block(key: string | number, secDuration: number): Promise<RateLimiterRes> {
    checkSeconds('secDuration', secDuration);
    return this.#block(this.#values(key), secDuration * 1000, this.points + 1);
  }

  /** Forgets a key, its block included. Resolves to whether there was something to forget. */
  override async delete(key: string | number): Promise<boolean> {
    const existed = (await this.get(key)) !== null;
    const values = this.#values(key);
    call(() => {
      native.windowReset(this.#limiter, COUNTERS, values, this.#windowMs);
      native.unblock(this.#limiter, BLOCKS, values);
    });
    return existed;
  }

  #add(values: string, points: number): RateLimiterRes {
    const count = call(() => native.windowAdd(this.#limiter, COUNTERS, values, this.#windowMs, points));
    return this.#result(count, points);
  }

  #block(values: string, durationMs: number, consumedPoints: number): RateLimiterRes {
    return call(() => {
      const blockedMs = native.block(this.#limiter, BLOCKS, values, durationMs);
      native.windowReset(this.#limiter, COUNTERS, values, this.#windowMs);
      return new RateLimiterRes(0, blockedMs, consumedPoints, false);
    });
  }

  #blocked(blockedMs: number): RateLimiterRes {
    return new RateLimiterRes(0, blockedMs, this.points + 1, false);
  }

  #result(count: native.WindowCount, changed: number): RateLimiterRes {
    const remaining = Math.max(this.points - count.value, 0);
    return new RateLimiterRes(remaining, count.endsInMs, count.value, changed > 0 && count.value === changed);
  }

  /** Spreads what is left of the window over what is left of the points, as the package does. */
  async #evenly(result: RateLimiterRes): Promise<RateLimiterRes> {
    if (this.points === 0 || result.msBeforeNext <= 0 || result.isFirstInDuration) return result;
    const even = Math.ceil(result.msBeforeNext / (result.remainingPoints + 2));
    const waitMs = even < this.execEvenlyMinDelayMs ? result.consumedPoints * this.execEvenlyMinDelayMs : even;
    await delay(waitMs);
    const { remainingPoints, msBeforeNext, consumedPoints } = result;
    return new RateLimiterRes(remainingPoints, Math.max(msBeforeNext - waitMs, 0), consumedPoints, false);
  }

  #values(key: string | number): string {
    const text = typeof key === 'number' ? String(key) : key;
    checkText('the key', text);
    return `${this.keyPrefix}\0${text}`;
  }
}

function checkSeconds(what: string, value: unknown): void {
  if (typeof value === 'number' && value >= 0.001 && value <= 366 * 86_400) return;
  throw new InvalidInputError(`${what} is ${show(value)}: give seconds from 0.001 to those of 366 days`);
}

function refuseCustomDuration(options: object | undefined): void {
  if (options === undefined || !('customDuration' in options) || options.customDuration === undefined) return;
  const message = 'customDuration cannot be kept, since windows are the same for all keys and instances';
  throw new InvalidInputError(`${message}: make another limiter with that duration`);
}
