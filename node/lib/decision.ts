import { brand } from './brand.js';
import { DeniedError } from './errors.js';
import { native } from './native.js';

/**
 * What {@link Limiter.refund} takes a charge back by. A text that may be kept, sent and put in JSON; it is good for one refund,
 * in the thread and the limiter that it comes from.
 */
export type Receipt = string & { readonly receipt: unique symbol };

/** Why a request was denied, for programs. */
export type DenialCause =
  | 'limit-reached'
  | 'cost-over-max'
  | 'too-many-counters'
  | 'key-too-long'
  | 'too-many-labels'
  | 'missing-label'
  | 'unmatched'
  | 'counter-exhausted'
  | 'cut-off'
  | 'not-open'
  | 'other';

/** By the number that the native half gives each; it knows no `'not-open'`. */
const CAUSES: readonly DenialCause[] = [
  'other',
  'limit-reached',
  'cost-over-max',
  'too-many-counters',
  'key-too-long',
  'too-many-labels',
  'missing-label',
  'unmatched',
  'counter-exhausted',
  'cut-off',
];

/**
 * A limit as denials speak of it.
 *
 * @internal
 */
export interface LimitInForce {
  readonly name: string;
  readonly max: number;
}

/** What the answer to a request would be: as a {@link Decision}, but nothing is charged, so there is no receipt. */
export class Peek {
  /** Whether the request may go ahead. */
  readonly allowed: boolean;
  /**
   * Allowed: what is left under the limit that is nearest to its end, as far as this instance knows; `Infinity` if no limit
   * matched. Denied: what is left under the limit that denied, which is less than the cost.
   */
  readonly remaining: number;
  /** The name of the limit that denied; of several, the one with the longest wait. */
  readonly limit: string | undefined;
  /**
   * How long to wait until there is room again, if nothing else uses it up, in whole milliseconds, rounded up: until the window's
   * end, or the session's if it stays unused for so long. It includes how coarse the clock is that decides, and how far the system's
   * clock is behind, so a request after this wait finds the counter ended. With the cause `'cut-off'` it is at most a second, since
   * the cut may be over at any time. Undefined if allowed, and where waiting does not help.
   * In the seconds of a `Retry-After` header: `Math.ceil(retryAfterMs / 1000)`.
   */
  readonly retryAfterMs: number | undefined;
  /** Why it was denied, for programs; undefined if allowed. */
  readonly cause: DenialCause | undefined;
  /** The label that the request lacks and the limit counts per; undefined unless that is why it was denied. */
  readonly missingLabel: string | undefined;
  /** Why it was denied, for people; undefined if allowed. */
  readonly reason: string | undefined;

  static {
    brand(this, 'Peek');
  }

  /**
   * @internal
   * @param packed - 0 if allowed, else `16 * limit + reason`: see `src/decisions.rs`
   * @param notOpen - the reason of a denial by a limiter that is not open
   */
  constructor(packed: number, limits: readonly LimitInForce[], remaining: number, retryAfterMs: number, notOpen?: string) {
    const denied = packed > 0;
    const limit = denied ? limits[Math.floor(packed / 16) - 1] : undefined;
    this.allowed = !denied;
    this.remaining = remaining;
    this.limit = limit?.name;
    this.retryAfterMs = retryAfterMs < 0 ? undefined : retryAfterMs;
    this.cause = notOpen !== undefined ? 'not-open' : denied ? (CAUSES[packed % 16] ?? 'other') : undefined;
    this.missingLabel = this.cause === 'missing-label' ? (native.lastMissingLabel() ?? undefined) : undefined;
    this.reason = this.cause === undefined ? undefined : (notOpen ?? reasonOf(this, this.cause, limit?.max ?? 0));
  }

  /** The decision as `JSON.stringify` shows it: all its fields, without a `remaining` that is `Infinity`, which JSON lacks. */
  toJSON(): object {
    return { ...this, remaining: Number.isFinite(this.remaining) ? this.remaining : undefined };
  }
}

/**
 * Why it was denied, for people. All but the causes 'too-many-labels' and 'unmatched' are of a limit; a limiter that is
 * not open says why itself.
 */
function reasonOf(denied: Omit<Peek, 'reason'>, cause: DenialCause, max: number): string {
  const limit = `limit "${denied.limit}"`;
  const wait = denied.retryAfterMs === undefined ? '; waiting does not help' : `; retry in ${denied.retryAfterMs} ms`;
  switch (cause) {
    case 'limit-reached':
      return `${limit} of ${max} reached (${denied.remaining} left)${wait}`;
    case 'cost-over-max':
      return `the cost is over ${limit} of ${max}${wait}`;
    case 'too-many-counters':
      return `${limit} needs a new counter and counters.maxCounters are in use${wait}`;
    case 'key-too-long':
      return `the label values for ${limit} are longer than counters.maxKeyBytes${wait}`;
    case 'too-many-labels':
      return `the request has more labels than counters.maxLabels${wait}`;
    case 'missing-label':
      return `the request lacks the label "${denied.missingLabel}", which ${limit} counts per${wait}`;
    case 'unmatched':
      return `no limit applies to the request, and counters.unmatched is "deny"${wait}`;
    case 'counter-exhausted':
      return `the counter of ${limit} has counted 2^53 - 1 here, the most there is${wait}`;
    case 'cut-off':
      return `members of the cluster are silent, and this side of the cut may admit no more under ${limit} of ${max} (${denied.remaining} left)${wait}`;
    case 'not-open':
    case 'other':
      return `denied by ${limit}`;
  }
}

/** The answer to a request: whether it may go ahead. If so, every limit that matched is charged; if not, none is. */
export class Decision extends Peek {
  /** What to refund the charge by; undefined if denied. */
  readonly receipt: Receipt | undefined;

  static {
    brand(this, 'Decision');
  }

  /** @internal */
  constructor(
    packed: number,
    limits: readonly LimitInForce[],
    remaining: number,
    retryAfterMs: number,
    receipts: string,
    number: number,
    notOpen?: string,
  ) {
    super(packed, limits, remaining, retryAfterMs, notOpen);
    this.receipt = this.allowed ? (`${receipts}-${number}` as Receipt) : undefined;
  }

  /**
   * This decision, if it is allowed; else throws, for callers in whose code a denial is an error.
   *
   * @throws {@link DeniedError} when the request was denied
   */
  orThrow(): AllowedDecision {
    if (this.allowed) return this as AllowedDecision;
    throw new DeniedError(this);
  }
}

/**
 * The answers of a limiter that is not open, and why it is not.
 *
 * @internal
 */
export const notOpen = {
  decision: (why: string): Decision => new Decision(1, [], 0, -1, '', 0, why),
  peek: (why: string): Peek => new Peek(1, [], 0, -1, why),
};

/** A decision that lets the request go ahead. */
export type AllowedDecision = Decision & { readonly allowed: true; readonly receipt: Receipt };
