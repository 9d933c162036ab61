/** A length of time with its unit, such as `'50ms'`, `'10s'`, `'1h'`, `'1h 30m'` or `'30d'`; months and years are refused. */
export type Duration = string;

/**
 * The settings of a limiter, given as an object: the environment is not looked at. They are those of the TOML file, in camelCase, with the limits in `limits`; a test of the native half
 * holds them to its own list.
 */
export interface Config {
  /** Which node this is. */
  readonly node: NodeConfig;
  /** How it talks to its peers. */
  readonly gossip?: GossipConfig;
  /** Whom it believes to be the operator. */
  readonly operator?: OperatorConfig;
  /** How it keeps its counts on disk. */
  readonly storage?: StorageConfig;
  /** How many counters it keeps, and for how long. */
  readonly counters?: CountersConfig;
  /** The limits in force; a request must pass every one that matches it. */
  readonly limits?: readonly LimitConfig[];
}

/** Which node this is. */
export interface NodeConfig {
  /**
   * The node's name: unique in the cluster, the same after a restart; 1 to 64 ASCII letters, digits, `.`, `_` or `-`.
   * `'@hostname'` stands for the machine's host name.
   */
  readonly id: string;
  /** The directory for the state, of this node alone; required unless `storage.inMemory` is set. */
  readonly dataDir?: string;
  /**
   * How many processes share these settings; 1 to 1,024. Each takes a slot N, a number from 0 on that no other process holds, and is the
   * node `ID-N`, with its state in `dataDir/N`, at the ports of `gossip.listen` and `gossip.advertise` plus N; the other slots are its
   * peers. A process that is started after another one ended takes its slot, and goes on as the same node. Default: none.
   */
  readonly slots?: number;
  /**
   * The slot of this process, below `slots` (0 to 1,023), where what starts the processes numbers them. Default: none, which takes the
   * first that is free.
   */
  readonly slot?: number;
  /**
   * The path of a unix socket, of at most 100 bytes, at which the owner of the process, and no other user, can ask what the node has
   * counted, who brought it, and reset counters, with `tallymesh ctl`. With `slots`, `-N` is added to the name, before its extension.
   * `'off'` is for none. Not on Windows. Default: none.
   */
  readonly control?: string;
}

/** How a node talks to its peers. */
export interface GossipConfig {
  /** The cluster's name: nodes of another one are refused; 1 to 64 ASCII letters, digits, `.`, `_` or `-`. Default: default. */
  readonly cluster?: string;
  /** The IP address and port to listen at, such as `'127.0.0.1:7946'`. Without it, the node only dials its peers. */
  readonly listen?: string;
  /**
   * The IP address and port that other nodes are told to dial. Without it, the port that this node listens at, at the address that
   * they see.
   */
  readonly advertise?: string;
  /**
   * Where the other nodes are, in at most 4,096 entries that lead to at most 4,096 addresses. Each is `host:port` (a name may have
   * several addresses, and is looked up every 5 s), `srv:name` (the targets of its SRV records; only in a build
   * with the cargo feature `srv`, which the published package is not) or `file:path` (one `host:port` a line,
   * `#` begins a comment; read again when it changes). The node's own address is left out. Default: none.
   */
  readonly peers?: readonly string[];
  /**
   * Learns the addresses of other members from the peers that the node dialed, at most 4,096; only with a key, if it listens on a
   * loopback address, or with `insecure`. Default: true.
   */
  readonly peerExchange?: boolean;
  /**
   * The cluster's secret key, 64 hex digits, as `tallymesh keygen` or `openssl rand -hex 32` prints it: only who has it is a peer, and
   * what peers say is encrypted. Up to four with commas between them: the first is used to dial, all are accepted. See
   * `Limiter.setKeys`. Default: none.
   */
  readonly key?: string;
  /** The path of a file with the cluster's keys, one a line, that only its owner can read; in the place of `key`. Default: none. */
  readonly keyFile?: string;
  /**
   * The secret key that this node has alone, 64 hex digits, as {@link generateNodeKey} or `tallymesh keygen --node` makes it, in the
   * place of `key`: by it the others know that it is this node and no other. Who they are, `members` says. Default: none.
   */
  readonly nodeKey?: string;
  /** The path of a file with the node's key, that only its owner can read; in the place of `nodeKey`. Default: none. */
  readonly nodeKeyFile?: string;
  /**
   * The nodes that may be peers, with a node key: each as `node=public key`, this node among them, at most 4,096. A node may have up to
   * four keys, each as an entry of its own: all are accepted, and its links are made again until they are under the first. See
   * `Limiter.setMembers`. Default: none.
   */
  readonly members?: readonly string[];
  /**
   * The path of a file with this node's certificate in PEM: peers prove themselves by certificates, in TLS. Only in a build with the cargo
   * feature `tls`, which the published package is not: it refuses this and the next three. Default: none.
   */
  readonly tlsCertificate?: string;
  /** The path of a file with that certificate's private key in PEM. Default: none. */
  readonly tlsKey?: string;
  /** The path of a file with the certificates of the authorities whose certificates are accepted. Default: none. */
  readonly tlsAuthorities?: string;
  /** The path of a file with those authorities' lists of revoked certificates. Default: none. */
  readonly tlsRevoked?: string;
  /** Listens beyond the loopback interface without a key: peers then neither authenticate nor encrypt. Default: false. */
  readonly insecure?: boolean;
  /** The time between two rounds in which changes are sent, on average; 1 ms to 1 minute. Default: `'50ms'`. */
  readonly interval?: Duration;
  /** The fraction of a limit from which a change is sent at once; 0 to 1. Default: 0.7. */
  readonly urgentAt?: number;
  /** The time after which nodes compare what they have; 10 ms to 1 minute. Default: `'1s'`. */
  readonly digestInterval?: Duration;
  /** How long opening may wait for the peers of the config to answer, and for their state; at most 1 minute. Default: `'1s'`. */
  readonly syncTimeout?: Duration;
  /**
   * How long after the start the node calls itself ready at the latest, whatever peers have not answered or are still sending; at most
   * 10 minutes. Default: `'10s'`.
   */
  readonly readyTimeout?: Duration;
  /** How long a node that stops waits for a peer to confirm its last counts; at most 1 minute. Default: `'1s'`. */
  readonly leaveTimeout?: Duration;
  /** Up to this many nodes, each sends its own changes to every peer; 0 to 65,536. Default: 128. */
  readonly directUpTo?: number;
  /** In a larger cluster, the number of random peers that each round sends changes to; 1 to 1,024. Default: 4. */
  readonly fanout?: number;
  /** How long a peer may take to introduce itself; 100 ms to 1 minute. Default: `'5s'`. */
  readonly handshakeTimeout?: Duration;
  /**
   * How long a peer may be silent before its connection is closed; 100 ms to 10 minutes, and at least twice the digest interval.
   * Default: `'5s'`.
   */
  readonly silenceTimeout?: Duration;
  /**
   * How long a member may be silent without a goodbye until limits with `whenCutOff` of `'share'` or `'deny'` take it for dead; 1 second
   * to 1 day, or `'never'`. After that each side of a cut has the whole limit. Default: `'60s'`.
   */
  readonly presumedDeadAfter?: Duration | 'never';
  /** The difference between a peer's clock and the node's from which it is logged; 1 ms to 1 hour. Default: `'500ms'`. */
  readonly clockOffsetMax?: Duration;
  /** The most connections at a time; 1 to 65,536. Default: 2,048. */
  readonly maxConnections?: number;
  /** The longest frame, in bytes; 16 KiB to 16 MiB. Default: 65,536. */
  readonly maxFrameBytes?: number;
  /** The most frames that wait for a slow peer; 1 to 16. Default: 8. */
  readonly maxFramesQueued?: number;
}

/** Whom a node believes to be the operator. */
export interface OperatorConfig {
  /**
   * The public half of the operator's key, 64 hex digits, as `tallymesh keygen --operator` prints it: what its private half has signed is
   * done on every node that has it. Without it, `limiter.operator.quarantine` and `forget` hold on this node alone. Default: none.
   */
  readonly publicKey?: string;
}

/** How counts are kept on disk. */
export interface StorageConfig {
  /** `'relaxed'` (the default): write every `persistEvery`. `'sync'`: write as soon as there is something to write. */
  readonly durability?: 'relaxed' | 'sync';
  /** The time between two checkpoints, which a crash may lose; only with `'relaxed'`; 1 ms to 1 minute. Default: `'10ms'`. */
  readonly persistEvery?: Duration;
  /** Keeps the state in memory only; a restart begins with what the peers have. Default: false. */
  readonly inMemory?: boolean;
}

/** How many counters a node keeps, and for how long. */
export interface CountersConfig {
  /** The most counters in memory; 1 to 100,000,000. Default: 1,000,000. */
  readonly maxCounters?: number;
  /** What happens to a request that needs a counter past that: `'deny'` (the default), or `'allow'` uncounted. */
  readonly whenFull?: 'deny' | 'allow';
  /**
   * What happens to a request that no limit applies to, also where there are no limits: `'allow'` (the default), uncounted but
   * noted in `health()`, or `'deny'`.
   */
  readonly unmatched?: 'allow' | 'deny';
  /** The longest key, in bytes: a limit's name and label values together; 16 to 8,192. Default: 512. */
  readonly maxKeyBytes?: number;
  /** The most labels of a request; 1 to 1,024. Default: 16. */
  readonly maxLabels?: number;
  /** The most replicas (nodes and their restarts) that the node remembers; 2 to 1,000,000. Default: 262,144. */
  readonly maxReplicas?: number;
  /** The most replicas in one counter; 2 to 1,000,000. Default: 131,072. */
  readonly maxReplicasPerCounter?: number;
  /** How long an expired counter is kept for changes that arrive late; 100 ms to 1 day. Default: `'60s'`. */
  readonly grace?: Duration;
  /** How far ahead of the node's clock a peer's window may begin; 100 ms to 1 day. Default: `'10m'`. */
  readonly futureMax?: Duration;
  /**
   * How long a counter of `toolRateLimiter` or of an adapter is kept after its last change; 1 ms to 366 days.
   * Default: `'24h'`.
   */
  readonly ttl?: Duration;
}

/** One limit: at most `max` in each window, counted apart for each distinct value of `per`. */
export interface LimitConfig {
  /** Its name, unique among the limits; 1 to 128 bytes. */
  readonly name: string;
  /** Which requests it is for: label to pattern, with `*` for any text and `?` for one character. Default: all. */
  readonly when?: Readonly<Record<string, string>>;
  /** The labels that it is counted apart for. Default: one counter for all requests. */
  readonly per?: readonly string[];
  /**
   * What happens to a request that matches and lacks a label of `per`: `'deny'` (the default), or `'skip'`: the limit does not
   * apply to it.
   */
  readonly whenLabelMissing?: 'deny' | 'skip';
  /**
   * What it allows while some member of the cluster is silent without a goodbye: `'allow'` (the default), where each side of a cut goes
   * on by what it sees; `'share'`, where each side admits its share of what was left; or `'deny'`, where a side of at most half of the
   * members refuses. The latter two hold the limit until `gossip.presumedDeadAfter`.
   */
  readonly whenCutOff?: 'allow' | 'share' | 'deny';
  /** How much is allowed; 0 to 2^53 - 1. */
  readonly max: number;
  /** `'session'`, or the length of fixed windows that are aligned to UTC. */
  readonly window: Duration;
  /** With `window: 'session'`, how long a session lives after its last use. Default: `'1h'`. */
  readonly sessionTtl?: Duration;
}
