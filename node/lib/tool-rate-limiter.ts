import { CounterError } from './errors.js';
import { MemorySessionCounter, type SessionCounter } from './session-counter.js';
import { checkCount, checkObject, checkText } from './validate.js';

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
export interface ToolCallAnswer {
  /** Whether it may. */
  readonly allowed: boolean;
  /** Why not; left out if it may. */
  readonly reason?: string;
}

/** How often tools were called; only those that were. */
export interface ToolCallStats {
  /** In this turn. */
  turn: Record<string, number>;
  /** In this session. */
  session: Record<string, number>;
}

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

/** For tools that the limits do not name. */
const UNNAMED_TOOL = limit(5, 50);

const ALLOWED: ToolCallAnswer = Object.freeze({ allowed: true });

/**
 * Limits the calls of each tool in a turn and in a session.
 *
 * Made by `new`, it counts in memory: each object for itself, until the process ends. Made by
 * {@link Limiter.toolRateLimiter}, its session counts are the cluster's.
 */
export class ToolRateLimiter {
  readonly #limits: ReadonlyMap<string, ToolRateLimit>;
  readonly #tools = new Map<string, Tool>();
  /** Which turn it is; a tool's turn count is of the turn in which it was counted last. */
  #turn = 0;

  /**
   * @param limits - by tool name, instead of {@link DEFAULT_TOOL_RATE_LIMITS}; tools that are not named may be called 5 times
   * in a turn and 50 times in a session
   * @throws {@link InvalidInputError} when a limit is not a whole number from 0 to 2^53 - 1
   */
  constructor(limits: ToolRateLimits = DEFAULT_TOOL_RATE_LIMITS) {
    checkObject('the limits', limits);
    this.#limits = new Map(Object.entries(limits).map(([tool, limit]) => [tool, checkedLimit(tool, limit)]));
  }

  /**
   * Whether the tool may be called now. Counts nothing, so two callers that ask at once may both be told yes: prefer
   * {@link tryCall}. A call that the store has no room to count may not be made; after a yes, there is room for it.
   *
   * @throws {@link InvalidInputError} when the name of the tool is no text, empty, or too long
   */
  canCall(toolName: string): ToolCallAnswer {
    return deniedIfUncountable(() => {
      const tool = this.#tool(toolName);
      if (tool.turnCount(this.#turn) >= tool.maxPerTurn) return tool.turnDenial;
      if (tool.session.reserve() >= tool.maxPerSession) return tool.sessionDenial;
      return ALLOWED;
    });
  }

  /**
   * Counts a call, whether it was allowed or not.
   *
   * @throws {@link InvalidInputError} when the name of the tool is no text, empty, or too long
   * @throws {@link CounterError} when the call cannot be counted in the store, to which {@link canCall} had said no. In the turn
   * it is counted all the same
   */
  recordCall(toolName: string): void {
    const tool = this.#tool(toolName);
    tool.countTurn(this.#turn);
    tool.session.add(tool.maxPerSession);
  }

  /**
   * Counts a call if it is allowed, in one step: the answer of {@link canCall}, and if that is yes, {@link recordCall}.
   *
   * Between `canCall` and `recordCall`, another request of the same session may be told yes as well, here or on another
   * instance, and a crash forgets the call. Here, no two calls of one instance share the last place under a limit, and what
   * is allowed is counted before the tool runs. A call that the store has no room to count is denied.
   *
   * @throws {@link InvalidInputError} when the name of the tool is no text, empty, or too long
   */
  tryCall(toolName: string): ToolCallAnswer {
    return deniedIfUncountable(() => {
      const tool = this.#tool(toolName);
      if (tool.turnCount(this.#turn) >= tool.maxPerTurn) return tool.turnDenial;
      if (!tool.session.tryAdd(tool.maxPerSession)) return tool.sessionDenial;
      tool.countTurn(this.#turn);
      return ALLOWED;
    });
  }

  /** Starts a turn: its counts begin at none. */
  resetTurn(): void {
    this.#turn += 1;
  }

  /**
   * Resets turn and session. With a store, so are the session counts of the whole cluster, of all tools that the limits
   * name or that were asked for here.
   *
   * @throws {@link CounterError} when a counter of the store cannot be reset
   */
  reset(): void {
    this.resetTurn();
    for (const tool of this.#known()) tool.session.reset();
  }

  /**
   * How often each tool was called. With a store, the session's counts are the cluster's, of all tools that the limits name or
   * that were asked for here.
   */
  getStats(): ToolCallStats {
    const tools = this.#known();
    const counts = (count: (tool: Tool) => number): Record<string, number> =>
      Object.fromEntries(tools.map((tool) => [tool.name, count(tool)] as const).filter(([, calls]) => calls > 0));
    return { turn: counts((tool) => tool.turnCount(this.#turn)), session: counts((tool) => tool.session.value()) };
  }

  /** @internal */
  protected sessionCounter(_toolName: string): SessionCounter {
    return new MemorySessionCounter();
  }

  #tool(name: string): Tool {
    return this.#tools.get(name) ?? this.#meet(name);
  }

  #meet(name: string): Tool {
    checkText('the name of the tool', name);
    const tool = new Tool(name, this.#limits.get(name) ?? UNNAMED_TOOL, this.sessionCounter(name));
    this.#tools.set(name, tool);
    return tool;
  }

  #known(): Tool[] {
    for (const name of this.#limits.keys()) this.#tool(name);
    return [...this.#tools.values()];
  }
}

/** One tool: its limits, its counts, and what is said when there were enough calls. */
class Tool {
  readonly maxPerTurn: number;
  readonly maxPerSession: number;
  readonly turnDenial: ToolCallAnswer;
  readonly sessionDenial: ToolCallAnswer;
  #turn = -1;
  #count = 0;

  constructor(
    readonly name: string,
    { maxPerTurn, maxPerSession }: ToolRateLimit,
    readonly session: SessionCounter,
  ) {
    this.maxPerTurn = maxPerTurn;
    this.maxPerSession = maxPerSession;
    this.turnDenial = denial(`${name} max per turn (${maxPerTurn}) reached`);
    this.sessionDenial = denial(`${name} max per session (${maxPerSession}) reached`);
  }

  turnCount(turn: number): number {
    return this.#turn === turn ? this.#count : 0;
  }

  countTurn(turn: number): void {
    this.#count = this.turnCount(turn) + 1;
    this.#turn = turn;
  }
}

/** The answer, or the denial of a call that the store cannot count. */
function deniedIfUncountable(answer: () => ToolCallAnswer): ToolCallAnswer {
  try {
    return answer();
  } catch (error) {
    if (error instanceof CounterError) return denial(error.message);
    throw error;
  }
}

function checkedLimit(tool: string, limit: ToolRateLimit): ToolRateLimit {
  checkText('the name of a tool', tool);
  checkObject(`the limit of ${tool}`, limit);
  checkCount(`maxPerTurn of ${tool}`, limit.maxPerTurn);
  checkCount(`maxPerSession of ${tool}`, limit.maxPerSession);
  return { ...limit };
}

function limit(maxPerTurn: number, maxPerSession: number): ToolRateLimit {
  return Object.freeze({ maxPerTurn, maxPerSession });
}

function denial(reason: string): ToolCallAnswer {
  return Object.freeze({ allowed: false, reason });
}
