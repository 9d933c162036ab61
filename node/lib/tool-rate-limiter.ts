import { MemoryCallCounter, type CallCounter } from './call-counter.js';
import { brand } from './brand.js';
import { InvalidInputError, PanicError, TallymeshError } from './errors.js';
import { refuseClones, showAsJson } from './shown.js';
import { checkCount, checkKeys, checkObject, checkText, show } from './validate.js';

/** How often one tool may be called. */
export interface ToolRateLimit {
  /** In one turn; a whole number from 0 to 2^53 - 1. */
  readonly maxPerTurn: number;
  /** In one session; a whole number from 0 to 2^53 - 1. */
  readonly maxPerSession: number;
}

/** The limits by tool name. */
export type ToolRateLimits = Readonly<Record<string, ToolRateLimit>>;

/** Whether a tool may be called. */
export interface RateLimitResult {
  /** Whether it may. */
  readonly allowed: boolean;
  /** Why not; left out if it may. */
  readonly reason?: string;
}

/** How often tools were called; only those that were, in the order of their first use here. A copy. */
export interface RateLimitStats {
  /** In this turn. */
  readonly turn: Record<string, number>;
  /** In this session. */
  readonly session: Record<string, number>;
}

/** How the tools are limited that the limits do not name: `'uncounted'` allows them, and counts nothing. */
export type OtherTools = ToolRateLimit | 'uncounted';

/** What is in force where no other limits are given. */
export const DEFAULT_TOOL_RATE_LIMITS: ToolRateLimits = Object.freeze({
  update_onboarding_state: limit(1, 10),
  get_market_research: limit(2, 5),
  get_services: limit(3, 20),
  check_availability: limit(5, 50),
  get_business_info: limit(2, 10),
  upsert_services: limit(1, 5),
  update_storefront: limit(1, 3),
  upsert_package: limit(2, 10),
  book_service: limit(1, 3),
  create_booking: limit(1, 5),
});

/** For tools that the limits do not name, unless something else is given. */
const UNNAMED_TOOL = limit(5, 50);

const ALLOWED: RateLimitResult = Object.freeze({ allowed: true });

/**
 * Limits the calls of each tool in a turn and in a session.
 *
 * Made by `new`, it counts in memory: each object for itself, until the process ends. Made by
 * {@link Limiter.toolRateLimiters} or {@link Limiter.toolRateLimiter}, its session counts are the cluster's.
 */
export class ToolRateLimiter {
  readonly #limits: ReadonlyMap<string, ToolRateLimit>;
  readonly #others: OtherTools;
  readonly #tools = new Map<string, Tool>();
  /** The tools that were called, in the order of their first use. */
  readonly #used = new Set<Tool>();
  readonly #usedInTurn = new Set<Tool>();

  static {
    brand(this, 'ToolRateLimiter');
    showAsJson(this, 'ToolRateLimiter');
  }

  /**
   * @param limits - by tool name, instead of {@link DEFAULT_TOOL_RATE_LIMITS}
   * @param otherTools - how tools are limited that are not named: by default 5 times in a turn and 50 times in a session
   * @throws {@link InvalidInputError} when a limit is not a whole number from 0 to 2^53 - 1
   */
  constructor(limits: ToolRateLimits = DEFAULT_TOOL_RATE_LIMITS, otherTools: OtherTools = UNNAMED_TOOL) {
    refuseClones(this);
    checkObject('limits', limits);
    this.#limits = new Map(Object.entries(limits).map(([tool, limit]) => [tool, checkedLimit(tool, limit)]));
    this.#others = checkedOthers(otherTools);
  }

  /**
   * Whether the tool may be called now. Counts nothing, so two callers that ask at once may both be told yes: prefer
   * {@link tryCall}. A call that the store has no room to count may not be made; after a yes, there is room for it.
   *
   * @throws {@link InvalidInputError} when the name of the tool is no text, empty, or longer than 8,192 characters
   */
  canCall(toolName: string): RateLimitResult {
    const tool = this.#tool(toolName);
    if (tool === undefined) return ALLOWED;
    return deniedIfUncountable(() => {
      if (tool.turn.reserve() >= tool.maxPerTurn) return tool.turnDenial;
      if (tool.session.reserve() >= tool.maxPerSession) return tool.sessionDenial;
      return ALLOWED;
    });
  }

  /**
   * Counts a call, whether it was allowed or not. What cannot be counted in the store, since it is closed or full, is counted in
   * this object alone: the call was made, so nothing is thrown.
   *
   * @throws {@link InvalidInputError} when the name of the tool is no text, empty, or longer than 8,192 characters
   */
  recordCall(toolName: string): void {
    const tool = this.#tool(toolName);
    if (tool === undefined) return;
    tool.turn.add(tool.maxPerTurn);
    tool.session.add(tool.maxPerSession);
    this.#note(tool);
  }

  /**
   * Counts a call if it is allowed, in one step: the answer of {@link canCall}, and if that is yes, {@link recordCall}. For a
   * tool that fails, {@link undoCall} takes it back.
   *
   * Between `canCall` and `recordCall`, another request of the same session may be told yes as well, here or on another
   * instance, and a crash forgets the call. Here, no two calls of one instance share the last place under a limit, and what
   * is allowed is counted before the tool runs. A call that the store has no room to count is denied.
   *
   * @throws {@link InvalidInputError} when the name of the tool is no text, empty, or longer than 8,192 characters
   */
  tryCall(toolName: string): RateLimitResult {
    const tool = this.#tool(toolName);
    return deniedIfUncountable(() => {
      if (tool !== undefined) {
        const denied = tool.charge();
        if (denied !== undefined) return denied;
        this.#note(tool);
      }
      return Debit.answer(this, tool);
    });
  }

  /**
   * Takes back the call that this answer of {@link tryCall} allowed, because the tool failed: from the session, and from the turn
   * unless that is over. Once; what was reset since is left as it is. Returns whether something was taken back: not by an answer
   * that denied or was used before, and not from a limiter that is closed.
   *
   * @throws {@link InvalidInputError} when it is no answer of this object's `tryCall`
   */
  undoCall(answer: RateLimitResult): boolean {
    const undone = Debit.undo(answer, this);
    if (undone !== undefined) return undone;
    if ((answer as RateLimitResult | undefined)?.allowed === false) return false;
    throw new InvalidInputError(`the answer is ${show(answer)}: give what tryCall of this object returned`);
  }

  /** Starts a turn: its counts begin at none. Never throws. */
  resetTurn(): void {
    for (const tool of this.#usedInTurn) tool.isNoted = false;
    this.#usedInTurn.clear();
    for (const tool of this.toolsToReset()) tool.endTurn();
  }

  /**
   * Resets turn and session. With a store, so are the session counts of the whole cluster, of all tools that the limits
   * name or that were asked for here.
   *
   * @throws {@link CounterError} when a counter of the store cannot be reset
   * @throws {@link ClosedError} when the limiter is closed
   */
  reset(): void {
    this.resetTurn();
    for (const tool of this.known()) tool.reset();
    this.#used.clear();
  }

  /**
   * How often each tool was called. With a store, the session's counts are the cluster's, of all tools that the limits name or
   * that were asked for here. Never throws: of a limiter that is closed, the counts are those that were seen last.
   */
  getStats(): RateLimitStats {
    const known = this.known();
    const counts = (used: Set<Tool>, count: (tool: Tool) => number): Record<string, number> => {
      const tools = [...new Set([...used, ...known])];
      return Object.fromEntries(tools.map((tool) => [tool.name, count(tool)] as const).filter(([, calls]) => calls > 0));
    };
    return {
      turn: counts(this.#usedInTurn, (tool) => tool.turn.value()),
      session: counts(this.#used, (tool) => tool.session.value()),
    };
  }

  /** What `JSON.stringify` and `console.log` show: the limits, and the counts of {@link getStats}. */
  toJSON(): object {
    return { limits: Object.fromEntries(this.#limits), otherTools: this.#others, stats: this.getStats() };
  }

  /** @internal */
  protected turnCounter(_toolName: string): CallCounter {
    return new MemoryCallCounter();
  }

  /** @internal */
  protected sessionCounter(_toolName: string): CallCounter {
    return new MemoryCallCounter();
  }

  /**
   * The tools whose turn a {@link resetTurn} ends: those that may have been called in it.
   *
   * @internal
   */
  protected toolsToReset(): Iterable<Tool> {
    return this.#tools.values();
  }

  #tool(name: string): Tool | undefined {
    return this.#tools.get(name) ?? this.#meet(name);
  }

  /** A tool that was not asked for yet, if its calls are counted. */
  #meet(name: string): Tool | undefined {
    checkText('the name of the tool', name);
    const limit = this.#limits.get(name) ?? this.#others;
    if (limit === 'uncounted') return undefined;
    const tool = new Tool(name, limit, this.turnCounter(name), this.sessionCounter(name));
    this.#tools.set(name, tool);
    return tool;
  }

  /**
   * The tools that the limits name or that were asked for.
   *
   * @internal
   */
  protected known(): Tool[] {
    for (const name of this.#limits.keys()) this.#tool(name);
    return [...this.#tools.values()];
  }

  #note(tool: Tool): void {
    if (tool.isNoted) return;
    tool.isNoted = true;
    this.#used.add(tool);
    this.#usedInTurn.add(tool);
  }
}

/**
 * One tool: its limits, its counts, and what is said when there were enough calls.
 *
 * @internal
 */
export class Tool {
  readonly maxPerTurn: number;
  readonly maxPerSession: number;
  readonly turnDenial: RateLimitResult;
  readonly sessionDenial: RateLimitResult;
  /** Which turn it is, and how often all was reset: a debit of an earlier one is not taken back. */
  turns = 0;
  resets = 0;
  /** Whether it is among those that were called in this turn. */
  isNoted = false;

  constructor(
    readonly name: string,
    { maxPerTurn, maxPerSession }: ToolRateLimit,
    readonly turn: CallCounter,
    readonly session: CallCounter,
  ) {
    this.maxPerTurn = maxPerTurn;
    this.maxPerSession = maxPerSession;
    this.turnDenial = denial(`${name} max per turn (${maxPerTurn}) reached`);
    this.sessionDenial = denial(`${name} max per session (${maxPerSession}) reached`);
  }

  /** Counts a call in turn and session, or in neither, and then returns why. */
  charge(): RateLimitResult | undefined {
    if (this.turn.value() >= this.maxPerTurn) return this.turnDenial;
    if (!this.session.tryAdd(this.maxPerSession)) return this.sessionDenial;
    let counted = false;
    try {
      counted = this.turn.tryAdd(this.maxPerTurn);
    } finally {
      if (!counted) this.session.take();
    }
    return counted ? undefined : this.turnDenial;
  }

  endTurn(): void {
    this.turns += 1;
    this.turn.resetSoon();
  }

  reset(): void {
    this.resets += 1;
    this.session.reset();
  }
}

/** Has its subclass put its private field on the object that is given. */
class Put {
  constructor(on: object) {
    return on;
  }
}

/**
 * A call that was allowed and counted, of which turn. It is in a private field of the answer that allowed the call, so the answer shows
 * nothing of it; in a WeakMap it would cost ten times as much.
 */
class Debit extends Put {
  #counted: Counted;

  private constructor(answer: RateLimitResult, counted: Counted) {
    super(answer);
    this.#counted = counted;
  }

  /** An answer that allows a call, and by which it can be taken back. */
  static answer(owner: ToolRateLimiter, tool: Tool | undefined): RateLimitResult {
    const counted = { owner, tool, turns: tool?.turns, resets: tool?.resets };
    return new Debit({ allowed: true }, counted) as unknown as RateLimitResult;
  }

  /** Takes back what this answer counted; undefined if it is none of this owner's. */
  static undo(answer: unknown, owner: ToolRateLimiter): boolean | undefined {
    if (typeof answer !== 'object' || answer === null || !(#counted in answer)) return undefined;
    const counted = answer.#counted;
    if (counted.owner !== owner) return undefined;
    answer.#counted = { ...counted, tool: undefined };
    const { tool, turns, resets } = counted;
    if (tool === undefined || tool.resets !== resets || !tool.session.take()) return false;
    if (tool.turns === turns) tool.turn.take();
    return true;
  }
}

/** What a call has counted: for which tool, if it is not taken back yet and anything is counted for it, and in which turn. */
interface Counted {
  readonly owner: ToolRateLimiter;
  readonly tool: Tool | undefined;
  readonly turns: number | undefined;
  readonly resets: number | undefined;
}

/** The answer, or the denial of a call that cannot be counted: the limiter is closed or not open, or has no room. */
function deniedIfUncountable(answer: () => RateLimitResult): RateLimitResult {
  try {
    return answer();
  } catch (error) {
    if (!(error instanceof TallymeshError) || error instanceof PanicError) throw error;
    return denial(error.message);
  }
}

function checkedLimit(tool: string, limit: ToolRateLimit): ToolRateLimit {
  checkText('the name of a tool', tool);
  return checkedMaxima(`limits.${tool}`, limit);
}

function checkedOthers(limit: OtherTools): OtherTools {
  return limit === 'uncounted' ? limit : checkedMaxima('otherTools', limit);
}

function checkedMaxima(of: string, limit: ToolRateLimit): ToolRateLimit {
  checkObject(of, limit);
  checkKeys(of, limit, ['maxPerTurn', 'maxPerSession']);
  checkCount(`${of}.maxPerTurn`, limit.maxPerTurn);
  checkCount(`${of}.maxPerSession`, limit.maxPerSession);
  return { ...limit };
}

function limit(maxPerTurn: number, maxPerSession: number): ToolRateLimit {
  return Object.freeze({ maxPerTurn, maxPerSession });
}

function denial(reason: string): RateLimitResult {
  return Object.freeze({ allowed: false, reason });
}
