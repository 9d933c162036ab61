/** The number of an admission, for {@link Limiter.refund}. */
export type Receipt = number & { readonly receipt: unique symbol };

/** Why a request was denied, for programs. */
export type DenialCause =
  'limit-reached' | 'cost-over-max' | 'too-many-counters' | 'key-too-long' | 'too-many-labels' | 'other';

/** By the number that the native half gives each. */
const CAUSES: readonly DenialCause[] = [
  'other',
  'limit-reached',
  'cost-over-max',
  'too-many-counters',
  'key-too-long',
  'too-many-labels',
  'other',
  'other',
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

/** The answer to a request: whether it may go ahead. */
export class Decision {
  /** Whether the request may go ahead. If so, every limit that matched is charged; if not, none is. */
  readonly allowed: boolean;
  /**
   * Allowed: what is left under the limit that is nearest to its end, as far as this instance knows; `Infinity` if no limit
   * matched. Denied: what is left under the limit that denied, which is less than the cost.
   */
  readonly remaining: number;
  /** The name of the limit that denied; of several, the one with the longest wait. */
  readonly limit: string | undefined;
  /**
   * How long until the counter that denied ends, in milliseconds: the window's end, or the end of the session if it stays
   * unused for so long. Undefined if allowed, and where waiting does not help.
   */
  readonly retryAfterMs: number | undefined;
  /** Why it was denied, for programs; undefined if allowed. */
  readonly cause: DenialCause | undefined;
  /** The number to refund the charge by; undefined if denied, and of a `peek`. */
  readonly receipt: Receipt | undefined;
  readonly #max: number;

  private constructor(
    allowed: boolean,
    remaining: number,
    limit: LimitInForce | undefined,
    retryAfterMs: number | undefined,
    cause: DenialCause | undefined,
    receipt: Receipt | undefined,
  ) {
    this.allowed = allowed;
    this.remaining = remaining;
    this.limit = limit?.name;
    this.retryAfterMs = retryAfterMs;
    this.cause = cause;
    this.receipt = receipt;
    this.#max = limit?.max ?? 0;
  }

  /** @internal */
  static allowed(remaining: number, receipt: Receipt | undefined): Decision {
    return new Decision(true, remaining, undefined, undefined, undefined, receipt);
  }

  /**
   * @internal
   * @param packed - `8 * place + reason`, see `src/decisions.rs`
   */
  static denied(packed: number, limits: readonly LimitInForce[], remaining: number, retryAfterMs: number): Decision {
    const cause = CAUSES[packed % 8];
    const limit = limits[Math.floor(packed / 8) - 1];
    return new Decision(false, remaining, limit, retryAfterMs < 0 ? undefined : retryAfterMs, cause, undefined);
  }

  /** Why it was denied, for people; undefined if allowed. */
  get reason(): string | undefined {
    const limit = `limit "${this.limit}"`;
    const wait = this.retryAfterMs === undefined ? '' : `; retry in ${this.retryAfterMs} ms`;
    switch (this.cause) {
      case undefined:
        return undefined;
      case 'limit-reached':
        return `${limit} of ${this.#max} reached (${this.remaining} left)${wait}`;
      case 'cost-over-max':
        return `the cost is over ${limit} of ${this.#max}`;
      case 'too-many-counters':
        return `${limit} needs a new counter and maxCounters are in use`;
      case 'key-too-long':
        return `the label values for ${limit} are longer than maxKeyBytes`;
      case 'too-many-labels':
        return 'the request has more labels than maxLabels';
      case 'other':
        return `denied by ${limit}`;
    }
  }

  /** The decision as `JSON.stringify` shows it, with the reason. */
  toJSON(): object {
    const { allowed, remaining, limit, retryAfterMs, cause, reason } = this;
    return { allowed, remaining: Number.isFinite(remaining) ? remaining : undefined, limit, retryAfterMs, cause, reason };
  }
}
