/** One counter as it stands. */
export interface CounterReport {
  /** The name of the limit that counts in it, or of the part of this package that does. */
  readonly limit: string;
  /** The values of the labels that it is counted apart for, in the order of the limit's `per`. */
  readonly values: readonly string[];
  /** When its window began, in milliseconds since 1970; left out where there is no window. */
  readonly windowStart?: number;
  /** How long its window is, in milliseconds. */
  readonly windowMs?: number;
  /** Its value: the sum over all instances, which may be over 2^53 - 1, so a BigInt. */
  readonly value: bigint;
  /** When it ends, in milliseconds since 1970. */
  readonly expiresAt: number;
}

/** One peer, as of the last round. */
export interface PeerReport {
  /** The address from the config that leads to it; left out for a peer that only connected to us. */
  readonly address?: string;
  /** Who it is; left out until it has introduced itself. */
  readonly replica?: string;
  /** Whether a link to it is up. */
  readonly connected: boolean;
  /** How many of our own updates it has not confirmed yet. */
  readonly lag: number;
  /** Its clock minus ours, in milliseconds, within about half of `roundTripMs`. */
  readonly clockOffsetMs?: number;
  /** How long a message to it and back took last, in milliseconds. */
  readonly roundTripMs?: number;
  /** The limits of ours that say something else there: another maximum, window, `when` or `per` under the same name. */
  readonly differentLimits: readonly string[];
  /** How long ago it was last heard, in milliseconds. */
  readonly lastHeardMs?: number;
}

/** Whether the limiter runs, whether counts reach the disk, and what went wrong since the start. */
export interface HealthReport {
  /** Whether the limiter runs. Calls on a closed one throw, so `'closed'` is only seen in the instant before they do. */
  readonly state: 'running' | 'closing' | 'closed';
  /** Whether they do: `durability` is `'durable'`. */
  readonly durable: boolean;
  /**
   * `'durable'`: they do. `'in_memory'`: they are not meant to (`storage.inMemory`). `'failed'`: the disk failed; decisions
   * continue from memory, and the disk is tried again.
   */
  readonly durability: 'durable' | 'in_memory' | 'failed';
  /** What is wrong, each in a sentence: why the disk failed, which bound is reached. Empty when nothing is. */
  readonly reasons: readonly string[];
  /** How many counters are held, those included that have ended but are kept for stragglers. */
  readonly counters: number;
  /** Counters that were needed and not made, because `maxCounters` were held. */
  readonly countersRefused: number;
  /** Cells from peers that cannot be true and were dropped. */
  readonly cellsImplausible: number;
  /** Cells from peers that came after their counter's end and grace. */
  readonly cellsLate: number;
  /** Messages from peers that this version does not know and skipped. */
  readonly messagesUnknown: number;
}
