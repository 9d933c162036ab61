import { brand } from './brand.js';
import type { Config } from './config.js';
import { inConfig, settingsJson } from './config-check.js';
import { CounterListing } from './counter-listing.js';
import { Decision, Peek, type LimitInForce, type Receipt } from './decision.js';
import { limiterClosed, limiterOpened } from './end.js';
import { ClosedError, DurabilityError, InvalidInputError, asTallymeshError, call, settled } from './errors.js';
import { LabelScope } from './label-scope.js';
import { LazyLimiter } from './lazy-limiter.js';
import { explained, isLimitReset, joinLabels, type Labels, type LimitReset, type Request } from './request.js';
import { native } from './native.js';
import { Operator } from './operator.js';
import type { Closed, HealthReport, PeerReport, StatusReport } from './reports.js';
import { counterPage, explain, resetLimit, resetSelected } from './selection.js';
import type { CounterPage, CounterQuery, CounterSelection, ExplainQuery, Explanation } from './selection.js';
import type { ToolRateLimiter } from './tool-rate-limiter.js';
import { toolRateLimiter, toolRateLimiters } from './tool-rate-limiters.js';
import type { ToolRateLimiterOptions, ToolRateLimiters, ToolRateLimitersOptions } from './tool-rate-limiters.js';
import { fileNamesReplaced } from './settings.js';
import { refuseClones } from './shown.js';
import { checkCount, checkText, secretIn, secretsIn, show, textsIn } from './validate.js';

/** The number of an open limiter in this process, for {@link Limiter.attach}. */
export type AttachedId = number;

/** Asks a limiter for its number, also one that another copy of this package made. */
const HANDLE = Symbol.for('tallymesh.handle');
/** A limiter's numbers are those of the native half that this package has loaded. */
const LIBRARY = native.library();

/**
 * Decides whether requests may go ahead, under limits that hold across instances and restarts.
 *
 * Decisions are synchronous: they are made from memory, in about a microsecond, and never wait for the disk or a peer.
 *
 * @example
 * ```ts
 * await using limiter = await Limiter.open('tallymesh.toml');
 * const { remaining } = limiter.acquire({ session: 's42', tool: 'book_service', user: 'u7' }).orThrow();
 * ```
 */
export class Limiter implements AsyncDisposable {
  /** The node's name. */
  readonly node: string;
  /** The limiter's number in this process, to use it in a worker thread: see {@link attach}. */
  readonly id: AttachedId;
  /** Where it listens, with the real port if the config said port 0; undefined if it does not. */
  readonly address: string | undefined;
  /** Where the database was put, if it was found damaged when the limiter was opened. */
  readonly setAside: string | undefined;
  /** The slot of this process; `undefined` without `node.slots`. */
  readonly slot: number | undefined;
  readonly #handle: number;
  readonly #limits: readonly LimitInForce[];
  readonly #scope: LabelScope;
  /** What this handle's receipts begin with; the number of the admission follows, which both halves count. */
  readonly #receipts: string;
  #admissions = 0;
  #closing: Promise<Closed> | undefined;

  private constructor(opened: Awaited<ReturnType<typeof native.openFile>>, scope = new LabelScope()) {
    this.#handle = opened.handle;
    this.#scope = scope;
    this.#limits = opened.limits;
    this.#receipts = opened.receiptPrefix;
    this.id = opened.id;
    this.node = opened.node;
    this.address = opened.address;
    this.slot = opened.slot;
    this.setAside = opened.setAside;
    refuseClones(this);
    limiterOpened();
  }

  static {
    brand(this, 'Limiter');
  }

  /**
   * Recovers what the data directory holds, joins the peers, and puts the limits in force. Waits up to `gossip.syncTimeout`
   * for every peer of the config to answer, and for what it has.
   *
   * @param config - the settings, or the path of a TOML file. Variables of the environment override what is in a file
   * (`TALLYMESH_GOSSIP_INTERVAL` is `gossip.interval`), and never an object
   * @throws {@link InvalidInputError} when the config is neither an object nor a path
   * @throws {@link ConfigError} when the settings cannot be used: each message names the setting, its value and what is allowed
   * @throws {@link OpenError} when the directory is held by another process or open in this one already, or cannot be written, or the
   * address is taken
   */
  static async open(config: Config | string): Promise<Limiter> {
    return Limiter.#opener(config)(new LabelScope());
  }

  /**
   * A limiter that is opened when it is first used, or by its `open`: for modules that cannot wait when they load, as in CommonJS, for
   * providers of a framework, and where a file that is loaded may never need it. See {@link LazyLimiter}.
   *
   * @param config - as for {@link open}; an object is copied
   * @example
   * ```ts
   * export const limiter = Limiter.lazy('tallymesh.toml');
   * ```
   * @throws {@link InvalidInputError} when the config is neither an object nor a path
   * @throws {@link ConfigError} when the object has a wrong shape, such as a number for a text. Values are checked when it is opened
   */
  static lazy(config: Config | string): LazyLimiter {
    return new LazyLimiter(Limiter.#opener(config));
  }

  /** Opens, as often as it is called, what has the right shape. */
  static #opener(config: Config | string): (scope: LabelScope) => Promise<Limiter> {
    if (typeof config === 'string') {
      checkText('the path of the config', config);
      return async (scope) => new Limiter(await settled(() => native.openFile(config)), scope);
    }
    const json = settingsJson(config);
    return async (scope) => {
      try {
        return new Limiter(await native.openSettings(json), scope);
      } catch (thrown) {
        throw inConfig(asTallymeshError(thrown), json);
      }
    };
  }

  /**
   * The same limiter in another thread of this process: hand its `id` to a worker, which attaches to it. A data directory
   * takes one limiter only, so this is how workers share one. When it is closed, by whichever thread, it is closed for all;
   * a limiter that was opened in a worker is closed when no thread that uses it is left.
   *
   * @throws {@link ClosedError} when no open limiter has this id
   */
  static attach(id: AttachedId): Limiter {
    checkCount('the id of a limiter', id);
    return new Limiter(call(() => native.attach(id)));
  }

  /**
   * Runs a function whose calls of this limiter get these labels, with whatever it awaits: so a middleware says once whose request it
   * is, and a tool in another module asks for `{ tool }` only.
   *
   * {@link acquire}, {@link acquireDurable} and {@link peek} get all of them; {@link toolRateLimiter} and the makers of
   * {@link toolRateLimiters} get the `session`, if they are given none. A label of the call itself wins. In a scope within another, both
   * sets of labels apply, and the inner one wins. {@link reset} gets none: it resets what it is told. A timer keeps the labels of where
   * it began; a listener of an event has those of where that is emitted.
   *
   * @param labels - copied; `cost` is no label
   * @returns what `fn` returns; what it throws is thrown
   * @example
   * ```ts
   * app.use((request, _, next) => limiter.withLabels({ session: request.sessionID }, next));
   * ```
   * @throws {@link InvalidInputError} when a label cannot be used, or `fn` is no function
   */
  withLabels<Result>(labels: Labels, fn: () => Result): Result {
    return this.#scope.run(labels, fn);
  }

  /** The labels that {@link withLabels} has put in force here; none outside of it. */
  labels(): Labels {
    return this.#scope.labels();
  }

  /**
   * Admits a request and charges every limit that matches it, or denies it and charges none.
   *
   * Instances that admit at one moment may together go past a limit, by what they admit while word travels; each by itself
   * never does. A request that lacks a label of a limit's `per` is denied, unless the limit says otherwise
   * (`whenLabelMissing`).
   *
   * @throws {@link InvalidInputError} when a label or the cost cannot be used
   */
  acquire(request: Request): Decision {
    const answer = this.#ask(native.acquire, request);
    if (answer < 0) {
      return new Decision(-answer, this.#limits, native.lastRemaining(), native.lastRetryAfterMs(), this.#receipts, 0);
    }
    return new Decision(0, this.#limits, answer, -1, this.#receipts, this.#admissions++);
  }

  /**
   * Like {@link acquire}, and resolves only when the charge survives a crash and a loss of power. Callers at one time share
   * one write.
   *
   * @throws {@link DurabilityError} when the disk has failed; nothing is charged then. To go on without the disk, call
   * {@link acquire}
   * @throws {@link ClosedError} when the limiter is closed; nothing is charged then
   */
  async acquireDurable(request: Request): Promise<Decision> {
    const decision = this.acquire(request);
    if (!decision.allowed) return decision;
    try {
      await this.flush();
    } catch (thrown) {
      if (thrown instanceof DurabilityError && decision.receipt !== undefined) this.refund(decision.receipt);
      if (!(thrown instanceof ClosedError)) throw thrown;
      // It was admitted before the limiter was closed, so the last checkpoint has it.
      await this.close();
    }
    return decision;
  }

  /**
   * What {@link acquire} would answer now, with nothing charged.
   *
   * @throws {@link InvalidInputError} when a label or the cost cannot be used
   */
  peek(request: Request): Peek {
    const answer = this.#ask(native.peek, request);
    if (answer >= 0) return new Peek(0, this.#limits, answer, -1);
    return new Peek(-answer, this.#limits, native.lastRemaining(), native.lastRetryAfterMs());
  }

  /**
   * How much of the window of a request's limits this side of a cut may admit in all, of that limit with the least; undefined while no
   * member is silent, or where no limit that matches has `whenCutOff` of `'share'` or `'deny'`.
   *
   * @throws {@link InvalidInputError} when a label cannot be used
   */
  cap(request: Request): number | undefined {
    const added = this.#scope.added(request);
    const labels = joinLabels(added);
    try {
      return native.cap(this.#handle, labels.text, labels.count) ?? undefined;
    } catch (thrown) {
      throw explained(thrown, added);
    }
  }

  /**
   * Takes a charge back, because the call did not count after all. A counter that has ended or was reset since is left as it
   * is. Each thread keeps the receipts of its latest 65,536 admissions.
   *
   * @param receipt - the decision's `receipt`
   * @throws {@link RefundError} when the receipt is another limiter's or thread's, was used before, or is too old
   * @throws {@link InvalidInputError} when it is no text
   */
  refund(receipt: Receipt): void {
    checkText('the receipt', receipt);
    call(() => native.refund(this.#handle, receipt));
  }

  /**
   * Makes a receipt a text that a client may keep, also across a reconnect: {@link refundToken} takes it, in any thread of this
   * limiter, once. It is signed, and ends with the limiter. The receipt is used up. The latest 65,536 tokens can be refunded.
   *
   * @throws {@link RefundError} as {@link refund}
   */
  token(receipt: Receipt): string {
    checkText('the receipt', receipt);
    return call(() => native.token(this.#handle, receipt));
  }

  /**
   * As {@link refund}, by a {@link token}. No node takes back what another one charged.
   *
   * @throws {@link RefundError} when the token is another node's (the error's `node`), of this node before it was opened again,
   * made up or changed, was used before, or is too old
   * @throws {@link InvalidInputError} when it is no text
   */
  refundToken(token: string): void {
    checkText('the token', token);
    call(() => native.refundToken(this.#handle, token));
  }

  /**
   * Resets counters on every instance, and returns how many there were to reset. What others admit while the reset has not
   * reached them may be lost by it.
   *
   * Of a request, those are the counters that it is charged to, except of limits without `per`, which count for all. With
   * `{ limit, labels }`, it is one counter of that limit.
   *
   * @example
   * ```ts
   * limiter.reset({ session: 's42', tool: 'book_service' });
   * limiter.reset({ limit: 'bookings', labels: { session: 's42' } });
   * ```
   * @throws {@link InvalidInputError} when a label cannot be used, no limit has the name, or a label of its `per` is missing or
   * another is given
   * @throws {@link CounterError} when a key is too long
   */
  reset(what: Labels | LimitReset): number {
    if (isLimitReset(what)) return resetLimit(this.#handle, what);
    const labels = joinLabels(what);
    try {
      return native.reset(this.#handle, labels.text, labels.count);
    } catch (thrown) {
      throw explained(thrown, what);
    }
  }

  /**
   * The drop-in for a {@link ToolRateLimiter} in memory, for a session that is known: its session counts are the cluster's, so they
   * hold on every instance and after restarts. Its turn counts are its own: one object handles a turn. Without a session in the
   * options, it is the one in the labels in force: see {@link withLabels}.
   *
   * @throws {@link InvalidInputError} when the session or another option cannot be used
   * @throws {@link CounterError} when session and name of a tool are longer than `counters.maxKeyBytes`, so that no call could
   * be counted
   * @throws {@link ClosedError} when the limiter is closed
   */
  toolRateLimiter(options?: ToolRateLimiterOptions): ToolRateLimiter {
    return toolRateLimiter(this, options);
  }

  /**
   * The drop-in where one orchestrator serves all sessions: a maker of tool rate limiters that is made before any session exists.
   *
   * Those that it makes for one session share its counts, also those of the turn, on every instance: two messages that are handled at
   * once are in one turn. The turn ends with `resetTurn`, by whichever of them, or has an id, as long as the same one is given. What
   * cannot be counted is denied with the reason: a session id that is too long, a full table, a closed limiter.
   *
   * @example
   * ```ts
   * const of = limiter.toolRateLimiters({ limits, ttl: '24h' });
   * const tools = of(session.id, { turn: String(session.turns) });
   * const answer = tools.tryCall('book_service');
   * ```
   * @throws {@link InvalidInputError} when an option cannot be used; the maker, when a session or a turn is no text
   */
  toolRateLimiters(options?: ToolRateLimitersOptions): ToolRateLimiters {
    return toolRateLimiters(this, options);
  }

  /** One page of the counters that a pattern means, such as the ten of which most of the limit is used. */
  page(query: CounterQuery = {}): CounterPage {
    return counterPage(this.#handle, query);
  }

  /** Whose counts those are, which links brought them, and which cells took a counter over its limit; also by pages. */
  explain(query: ExplainQuery = {}): Explanation {
    return explain(this.#handle, query);
  }

  /** Resets all counters that a pattern means, of those that this instance holds, everywhere; returns how many. See {@link reset}. */
  resetSelected(selection: CounterSelection): number {
    return resetSelected(this.#handle, selection);
  }

  /**
   * Every counter that has not ended, in no particular order, read a page at a time: `for await (const counter of
   * limiter.counters())`, or `await limiter.counters().toArray()`.
   */
  counters(): CounterListing {
    return new CounterListing(this.node, this.#handle);
  }

  /**
   * Replaces the list of peers, `gossip.peers` of the config, while the limiter runs, and resolves once the new list is in force: new
   * addresses are being dialed then, not yet connected. The next opening begins with its config's list again.
   *
   * An address that is not on the list any more is not dialed again, and the connection that this node dialed there is closed, with a
   * word to the peer, which does not take it for a failure. A connection that the peer dialed stays. What was counted stays counted.
   *
   * @param peers - entries as in `gossip.peers`, such as `host:port` or `file:path`
   * @throws {@link InvalidInputError} when it is no array of texts
   * @throws {@link ConfigError} when an entry is not allowed, or there are over 4,096; the former list stays in force
   */
  async setPeers(peers: readonly string[]): Promise<void> {
    const entries = textsIn('peers', peers);
    await settled(() => native.setPeers(this.#handle, entries));
  }

  /**
   * Replaces the keys of the cluster, `gossip.key` of the config, while the limiter runs, and resolves once they are in force: from one to
   * four, of which the first is used to dial and all are accepted. The next opening begins with its config's keys again.
   *
   * A connection under a key that is not accepted any more is closed at once; one that this node dialed under another key than the first
   * is dialed again. So a key is changed without a gap in three steps, each on all nodes before the next: `[old, new]`, `[new, old]`, and,
   * once the `key` of every peer in `peers()` is the new one, `[new]`. No message shows a key.
   *
   * @throws {@link ConfigError} when one is no key, there are none, over four, or one twice, or the limiter was opened without one
   */
  async setKeys(keys: readonly string[]): Promise<void> {
    const texts = secretsIn('keys', keys);
    await settled(() => native.setKeys(this.#handle, texts));
  }

  /**
   * Replaces the list of members, `gossip.members` of the config, while the limiter runs, and resolves once it is in force. A connection
   * whose node, or whose key of it, is not in the list any more is closed at once; what the node has counted stays.
   *
   * So a key is changed without a gap, each step on all nodes before the next: the new public key before the old one (`a=NEW`, `a=OLD`),
   * {@link Limiter.setNodeKey}, and, once its `key` in `peers()` is the new one everywhere, a list without the old one.
   *
   * @param members - each `node=public key`, this node among them
   * @throws {@link ConfigError} when an entry is not allowed, this node is none of them by its key, or it has no key of its own
   */
  async setMembers(members: readonly string[]): Promise<void> {
    const entries = textsIn('members', members);
    await settled(() => native.setMembers(this.#handle, entries));
  }

  /**
   * Replaces the node's own key, `gossip.nodeKey` of the config, while the limiter runs; resolves once it is in force. No message shows it.
   * @throws {@link ConfigError} when it is no key, is not this node's in the list of members, or the limiter was opened without one
   */
  async setNodeKey(key: string): Promise<void> {
    const secret = secretIn('key', key);
    await settled(() => native.setNodeKey(this.#handle, secret));
  }

  /** What an operator does while all nodes run: quarantine, release, forget. */
  get operator(): Operator {
    return new Operator(this.node, this.#handle);
  }

  /** Who is connected, how far they lag, and how their clocks differ. */
  peers(): PeerReport[] {
    return call(() => native.peers(this.#handle));
  }

  /** Whether counts reach the disk, and what went wrong since the start. */
  health(): HealthReport {
    const { health, counters, rejections, clockBehindMs, requestsUnmatched } = this.status();
    return { ...health, counters, ...rejections, clockBehindMs, requestsUnmatched };
  }

  /** How this instance is doing: its health, peers, rejections and sizes at one moment. */
  status(): StatusReport {
    const status = call(() => native.status(this.#handle));
    return {
      ...status,
      health: { ...status.health, reasons: status.health.reasons.map((reason) => fileNamesReplaced(reason)) },
    };
  }

  /**
   * Resolves when this instance is ready to be asked: it has tried every address that it knows, and has all that each member that
   * answered had then; at the latest `gossip.readyTimeout` after the start, and at once without peers. What it waits for, `waitingFor`
   * of {@link status} says. A readiness probe asks `limiter.status().ready`.
   */
  ready(): Promise<void> {
    return settled(() => native.ready(this.#handle));
  }

  /**
   * Resolves when everything counted before the call survives a loss of power.
   *
   * @throws {@link DurabilityError} when the disk has failed
   */
  flush(): Promise<void> {
    return settled(() => native.flush(this.#handle));
  }

  /**
   * Sends what is left to the peers, waits for one to confirm it, at most for `gossip.leaveTimeout`, tells them goodbye, writes
   * everything to disk, and stops. Resolves with how much of it no peer has confirmed. Later calls throw a {@link ClosedError}, but for
   * `close` itself.
   *
   * What was counted before it is called is written. A process that ends in order without it (its work is done,
   * `process.exit`, an uncaught exception) does the same for at most a second, and so does SIGTERM while nothing else listens
   * for it. One that ends otherwise loses at most what was counted in the last `storage.persistEvery`.
   *
   * @throws {@link DurabilityError} when the disk has failed
   */
  close(): Promise<Closed> {
    if (this.#closing === undefined) {
      this.#scope.end();
      this.#closing = settled(() => native.close(this.#handle));
      limiterClosed();
    }
    return this.#closing;
  }

  /** {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #ask(ask: typeof native.acquire, given: Request): number {
    const request = this.#scope.added(given);
    const labels = joinLabels(request);
    const cost = request.cost === undefined ? 1 : request.cost;
    if (!Number.isSafeInteger(cost) || cost < 0) checkCount('cost', cost);
    try {
      return ask(this.#handle, labels.text, labels.count, cost);
    } catch (thrown) {
      throw explained(thrown, request);
    }
  }

  /**
   * Its number in this library, unless a limit of the config would count in the counters of one of these names as well; undefined
   * if it is of another library.
   *
   * @internal
   */
  [HANDLE](library: string, counters: readonly string[]): number | undefined {
    if (library !== LIBRARY) return undefined;
    const taken = this.#limits.find((limit) => counters.includes(limit.name));
    if (taken === undefined) return this.#handle;
    throw new InvalidInputError(`the config has a limit of the name "${taken.name}", which is taken: give it another`);
  }
}

/**
 * The limiter's number in the native half, for a part of this package that counts under the names `counters`.
 *
 * @internal
 */
export function handleOf(limiter: Limiter, counters: readonly string[]): number {
  if (!(limiter instanceof Limiter) || typeof limiter[HANDLE] !== 'function') {
    throw new InvalidInputError(
      `the limiter is ${show(limiter)}: give what Limiter.open() resolved to, or Limiter.lazy() returned`,
    );
  }
  const handle = limiter[HANDLE](LIBRARY, counters);
  if (handle !== undefined) return handle;
  throw new InvalidInputError(
    'the limiter is of another copy of the package tallymesh, which counts by itself: import both from one copy (npm ls tallymesh)',
  );
}
