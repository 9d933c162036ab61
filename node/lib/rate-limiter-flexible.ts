/**
 * A limiter with the interface of the package rate-limiter-flexible, with counts that hold across restarts and across
 * instances.
 *
 * @packageDocumentation
 */
import { setTimeout as delay } from 'node:timers/promises';

import type { RateLimiterRes } from 'rate-limiter-flexible';

import { brand } from './brand.js';
import { InvalidInputError, call } from './errors.js';
import { LimiterHandle, type LimiterSource } from './limiter-handle.js';
import { native } from './native.js';
import { checkVersion, loaded, type PeerRange } from './peer.js';
import { refuseClones, showAsJson } from './shown.js';
import { checkCount, checkFlag, checkKeys, checkObject, checkText, show } from './validate.js';

/** The versions that the limiter is tested with. */
const PEER: PeerRange = { name: 'rate-limiter-flexible', first: 5, last: 11 };

checkVersion(PEER);
const flexible = loaded(PEER, () => require('rate-limiter-flexible') as typeof import('rate-limiter-flexible'));

/**
 * What the package's own combinations ask of a limiter that it be: the class for limiters that are not the package's, and before
 * there was one, in older versions, the class that all of its limiters extend.
 */
const Base = ((flexible as Partial<typeof flexible>).RateLimiterCompatibleAbstract ??
  Object.getPrototypeOf(flexible.RateLimiterMemory)) as new (options: object) => object;

/** What the counters are named in the store. */
const COUNTERS = 'rate-limiter-flexible';
const BLOCKS = 'rate-limiter-flexible block';

/** What {@link RateLimiterTallymesh} needs to know. Durations are in seconds, from 0.001 to those of 366 days. */
export interface RateLimiterTallymeshOptions {
  /**
   * The limiter, or a promise of it: what is asked before it is open waits for it. Its own limits do not matter here. Who opened it
   * closes it.
   */
  readonly limiter: LimiterSource;
  /** How many points may be consumed in a window; a whole number from 0 to 2^53 - 1. */
  readonly points: number;
  /** How long a window is; 0 for no windows: then points are consumed for good. */
  readonly duration: number;
  /** For how long a key is blocked that asks for more points than there are. Default: 0, not beyond the window. */
  readonly blockDuration?: number;
  /** With `blockDuration`, how many points a key must have consumed to be blocked; at least `points`. Default: over `points`. */
  readonly blockOnConsumed?: number;
  /** Tells this limiter's keys from those of others in the cluster. Default: `'rlflx'`. */
  readonly keyPrefix?: string;
  /** Whether calls are delayed so that they spread over the window. Default: false. */
  readonly execEvenly?: boolean;
  /** With `execEvenly`, the least delay in milliseconds. Default: that of the window, divided by the points. */
  readonly execEvenlyMinDelayMs?: number;
}

/** What the options may be; the type above, for what is checked while the program runs. */
const OPTIONS = Object.keys({
  limiter: true,
  points: true,
  duration: true,
  blockDuration: true,
  blockOnConsumed: true,
  keyPrefix: true,
  execEvenly: true,
  execEvenlyMinDelayMs: true,
} satisfies Record<keyof RateLimiterTallymeshOptions, true>);

/** Options of the package's own limiters that have no meaning here, and why. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  ['insuranceLimiter', 'decisions are made from memory, so no store can fail for which another limiter would stand in'],
  ['inMemoryBlockOnConsumed', 'decisions are made from memory, blocks included: use blockDuration and blockOnConsumed'],
  ['inMemoryBlockDuration', 'decisions are made from memory, blocks included: use blockDuration'],
  ...[
    'storeClient',
    'storeType',
    'dbName',
    'tableName',
    'tableCreated',
    'schemaName',
    'indexKeyPrefix',
    'schema',
    'useRedisPackage',
  ]
    .concat(
      'rejectIfRedisNotReady',
      'rejectIfValkeyNotReady',
      'mongo',
      'customFunction',
      'useRedis3AndLowerPackage',
      'customIncrTtlLuaScript',
      'clearExpiredByTimeout',
      'modelName',
    )
    .concat('disableIndexesCreation', 'dynamoTableOpts', 'ttlSet', 'timeoutMs', 'customFunctionLibName', 'tableOptions')
    .map((option) => [option, 'it is about a store, and the counts are in the limiter: give limiter'] as const),
]);

/** What {@link RateLimiterTallymesh.reward} resolves to. */
export class RateLimiterRewardRes extends flexible.RateLimiterRes {
  /** @internal */
  constructor(
    result: RateLimiterRes,
    /** How many points were given back. */
    readonly rewardedPoints: number,
  ) {
    super(result.remainingPoints, result.msBeforeNext, result.consumedPoints, result.isFirstInDuration);
  }

  static {
    brand(this, 'RateLimiterRewardRes');
    showAsJson(this, 'RateLimiterRewardRes');
  }

  /** What `JSON.stringify`, `toString` and `console.log` show: what every `RateLimiterRes` has, and the points that were given back. */
  override toJSON(): ReturnType<RateLimiterRes['toJSON']> & { rewardedPoints: number } {
    return { ...super.toJSON(), rewardedPoints: this.rewardedPoints };
  }

  override toString(): string {
    return JSON.stringify(this);
  }
}

/**
 * A limiter like `RateLimiterRedis`, without Redis, for rate-limiter-flexible 5 to 11: `consume` and the others resolve to a
 * `RateLimiterRes`, or reject with one when there are no points left.
 *
 * It differs from the limiters of the package itself in what follows.
 *
 * - Windows of `duration` are aligned to UTC, so that all instances agree on them: a key's first window may end early. So a
 *   `customDuration` or another `secDuration` of `set` is refused, for one key as for all. With `duration` 0, a key is forgotten
 *   when it was not changed for `counters.ttl` (24 hours); a block lasts as long as it was set for.
 * - A key's points are never below 0: `reward` gives back at most what the key has consumed as far as this instance knows, and says
 *   how much. Only instances that reward one key at the same moment may give one point back twice: then the key has consumed 0, and
 *   as many of the next points are free (`credit` in `Limiter.counters()`).
 * - While a key is blocked, `penalty` and `reward` change nothing, since what it has consumed is forgotten with the block; `set` and
 *   `delete` end the block. What is said of a blocked key is that it has consumed one point too many.
 * - It waits for nothing that could fail, so it takes no insurance limiter. An option that it does not have is refused by name.
 */
export class RateLimiterTallymesh extends Base {
  /** How many points may be consumed in a window. */
  readonly points: number;
  /** How long a window is, in seconds; 0 for no windows. */
  readonly duration: number;
  /** For how long a key is blocked that asks for more points than there are, in seconds. */
  blockDuration: number;
  /** How many points a key must have consumed to be blocked; 0 for more than `points`. */
  readonly blockOnConsumed: number;
  /** Tells this limiter's keys from those of others. */
  readonly keyPrefix: string;
  /** Whether calls are delayed so that they spread over the window. */
  execEvenly: boolean;
  /** With `execEvenly`, the least delay in milliseconds. */
  readonly execEvenlyMinDelayMs: number;
  readonly #limiter: LimiterHandle;
  readonly #windowMs: number;

  static {
    brand(this, 'RateLimiterTallymesh');
    showAsJson(this, 'RateLimiterTallymesh');
  }

  /** @throws {@link InvalidInputError} when an option cannot be used */
  constructor(options: RateLimiterTallymeshOptions) {
    checkObject('the options of RateLimiterTallymesh', options);
    for (const option of Object.keys(options)) {
      const why = REFUSED.get(option);
      if (why !== undefined) throw new InvalidInputError(`${option} is no option of RateLimiterTallymesh: ${why}`);
    }
    checkKeys('RateLimiterTallymesh', options, OPTIONS);
    const { limiter, points, duration, blockDuration = 0, blockOnConsumed = 0, keyPrefix = 'rlflx' } = options;
    checkCount('points', points);
    if (duration !== 0) checkSeconds('duration', duration);
    if (blockDuration !== 0) checkSeconds('blockDuration', blockDuration);
    if (blockOnConsumed !== 0) checkCount('blockOnConsumed', blockOnConsumed, points);
    if (keyPrefix !== '') checkText('keyPrefix', keyPrefix);
    const evenMs = Math.ceil((duration * 1000) / Math.max(points, 1));
    const { execEvenly = false, execEvenlyMinDelayMs = evenMs } = options;
    checkFlag('execEvenly', execEvenly);
    checkCount('execEvenlyMinDelayMs', execEvenlyMinDelayMs);
    super({ points, duration });
    this.#limiter = new LimiterHandle(limiter, COUNTERS);
    this.#windowMs = Math.round(duration * 1000);
    this.points = points;
    this.duration = duration;
    this.blockDuration = blockDuration;
    this.blockOnConsumed = blockOnConsumed;
    this.keyPrefix = keyPrefix;
    this.execEvenly = execEvenly;
    this.execEvenlyMinDelayMs = execEvenlyMinDelayMs;
    refuseClones(this);
  }

  /** What `JSON.stringify` and `console.log` show: the options in force. */
  toJSON(): object {
    const { points, duration, blockDuration, blockOnConsumed, keyPrefix, execEvenly, execEvenlyMinDelayMs } = this;
    return { points, duration, blockDuration, blockOnConsumed, keyPrefix, execEvenly, execEvenlyMinDelayMs };
  }

  /** How long a window is, in milliseconds; 0 for no windows. */
  get msDuration(): number {
    return this.duration * 1000;
  }

  /** For how long a key is blocked, in milliseconds. */
  get msBlockDuration(): number {
    return this.blockDuration * 1000;
  }

  /** The key with `keyPrefix` before it, as the package's own limiters store it. */
  getKey(key: string | number): string {
    return this.keyPrefix === '' ? String(key) : `${this.keyPrefix}:${key}`;
  }

  /** The key without `keyPrefix` before it. */
  parseKey(rlKey: string): string {
    return this.keyPrefix === '' ? rlKey : rlKey.substring(this.keyPrefix.length + 1);
  }

  /**
   * Consumes points of a key.
   *
   * @returns resolves when there were enough; rejects with a `RateLimiterRes` when not, or when the key is blocked
   */
  async consume(key: string | number, pointsToConsume = 1, options?: object): Promise<RateLimiterRes> {
    checkCount('pointsToConsume', pointsToConsume);
    this.#refuseCustomDuration(options);
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    const blocked = this.#blocked(limiter, values);
    if (blocked !== undefined) throw blocked;
    const result = this.#add(limiter, values, pointsToConsume);
    if (result.consumedPoints > this.points) {
      const blocks = this.blockDuration > 0 && this.#crossed(result.consumedPoints, pointsToConsume);
      throw blocks ? this.#block(limiter, values, this.msBlockDuration, result.consumedPoints) : result;
    }
    return this.execEvenly ? this.#evenly(result) : result;
  }

  /** Takes points away from a key, whether it has them or not. Nothing while the key is blocked. */
  async penalty(key: string | number, points = 1, options?: object): Promise<RateLimiterRes> {
    checkCount('points', points);
    this.#refuseCustomDuration(options);
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    return this.#blocked(limiter, values) ?? this.#add(limiter, values, points);
  }

  /**
   * Gives points back to a key, at most those that were consumed; none while the key is blocked. Resolves to how many those were,
   * beside the usual.
   */
  async reward(key: string | number, points = 1, options?: object): Promise<RateLimiterRewardRes> {
    checkCount('points', points);
    this.#refuseCustomDuration(options);
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    const blocked = this.#blocked(limiter, values);
    if (blocked !== undefined) return new RateLimiterRewardRes(blocked, 0);
    const count = call(() => native.windowAdd(limiter, COUNTERS, values, this.#windowMs, -points));
    return new RateLimiterRewardRes(this.#result(count, 0), count.taken);
  }

  /** How a key is; null if nothing was consumed in this window, and it is not blocked. */
  async get(key: string | number): Promise<RateLimiterRes | null> {
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    return this.#state(limiter, values);
  }

  /**
   * Sets how many points of a key are consumed in this window, and ends its block.
   *
   * @param secDuration - `duration`, or left out: all instances must agree on when the window ends
   */
  async set(key: string | number, points: number, secDuration = this.duration): Promise<RateLimiterRes> {
    checkCount('points', points);
    if (typeof secDuration !== 'number' || (secDuration >= 0 && secDuration !== this.duration)) {
      const message = `secDuration is ${show(secDuration)}: give the limiter's duration of ${this.duration}, or leave it out`;
      throw new InvalidInputError(`${message}, since windows are the same for all keys and instances; see also block()`);
    }
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    return call(() => {
      native.unblock(limiter, BLOCKS, values);
      return this.#result(native.windowSet(limiter, COUNTERS, values, this.#windowMs, points), 0);
    });
  }

  /**
   * Blocks a key on every instance. What it had consumed is forgotten: after the block it starts from 0.
   *
   * @param secDuration - for how long, rounded up to a whole second; over 0, at most 366 days
   */
  async block(key: string | number, secDuration: number): Promise<RateLimiterRes> {
    checkSeconds('secDuration', secDuration);
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    return this.#block(limiter, values, secDuration * 1000, this.points + 1);
  }

  /** Forgets a key, its block included. Resolves to whether there was something to forget. */
  async delete(key: string | number): Promise<boolean> {
    const [values, limiter] = [this.#values(key), await this.#limiter.opened()];
    const existed = this.#state(limiter, values) !== null;
    call(() => {
      native.windowReset(limiter, COUNTERS, values, this.#windowMs);
      native.unblock(limiter, BLOCKS, values);
    });
    return existed;
  }

  #state(limiter: number, values: string): RateLimiterRes | null {
    const result = this.#blocked(limiter, values) ?? this.#add(limiter, values, 0);
    return result.consumedPoints === 0 ? null : result;
  }

  #add(limiter: number, values: string, points: number): RateLimiterRes {
    const count = call(() => native.windowAdd(limiter, COUNTERS, values, this.#windowMs, points));
    return this.#result(count, points);
  }

  /** Whether this is the call that blocks the key: those before it had not consumed enough, and those after it do not block again. */
  #crossed(consumedPoints: number, justConsumed: number): boolean {
    const threshold = this.blockOnConsumed > this.points ? this.blockOnConsumed : this.points + 1;
    return consumedPoints >= threshold && consumedPoints - justConsumed < threshold;
  }

  #block(limiter: number, values: string, durationMs: number, consumedPoints: number): RateLimiterRes {
    return call(() => {
      const blockedMs = native.block(limiter, BLOCKS, values, durationMs);
      native.windowReset(limiter, COUNTERS, values, this.#windowMs);
      return new flexible.RateLimiterRes(0, blockedMs, consumedPoints, false);
    });
  }

  /** How a blocked key is; undefined if it is not blocked. */
  #blocked(limiter: number, values: string): RateLimiterRes | undefined {
    const blockedMs = call(() => native.blockRemaining(limiter, BLOCKS, values));
    const consumed = Math.max(this.points + 1, this.blockOnConsumed);
    return blockedMs > 0 ? new flexible.RateLimiterRes(0, blockedMs, consumed, false) : undefined;
  }

  #result(count: native.WindowCount, changed: number): RateLimiterRes {
    const remaining = Math.max(this.points - count.value, 0);
    return new flexible.RateLimiterRes(remaining, count.endsInMs, count.value, changed > 0 && count.value === changed);
  }

  /** Spreads what is left of the window over what is left of the points, as the package does. */
  async #evenly(result: RateLimiterRes): Promise<RateLimiterRes> {
    if (this.points === 0 || result.msBeforeNext <= 0 || result.isFirstInDuration) return result;
    const even = Math.ceil(result.msBeforeNext / (result.remainingPoints + 2));
    const waitMs = even < this.execEvenlyMinDelayMs ? result.consumedPoints * this.execEvenlyMinDelayMs : even;
    await delay(waitMs);
    const { remainingPoints, msBeforeNext, consumedPoints } = result;
    return new flexible.RateLimiterRes(remainingPoints, Math.max(msBeforeNext - waitMs, 0), consumedPoints, false);
  }

  #values(key: string | number): string {
    const text = typeof key === 'number' ? String(key) : key;
    checkText('the key', text);
    return `${this.keyPrefix}\0${text}`;
  }

  #refuseCustomDuration(options: object | undefined): void {
    const { customDuration } = (options ?? {}) as { customDuration?: unknown };
    if (customDuration === undefined || customDuration === this.duration) return;
    const message = `customDuration is ${show(customDuration)}, but a customDuration cannot be kept`;
    throw new InvalidInputError(
      `${message}, since windows are the same for all keys and instances: make another limiter with it`,
    );
  }
}

function checkSeconds(what: string, value: unknown): void {
  if (typeof value === 'number' && value >= 0.001 && value <= 366 * 86_400) return;
  throw new InvalidInputError(`${what} is ${show(value)}: give seconds from 0.001 to those of 366 days`);
}
