import { ConfigError, InvalidInputError } from './errors.js';
import { checkObject, show } from './validate.js';

/** A length of time with its unit, such as `'50ms'`, `'10s'`, `'1h'` or `'1h 30m'`. */
export type Duration = string;

/** The settings of a limiter. They are those of the TOML file, in camelCase, with the limits in `limits`. */
export interface Config {
  /** Who this instance is. */
  readonly node: NodeConfig;
  /** How it talks to the others. */
  readonly gossip?: GossipConfig;
  /** How it keeps its counts on disk. */
  readonly storage?: StorageConfig;
  /** What it holds at the most. */
  readonly counters?: CountersConfig;
  /** The limits in force; a request must pass every one that matches it. */
  readonly limits?: readonly LimitConfig[];
}

/** Who an instance is. */
export interface NodeConfig {
  /** Its name: unique in the cluster, the same after a restart; 1 to 64 ASCII letters, digits, `.`, `_` or `-`. */
  readonly id: string;
  /** The directory of this instance alone; required unless `storage.inMemory` is set. */
  readonly dataDir?: string;
}

/** How instances talk to each other. */
export interface GossipConfig {
  /** The IP address and port to listen at, such as `'127.0.0.1:7946'`. Without it, the instance only dials. */
  readonly listen?: string;
  /** The others, each as `host:port`. Its own address among them does no harm. */
  readonly peers?: readonly string[];
  /** Listen beyond loopback although peers neither authenticate nor encrypt. Default: false. */
  readonly insecure?: boolean;
  /** How often changes are sent, on average; 1 ms to 1 minute. Default: `'50ms'`. */
  readonly interval?: Duration;
  /** The fraction of a limit from which a change is sent at once, 0 to 1. Default: 0.7. */
  readonly urgentAt?: number;
  /** How often instances compare what they have; 10 ms to 1 minute. Default: `'1s'`. */
  readonly digestInterval?: Duration;
  /** How long opening may wait for the peers' state; at most 1 minute. Default: `'1s'`. */
  readonly syncTimeout?: Duration;
  /** When a peer that does not introduce itself is given up; 100 ms to 1 minute. Default: `'5s'`. */
  readonly handshakeTimeout?: Duration;
  /** When a silent peer is given up; 100 ms to 10 minutes. Default: `'5s'`. */
  readonly silenceTimeout?: Duration;
  /** From which difference a peer's clock is warned about; 1 ms to 1 hour. Default: `'500ms'`. */
  readonly clockOffsetMax?: Duration;
  /** Up to how many nodes each sends to all others; 0 to 65,536. Default: 32. */
  readonly directUpTo?: number;
  /** In a larger cluster, how many peers hear of news each round; 1 to 1,024. Default: 4. */
  readonly fanout?: number;
  /** The most connections; 1 to 65,536. Default: 2,048. */
  readonly maxConnections?: number;
  /** The longest frame in bytes; 16 KiB to 16 MiB. Default: 65,536. */
  readonly maxFrameBytes?: number;
  /** The most frames that wait for a slow peer; 1 to 16. Default: 8. */
  readonly maxFramesQueued?: number;
}

/** How counts are kept on disk. */
export interface StorageConfig {
  /** `'relaxed'` (the default): write every so often. `'sync'`: write as soon as there is something to write. */
  readonly durability?: 'relaxed' | 'sync';
  /** With `'relaxed'`, the time between two writes, which a crash may lose; 1 ms to 1 minute. Default: `'10ms'`. */
  readonly persistEvery?: Duration;
  /** Keep nothing on disk: a restart begins with what the peers hold. Default: false. */
  readonly inMemory?: boolean;
}

/** What an instance holds at the most. */
export interface CountersConfig {
  /** Counters; 1 to 100,000,000. Default: 1,000,000. */
  readonly maxCounters?: number;
  /** What becomes of requests that need a counter past that: denied (the default), or admitted uncounted. */
  readonly whenFull?: 'deny' | 'allow';
  /** Bytes of a limit's name and label values together; 16 to 8,192. Default: 512. */
  readonly maxKeyBytes?: number;
  /** Labels of a request; 1 to 1,024. Default: 16. */
  readonly maxLabels?: number;
  /** Replicas known; 2 to 1,000,000. Default: 65,536. */
  readonly maxReplicas?: number;
  /** Replicas in one counter; 2 to 1,000,000. Default: 1,024. */
  readonly maxReplicasPerCounter?: number;
  /** How long an ended counter is kept for stragglers; 100 ms to 1 day. Default: `'60s'`. */
  readonly grace?: Duration;
  /** How far ahead a peer's window may begin; 100 ms to 1 day. Default: `'10m'`. */
  readonly futureMax?: Duration;
  /** How long the counters of `toolRateLimiter` and of the adapters live after their last change. Default: `'24h'`. */
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
  /** How much is allowed; 0 to 2^53 - 1. */
  readonly max: number;
  /** `'session'`, or the length of fixed windows that are aligned to UTC. */
  readonly window: Duration;
  /** With `window: 'session'`, how long a session lives after its last use. Default: `'1h'`. */
  readonly sessionTtl?: Duration;
}

/**
 * The settings as JSON with the keys of the TOML file. What values are allowed is known by the native half alone; here is
 * only refused what JSON would alter in silence.
 *
 * @internal
 */
export function settingsJson(config: Config): string {
  checkObject('the config', config);
  const { limits, ...tables } = config;
  const settings = snakeCased('config', { ...tables, ...(limits === undefined ? {} : { limit: limits }) });
  return JSON.stringify(settings);
}

function snakeCased(path: string, value: unknown): unknown {
  if (typeof value === 'string') {
    if (value.isWellFormed() && !value.includes('\0')) return value;
    throw new InvalidInputError(`${path} is ${show(value)}: give well-formed text without NUL`);
  }
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value;
    throw new ConfigError(`${path} is ${value}: give a finite number`);
  }
  if (Array.isArray(value)) return value.map((item, place) => snakeCased(`${path}[${place}]`, item));
  if (typeof value !== 'object' || value === null) {
    throw new ConfigError(`${path} is ${show(value)}: give what the type Config says, or leave it out`);
  }
  const entries = Object.entries(value).map(([key, item]) => {
    if (key !== 'when') return [snake(key), snakeCased(`${path}.${key}`, item)];
    // Its keys are labels of the user's.
    checkObject(`${path}.when`, item);
    const patterns = Object.entries(item).map(([label, pattern]) => [label, snakeCased(`${path}.when.${label}`, pattern)]);
    return ['when', Object.fromEntries(patterns)];
  });
  return Object.fromEntries(entries);
}

function snake(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
