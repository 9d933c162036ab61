import type { Duration } from './config.js';
import { InvalidInputError, TallymeshError, call } from './errors.js';
import { LimiterHandle, type LimiterSource } from './limiter-handle.js';
import { MemoryCallCounter, type CallCounter } from './call-counter.js';
import { native } from './native.js';
import { CounterPlace, NumberedCallCounter, StoreCallCounter } from './store-call-counter.js';
import { DEFAULT_TOOL_RATE_LIMITS, ToolRateLimiter } from './tool-rate-limiter.js';
import type { OtherTools, Tool, ToolRateLimits } from './tool-rate-limiter.js';
import { checkKeys, checkObject, checkText, meantDuration, show, suggested } from './validate.js';

/** What the counters are named in the store. */
const PER_SESSION = 'tool calls per session';
const PER_TURN = 'tool calls per turn';

/** What {@link Limiter.toolRateLimiters} needs to know. */
export interface ToolRateLimitersOptions {
  /** The limits by tool name. Default: {@link DEFAULT_TOOL_RATE_LIMITS}. */
  readonly limits?: ToolRateLimits;
  /** How tools are limited that the limits do not name. Default: 5 times in a turn and 50 times in a session. */
  readonly otherTools?: OtherTools;
  /** How long a session's counts are kept after its last call; 1 ms to 366 days. Default: `counters.ttl`, which is 24 hours. */
  readonly ttl?: Duration;
  /**
   * How long the counts of one turn are kept after its last call of a tool, where each turn has counters of its own, which take up
   * room for so long: where the turn has an id, and for tools that the limits do not name; 1 ms to 366 days. Default: `'1h'`.
   */
  readonly turnTtl?: Duration;
}

/** Which turn of a session it is. */
export interface ToolTurn {
  /**
   * What tells the turn from the others of its session, 1 to 8,192 characters: the same text for all messages that are to share one
   * turn, on every instance. So the turn ends when another id is given, and `resetTurn` changes nothing.
   */
  readonly turn?: string;
}

/** Makes the {@link ToolRateLimiter} of a session, or of one turn of it; see {@link Limiter.toolRateLimiters}. */
export type ToolRateLimiters = (session: string, turn?: ToolTurn) => ToolRateLimiter;

/** What {@link Limiter.toolRateLimiter} needs to know. */
export interface ToolRateLimiterOptions extends Omit<ToolRateLimitersOptions, 'turnTtl'> {
  /** The session whose calls are counted, 1 to 8,192 characters: the same text on every instance. */
  readonly session: string;
}

/** What the options may be; the types above, for what is checked while the program runs. */
const OPTIONS = Object.keys({
  limits: true,
  otherTools: true,
  ttl: true,
  turnTtl: true,
} satisfies Record<keyof ToolRateLimitersOptions, true>);
const OPTIONS_OF_ONE = Object.keys({
  session: true,
  limits: true,
  otherTools: true,
  ttl: true,
} satisfies Record<keyof ToolRateLimiterOptions, true>);

/**
 * As {@link Limiter.toolRateLimiters}, also of a limiter that is still to be opened: until it is open, every call is denied with
 * the reason.
 *
 * @example
 * ```ts
 * const of = toolRateLimiters(Limiter.open('tallymesh.toml'), { limits });
 * ```
 * @throws {@link InvalidInputError} when it is no limiter, or an option cannot be used
 */
export function toolRateLimiters(limiter: LimiterSource, options: ToolRateLimitersOptions = {}): ToolRateLimiters {
  checkObject('the options of toolRateLimiters', options);
  checkKeys('toolRateLimiters', options, OPTIONS);
  const plan = new Plan(limiter, options);
  return (session, turn = {}) => {
    checkObject('the turn', turn);
    checkKeys('a turn', turn, ['turn']);
    for (const [what, id] of [
      ['session', session],
      ['turn', turn.turn ?? ''],
    ]) {
      if (typeof id !== 'string') throw new InvalidInputError(`${what} is ${show(id)}: give a string`);
    }
    return new StoreToolRateLimiter(plan, session, turn.turn ?? SHARED);
  };
}

/**
 * The tool rate limiter of one session, whose turn is its own; see {@link Limiter.toolRateLimiter}.
 *
 * @throws {@link InvalidInputError} when the session or another option cannot be used
 * @throws {@link CounterError} when session and name of a tool are too long together
 */
export function toolRateLimiter(limiter: LimiterSource, options: ToolRateLimiterOptions): ToolRateLimiter {
  checkObject('the options of toolRateLimiter', options);
  checkKeys('toolRateLimiter', options, OPTIONS_OF_ONE);
  const { session, ...rest } = options;
  checkText('session', session);
  const plan = new Plan(limiter, rest);
  plan.checkLengths(session);
  return new StoreToolRateLimiter(plan, session, OWN);
}

/** The turn is the object's own. */
const OWN = Symbol('own');
/** The turn is the session's, whichever object of it is asked, until one of them resets it. */
const SHARED = Symbol('shared');

/** What all limiters of one maker have in common. */
class Plan {
  readonly limiter: LimiterHandle;
  readonly limits: ToolRateLimits;
  readonly otherTools: OtherTools | undefined;
  readonly ttlMs: number;
  readonly turnTtlMs: number;

  constructor(
    limiter: LimiterSource,
    { limits = DEFAULT_TOOL_RATE_LIMITS, otherTools, ttl, turnTtl = '1h' }: ToolRateLimitersOptions,
  ) {
    this.ttlMs = ttl === undefined ? 0 : durationMs('ttl', ttl);
    this.turnTtlMs = durationMs('turnTtl', turnTtl);
    // What is no limit is refused now.
    new ToolRateLimiter(limits, otherTools);
    this.limits = Object.fromEntries(Object.entries(limits).map(([tool, limit]) => [tool, { ...limit }]));
    this.otherTools = otherTools;
    this.limiter = new LimiterHandle(limiter, PER_SESSION, PER_TURN);
  }

  /** Refuses a session in which one of the tools could never be counted. */
  checkLengths(session: string): void {
    const limiter = this.limiter.now();
    const bytes = (text: string): number => Buffer.byteLength(text);
    const longest = Object.keys(this.limits).reduce((longest, name) => (bytes(name) > bytes(longest) ? name : longest), '');
    call(() => native.counterCheck(limiter, PER_SESSION, `${session}\0${longest}`));
  }
}

/** A tool rate limiter whose session counts are the cluster's, and those of its turn unless the turn is its own. */
class StoreToolRateLimiter extends ToolRateLimiter {
  readonly #plan: Plan;
  readonly #session: string;
  readonly #turn: string | typeof OWN | typeof SHARED;
  readonly #sessionPlace: CounterPlace;
  readonly #turnPlace: CounterPlace;
  /** How many turns of the session have ended, where the turn is the session's. */
  readonly #turns: StoreCallCounter;

  constructor(plan: Plan, session: string, turn: string | typeof OWN | typeof SHARED) {
    super(plan.limits, plan.otherTools);
    this.#plan = plan;
    this.#session = session;
    this.#turn = turn;
    const uncountable = whyNot('session', session) ?? (typeof turn === 'string' ? whyNot('turn', turn) : undefined);
    this.#sessionPlace = new CounterPlace(plan.limiter, plan.ttlMs, uncountable, this);
    // What is kept for each turn goes sooner than what is reset with each.
    this.#turnPlace = new CounterPlace(plan.limiter, plan.turnTtlMs, uncountable, this);
    this.#turns = new StoreCallCounter(this.#sessionPlace, PER_TURN, session);
  }

  /** As of one in memory, with the session, and the turn if it has an id. */
  override toJSON(): object {
    return { session: this.#session, ...(typeof this.#turn === 'string' && { turn: this.#turn }), ...super.toJSON() };
  }

  /** @internal */
  protected override sessionCounter(toolName: string): CallCounter {
    return new StoreCallCounter(this.#sessionPlace, PER_SESSION, `${this.#session}\0${toolName}`);
  }

  /** @internal */
  protected override turnCounter(toolName: string): CallCounter {
    const [session, turn] = [this.#session, this.#turn];
    if (turn === OWN) return new MemoryCallCounter();
    if (typeof turn === 'string') return new StoreCallCounter(this.#turnPlace, PER_TURN, `${session}\0${turn}\0${toolName}`);
    if (Object.hasOwn(this.#plan.limits, toolName)) {
      return new StoreCallCounter(this.#sessionPlace, PER_TURN, `${session}\0${toolName}`);
    }
    const counterOf = (number: number): StoreCallCounter =>
      new StoreCallCounter(this.#turnPlace, PER_TURN, `${session}\0turn\0${number}\0${toolName}`);
    return new NumberedCallCounter(this.#turns, counterOf);
  }

  /** @internal */
  protected override toolsToReset(): Iterable<Tool> {
    if (this.#turn === OWN) return super.toolsToReset();
    if (this.#turn !== SHARED) return [];
    this.#turns.add(Number.MAX_SAFE_INTEGER);
    return this.known();
  }
}

/** Why this text can name nothing in the store; undefined if it can. */
function whyNot(what: string, text: string): string | undefined {
  try {
    checkText(what, text);
    return undefined;
  } catch (error) {
    if (error instanceof TallymeshError) return error.message;
    throw error;
  }
}

function durationMs(what: string, duration: unknown): number {
  const ms = typeof duration === 'string' ? call(() => native.durationMs(duration)) : -1;
  if (ms >= 0) return ms;
  throw new InvalidInputError(
    `${what} is ${show(duration)}: give a duration from 1 ms to 366 days, such as "24h"${suggested(meantDuration(duration))}`,
  );
}
