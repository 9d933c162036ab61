import { setImmediate as breathe } from 'node:timers/promises';

import { brand } from './brand.js';
import { CounterListing } from './counter-listing.js';
import { notOpen, type Decision, type Peek, type Receipt } from './decision.js';
import { ClosedError, OpenError, TallymeshError } from './errors.js';
import { LabelScope } from './label-scope.js';
import type { AttachedId, Limiter } from './limiter.js';
import { warnOnce } from './open-warning.js';
import type { Closed, HealthReport, PeerReport, StatusReport } from './reports.js';
import { checkRequest, type Labels, type LimitReset, type Request } from './request.js';
import { refuseClones, showAsJson } from './shown.js';
import type { ToolRateLimiter } from './tool-rate-limiter.js';
import { toolRateLimiter, toolRateLimiters } from './tool-rate-limiters.js';
import type { ToolRateLimiterOptions, ToolRateLimiters, ToolRateLimitersOptions } from './tool-rate-limiters.js';

/**
 * How far a lazy limiter is: `'unopened'` and used by none yet; `'opening'`; `'open'`; `'failed'` to open, until `open()` tries again;
 * `'closed'` for good.
 */
export type LazyLimiterState = 'unopened' | 'opening' | 'open' | 'failed' | 'closed';

/**
 * A limiter that is opened once, when it is first used or by {@link open}: what {@link Limiter.lazy} returns. It has the methods of a
 * {@link Limiter}, and once it is open they do the same, as fast. Before that,
 *
 * - what returns a promise waits until it is open: `acquireDurable`, `flush`, the iteration over `counters()`;
 * - what decides at once denies: `acquire` and `peek` (with the cause `'not-open'`), `canCall` and `tryCall` of tool rate limiters. The
 *   reason says what to do. Nothing is allowed uncounted;
 * - what has no answer that could say so throws an {@link OpenError}: `refund`, `token`, `refundToken`, `reset`, `peers`, `health`,
 *   `status`. `state` tells without opening it.
 *
 * Each of these is a use, so it opens the limiter; `withLabels`, `labels`, making tool rate limiters and their `getStats` are none. If it cannot be opened,
 * every use is told the reason, a warning of the process says it once, and `open()` tries again.
 *
 * It is no promise itself: an `async` function that returned it, or a framework that awaits its providers, would open it. Await
 * `limiter.open()` for a {@link Limiter}.
 *
 * @example
 * ```ts
 * export const limiter = Limiter.lazy('tallymesh.toml'); // opens nothing yet
 *
 * await limiter.open(); // where the program starts: from here on, decisions are made at once
 * ```
 */
export class LazyLimiter implements Omit<Limiter, 'node' | 'id' | symbol>, AsyncDisposable {
  readonly #opener: (scope: LabelScope) => Promise<Limiter>;
  readonly #scope = new LabelScope();
  /** What opens it or has opened it, or failed to. */
  #opening: Promise<Limiter> | undefined;
  #limiter: Limiter | undefined;
  #failure: { readonly error: unknown } | undefined;
  #closing: Promise<Closed> | undefined;

  static {
    brand(this, 'LazyLimiter');
    showAsJson(this, 'LazyLimiter');
  }

  /** @internal */
  constructor(opener: (scope: LabelScope) => Promise<Limiter>) {
    this.#opener = opener;
    refuseClones(this);
  }

  /** How far it is. Asking does not open it. */
  get state(): LazyLimiterState {
    if (this.#closing !== undefined) return 'closed';
    if (this.#limiter !== undefined) return isClosed(this.#limiter) ? 'closed' : 'open';
    if (this.#failure !== undefined) return 'failed';
    return this.#opening === undefined ? 'unopened' : 'opening';
  }

  /** The node's name; undefined as long as it is not open. */
  get node(): string | undefined {
    return this.#limiter?.node;
  }

  /** The limiter's number in this process, for {@link Limiter.attach}; undefined as long as it is not open. */
  get id(): AttachedId | undefined {
    return this.#limiter?.id;
  }

  /** Where it listens; undefined if it does not, and as long as it is not open. */
  get address(): string | undefined {
    return this.#limiter?.address;
  }

  /** Where the database was put, if it was found damaged; undefined as long as it is not open. */
  get setAside(): string | undefined {
    return this.#limiter?.setAside;
  }

  /** The slot of this process; undefined without `node.slots`, and as long as it is not open. */
  get slot(): number | undefined {
    return this.#limiter?.slot;
  }

  /**
   * Opens it, or waits for who does. If it could not be opened before, this tries again. A rejection that is not waited for does not end
   * the process.
   *
   * @throws {@link ConfigError}, {@link OpenError} as {@link Limiter.open}
   * @throws {@link ClosedError} when it is closed
   */
  open(): Promise<Limiter> {
    if (this.#closing !== undefined) return handled(Promise.reject(closed()));
    if (this.#opening === undefined || this.#failure !== undefined) return this.#open();
    return this.#opening;
  }

  /**
   * Writes, says goodbye and stops, as {@link Limiter.close}. Before it is open, this opens nothing; what waits for it to open gets its
   * answer first. It stays closed.
   *
   * @throws {@link DurabilityError} when the disk has failed
   */
  close(): Promise<Closed> {
    this.#scope.end();
    this.#closing ??= this.#limiter?.close() ?? this.#closeOpening();
    return this.#closing;
  }

  /** {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** {@link Limiter.withLabels}; also before it is open, which it does not wait for. */
  withLabels<Result>(labels: Labels, fn: () => Result): Result {
    return this.#scope.run(labels, fn);
  }

  /** {@link Limiter.labels}. */
  labels(): Labels {
    return this.#scope.labels();
  }

  /** {@link Limiter.acquire}; denied with the cause `'not-open'` as long as it is not open. */
  acquire(request: Request): Decision {
    if (this.#limiter !== undefined) return this.#limiter.acquire(request);
    checkRequest(request);
    return notOpen.decision(this.#whyNotOpen());
  }

  /** {@link Limiter.acquireDurable}; waits until it is open. */
  async acquireDurable(request: Request): Promise<Decision> {
    if (this.#limiter !== undefined) return this.#limiter.acquireDurable(request);
    checkRequest(request);
    // As it is now, whatever becomes of it and of the labels while this waits.
    const asked = { ...this.#scope.added(request) };
    return (await this.opened()).acquireDurable(asked);
  }

  /** {@link Limiter.peek}; denied with the cause `'not-open'` as long as it is not open. */
  peek(request: Request): Peek {
    if (this.#limiter !== undefined) return this.#limiter.peek(request);
    checkRequest(request);
    return notOpen.peek(this.#whyNotOpen());
  }

  /** {@link Limiter.cap}; undefined as long as it is not open. */
  cap(request: Request): number | undefined {
    if (this.#limiter !== undefined) return this.#limiter.cap(request);
    checkRequest(request);
    return undefined;
  }

  /**
   * {@link Limiter.refund}.
   *
   * @throws {@link OpenError} as long as it is not open: then it has given out no receipts
   */
  refund(receipt: Receipt): void {
    this.now().refund(receipt);
  }

  /**
   * {@link Limiter.token}.
   *
   * @throws {@link OpenError} as long as it is not open
   */
  token(receipt: Receipt): string {
    return this.now().token(receipt);
  }

  /**
   * {@link Limiter.refundToken}.
   *
   * @throws {@link OpenError} as long as it is not open
   */
  refundToken(token: string): void {
    this.now().refundToken(token);
  }

  /**
   * {@link Limiter.reset}.
   *
   * @throws {@link OpenError} as long as it is not open: nothing is reset then, here or elsewhere
   */
  reset(what: Labels | LimitReset): number {
    return this.now().reset(what);
  }

  /** {@link Limiter.toolRateLimiter}; also before it is open. Until then every call is denied with the reason. */
  toolRateLimiter(options?: ToolRateLimiterOptions): ToolRateLimiter {
    return toolRateLimiter(this, options);
  }

  /** {@link Limiter.toolRateLimiters}; also before it is open. Until then every call is denied with the reason. */
  toolRateLimiters(options?: ToolRateLimitersOptions): ToolRateLimiters {
    return toolRateLimiters(this, options);
  }

  /** {@link Limiter.counters}; the iteration waits until it is open. */
  counters(): CounterListing {
    return this.#limiter?.counters() ?? new CounterListing(undefined, async () => (await this.opened()).counters());
  }

  /**
   * {@link Limiter.peers}.
   *
   * @throws {@link OpenError} as long as it is not open
   */
  peers(): PeerReport[] {
    return this.now().peers();
  }

  /**
   * {@link Limiter.health}.
   *
   * @throws {@link OpenError} as long as it is not open
   */
  health(): HealthReport {
    return this.now().health();
  }

  /**
   * {@link Limiter.status}.
   *
   * @throws {@link OpenError} as long as it is not open
   */
  status(): StatusReport {
    return this.now().status();
  }

  /** {@link Limiter.ready}; waits until it is open. */
  async ready(): Promise<void> {
    await (await this.opened()).ready();
  }

  /** {@link Limiter.setPeers}; waits until it is open. */
  async setPeers(peers: readonly string[]): Promise<void> {
    await (await this.opened()).setPeers(peers);
  }

  /** {@link Limiter.setKeys}; waits until it is open. */
  async setKeys(keys: readonly string[]): Promise<void> {
    await (await this.opened()).setKeys(keys);
  }

  /** {@link Limiter.setMembers}; waits until it is open. */
  async setMembers(members: readonly string[]): Promise<void> {
    await (await this.opened()).setMembers(members);
  }

  /** {@link Limiter.setNodeKey}; waits until it is open. */
  async setNodeKey(key: string): Promise<void> {
    await (await this.opened()).setNodeKey(key);
  }

  /** {@link Limiter.flush}; waits until it is open. */
  async flush(): Promise<void> {
    await (await this.opened()).flush();
  }

  /** What `JSON.stringify` and `console.log` show: the state, the node's name once it is open, and why it could not be opened. */
  toJSON(): object {
    const { state, node } = this;
    return { state, ...(node !== undefined && { node }), ...(state === 'failed' && { reason: this.#failureText() }) };
  }

  /**
   * The limiter, if it is open; a use.
   *
   * @throws {@link OpenError} when it is not open, and why, or {@link ClosedError}
   * @internal
   */
  now(): Limiter {
    if (this.#limiter !== undefined) return this.#limiter;
    throw new OpenError(this.#whyNotOpen());
  }

  /**
   * The limiter, once it is open; a use. Rejects with what {@link open} rejected with, until that is called again.
   *
   * @internal
   */
  async opened(): Promise<Limiter> {
    if (this.#closing !== undefined) throw closed();
    return this.#opening ?? this.#open();
  }

  /** Why a use is denied, which opens the limiter if it is the first one. */
  #whyNotOpen(): string {
    if (this.#closing !== undefined) throw closed();
    if (this.#failure !== undefined) {
      return `the limiter could not be opened: ${this.#failureText()}; limiter.open() tries again`;
    }
    if (this.#opening === undefined) void this.#open();
    return 'the limiter is not open yet: await limiter.open() before the first call';
  }

  #failureText(): string {
    const error = this.#failure?.error;
    return error instanceof TallymeshError ? error.message : String(error);
  }

  async #closeOpening(): Promise<Closed> {
    // What could not be opened needs no end.
    const limiter = await this.#opening?.catch(() => undefined);
    // What waited for it gets its turn first, however many promises it goes through.
    if (limiter !== undefined) await breathe();
    return (await limiter?.close()) ?? { unconfirmed: 0 };
  }

  #open(): Promise<Limiter> {
    this.#failure = undefined;
    const opening = this.#opener(this.#scope).then(
      (limiter) => {
        // Once it is to be closed, only what waited for it may still use it.
        if (this.#closing === undefined) this.#limiter = limiter;
        return limiter;
      },
      (error: unknown) => {
        this.#failure = { error };
        warnOnce(error, `the limiter could not be opened: ${this.#failureText()}`);
        throw error;
      },
    );
    this.#opening = handled(opening);
    return opening;
  }
}

/** The promise, whose rejection is known of: it ends no process for want of one who waits for it. */
function handled<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => undefined);
  return promise;
}

function closed(): ClosedError {
  return new ClosedError('the limiter is closed; make another one, or close it after its last use');
}

function isClosed(limiter: Limiter): boolean {
  try {
    limiter.peers();
    return false;
  } catch (error) {
    return error instanceof ClosedError;
  }
}
