import { asTallymeshError, call } from './errors.js';
import { native } from './native.js';
import type { SessionCounter } from './session-counter.js';
import { DEFAULT_TOOL_RATE_LIMITS, ToolRateLimiter, type ToolRateLimits } from './tool-rate-limiter.js';

/** What the counters of sessions are named in the store. */
export const TOOL_CALLS_PER_SESSION = 'tool calls per session';

/** Lets the native half forget the counters of tool rate limiters that are gone. */
const forgotten = new FinalizationRegistry((counters: number[]) =>
  counters.forEach((counter) => native.counterRelease(counter)),
);

/** A tool rate limiter whose session counts are the cluster's. */
export class ClusterToolRateLimiter extends ToolRateLimiter {
  readonly #limiter: number;
  readonly #session: string;
  readonly #counters: number[] = [];

  constructor(limiter: number, session: string, limits?: ToolRateLimits) {
    super(limits);
    this.#limiter = limiter;
    this.#session = session;
    // What could never be counted is refused now, not at the first call of the tool.
    const names = Object.keys(limits ?? DEFAULT_TOOL_RATE_LIMITS);
    const longest = names.reduce((longest, name) => (bytes(name) > bytes(longest) ? name : longest), '');
    call(() => native.counterCheck(limiter, TOOL_CALLS_PER_SESSION, `${session}\0${longest}`));
    forgotten.register(this, this.#counters);
  }

  /** @internal */
  protected override sessionCounter(toolName: string): SessionCounter {
    const values = `${this.#session}\0${toolName}`;
    const counter = call(() => {
      native.counterCheck(this.#limiter, TOOL_CALLS_PER_SESSION, values);
      return native.counterOpen(this.#limiter, TOOL_CALLS_PER_SESSION, values, 0);
    });
    this.#counters.push(counter);
    return new ClusterSessionCounter(counter);
  }
}

/** Counts in the store, by the number of a counter there. */
class ClusterSessionCounter implements SessionCounter {
  readonly #counter: number;

  constructor(counter: number) {
    this.#counter = counter;
  }

  value(): number {
    try {
      return native.counterValue(this.#counter);
    } catch (thrown) {
      throw asTallymeshError(thrown);
    }
  }

  reserve(): number {
    try {
      return native.counterReserve(this.#counter);
    } catch (thrown) {
      throw asTallymeshError(thrown);
    }
  }

  add(max: number): void {
    try {
      native.counterAdd(this.#counter, max);
    } catch (thrown) {
      throw asTallymeshError(thrown);
    }
  }

  tryAdd(max: number): boolean {
    try {
      return native.counterTry(this.#counter, max) >= 0;
    } catch (thrown) {
      throw asTallymeshError(thrown);
    }
  }

  reset(): void {
    call(() => native.counterReset(this.#counter));
  }
}

/** How long a text is in the store. */
function bytes(text: string): number {
  return Buffer.byteLength(text);
}
