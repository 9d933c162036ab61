/** One counter as it stands. JSON takes no BigInt, so `JSON.stringify` shows `value` and `credit` as decimal text: `BigInt(text)`. */
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
  /**
   * How far below zero its sum is, where `value` says 0: what was taken twice, by instances that subtracted at one moment. What
   * is added next makes up for it first.
   */
  readonly credit: bigint;
  /** When it ends, in milliseconds since 1970. */
  readonly expiresAt: number;
}

/** One peer, as of the last round. */
export interface PeerReport {
  /**
   * The address that leads to it: from the config (the name there as long as that is not resolved), as other members tell it, or as
   * the peer says itself. Left out for one that connected to us and does not listen.
   */
  readonly address?: string;
  /**
   * How its address was learned. `'config'`: it is there. `'exchange'`: another member told it. `'dialed_us'`: it connected to us.
   * Left out for a name that is not resolved.
   */
  readonly source?: 'config' | 'exchange' | 'dialed_us';
  /** Since when this life of it has been a member, in milliseconds since 1970; left out until it has introduced itself. */
  readonly since?: number;
  /** Who it is; left out until it has introduced itself. */
  readonly replica?: string;
  /** Whether a link to it is up. */
  readonly connected: boolean;
  /**
   * Why none is; left out while one is. `'unresolved'`: its name was never resolved to an address. `'unanswered'`: no peer has
   * ever introduced itself at the address. `'stopped'`: it said that it stops. `'lost'`: it did not; it crashed, hangs, or the
   * network is cut. `'removed'`: one end took the other off its list of peers. `'refused'`: one end closed the connection over a bound of
   * its own, such as `gossip.maxFrameBytes`; its log says which. `'unreachable'`: other members have told the address, and it does not
   * answer here. `'other_cluster'`: at the address is a node of another cluster. `'unproven'`: what answers there does not prove that it
   * has a key of the cluster or of a member, or does not accept ours.
   */
  readonly absence?:
    'unresolved' | 'unanswered' | 'stopped' | 'removed' | 'refused' | 'lost' | 'unreachable' | 'other_cluster' | 'unproven';
  /** How many of our own updates it has not confirmed yet; of a peer that is not connected, as it last said. */
  readonly lag: number;
  /** Its clock minus ours, in milliseconds, within about half of `roundTripMs`. */
  readonly clockOffsetMs?: number;
  /** How long a message to it and back took last, in milliseconds. */
  readonly roundTripMs?: number;
  /** The limits of ours that say something else there: another maximum, window, `when` or `per` under the same name. */
  readonly differentLimits: readonly string[];
  /** The fingerprint of the key that the peer has proven, the cluster's or its own; left out without a connection or a key. */
  readonly key?: string;
  /** How long ago it was last heard, in milliseconds. */
  readonly lastHeardMs?: number;
}

/** Whether the limiter runs, and whether counts reach the disk. */
export interface Health {
  /** Whether the limiter runs. Calls on a closed one throw, so `'closed'` is only seen in the instant before they do. */
  readonly state: 'running' | 'closing' | 'closed';
  /** Whether they do: `durability` is `'durable'`. */
  readonly durable: boolean;
  /**
   * `'durable'`: they do. `'in_memory'`: they are not meant to (`storage.inMemory`). `'failed'`: the disk failed; decisions
   * continue from memory, and the disk is tried again.
   */
  readonly durability: 'durable' | 'in_memory' | 'failed';
  /**
   * What is wrong, each in a sentence: why the disk failed, which bound is reached, by how much the clock is behind, that others can
   * reach it and need no key. Empty if nothing.
   */
  readonly reasons: readonly string[];
}

/** What was rejected since the start, in numbers. */
export interface Rejections {
  /** Counters that were needed and not made, because `maxCounters` were held. */
  readonly countersRefused: number;
  /** Cells from peers that cannot be true and were dropped. */
  readonly cellsImplausible: number;
  /** Cells from peers that came after their counter's end and grace. */
  readonly cellsLate: number;
  /** Messages from peers that this version does not know and skipped. */
  readonly messagesUnknown: number;
  /** Addresses of members that peers told and that cannot be dialed. */
  readonly addressesImplausible: number;
  /**
   * How often peers sent something of a replica that there was no room to remember, because there were `counters.maxReplicas`. It is
   * asked for again until there is room.
   */
  readonly replicasRefused: number;
  /** Cells from peers that had no room in their counter, because it had those of `counters.maxReplicasPerCounter`; asked for again as well. */
  readonly cellsRefused: number;
  /** Connections that were closed at once, because there were `gossip.maxConnections`. */
  readonly connectionsRefused: number;
  /** Frames from peers that were longer than `gossip.maxFrameBytes`; each ended its connection. */
  readonly framesRefused: number;
  /**
   * How often what was due to a peer had to wait for a second or more, because `gossip.maxFramesQueued` frames waited for it already.
   * Nothing is lost by it.
   */
  readonly framesDelayed: number;
  /** How often addresses of peers were left out, because there were as many as a node takes (4,096). */
  readonly addressesRefused: number;
  /** Connections that came in and were closed, because they did not prove that they have a key of the cluster, or of a member. */
  readonly strangersRefused: number;
}

/** Whether the limiter runs, whether counts reach the disk, and what went wrong since the start. */
export interface HealthReport extends Health, Rejections {
  /** How many counters are held, those included that have ended but are kept for stragglers. */
  readonly counters: number;
  /**
   * How far the system's clock is behind the latest time that this instance acted on, in milliseconds: 0, unless the clock was set
   * back. Until it has caught up, time stands still here: windows do not roll over, and waits are longer by so much.
   */
  readonly clockBehindMs: number;
  /** Requests that no limit applied to, allowed or denied as `counters.unmatched` says. */
  readonly requestsUnmatched: number;
}

/** What a limiter leaves behind that has closed. */
export interface Closed {
  /**
   * How many updates of its own no peer has confirmed: they are on its disk only, and reach the others when it is opened again; without
   * a disk they are lost. 0 for one that never knew of a peer.
   */
  readonly unconfirmed: number;
}

/** A cut, as this instance sees it: some members are silent and did not say goodbye. */
export interface CutOffReport {
  /** How many members there were when it was noticed, this one included; those that left since are none any more. */
  readonly members: number;
  /** How many of them are on this side. */
  readonly side: number;
  /** Who is heard, this one included, by name. */
  readonly heard: readonly string[];
  /** Who is silent, by name; one that was never met by its address. */
  readonly suspected: readonly string[];
  /** Since when some member has been silent, in milliseconds since 1970. */
  readonly since: number;
}

/** How an instance is doing, at one moment. */
export interface StatusReport {
  /** The replica that it writes as: the node's name and what tells this start from others. */
  readonly replica: string;
  /** Where it listens, with the real port if the config said port 0; left out if it does not. */
  readonly address?: string;
  /** Whether it runs, and whether counts reach the disk. */
  readonly health: Health;
  /** Where the database was put, if it was found damaged when the limiter was opened; left out otherwise. */
  readonly setAside?: string;
  /** The peers, as of the last round. */
  readonly peers: readonly PeerReport[];
  /** The fingerprints of the cluster keys that are accepted, first that of the one to dial with, or of the own key; empty where there is no key. */
  readonly keys: readonly string[];
  /**
   * How many members the cluster has, as far as this instance knows, itself included: those that are connected, those that were lost
   * less than a day ago, and those that others tell of. Who said goodbye is none any more.
   */
  readonly clusterSize: number;
  /**
   * Which members are silent without a goodbye, and on which side of the cut this instance is; left out while none is, or where no limit
   * has `whenCutOff` of `'share'` or `'deny'`.
   */
  readonly cutOff?: CutOffReport;
  /** Whether it is ready to be asked: see {@link Limiter.ready}. */
  readonly ready: boolean;
  /** What it waits for before it is ready, or does without because that took too long, each in a sentence. */
  readonly waitingFor: readonly string[];
  /** How many counters are held, those included that have ended but are kept for stragglers. */
  readonly counters: number;
  /** What was rejected since the start. */
  readonly rejections: Rejections;
  /**
   * How far the system's clock is behind the latest time that this instance acted on, in milliseconds: 0, unless the clock was set
   * back. Until it has caught up, time stands still here: windows do not roll over, and waits are longer by so much.
   */
  readonly clockBehindMs: number;
  /** Requests that no limit applied to, allowed or denied as `counters.unmatched` says. */
  readonly requestsUnmatched: number;
  /**
   * Lines that were left out of the log, because this node, a peer, or all strangers together had caused as many as they may; and those
   * of the whole process that could not be written.
   */
  readonly logLinesDropped: number;
  /** How often a thread of the addon stopped and was started again. Over 0, there is something to report. */
  readonly threadRestarts: number;
}
