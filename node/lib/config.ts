import { ConfigError, InvalidInputError } from './errors.js';
import { checkCount, checkObject, isPlainObject, show } from './validate.js';

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
}

/** How a node talks to its peers. */
export interface GossipConfig {
  /** The IP address and port to listen at, such as `'127.0.0.1:7946'`. Without it, the node only dials its peers. */
  readonly listen?: string;
  /** The other nodes, each as `host:port`; the node's own address is left out. Default: none. */
  readonly peers?: readonly string[];
  /** Listens beyond the loopback interface although peers neither authenticate nor encrypt. Default: false. */
  readonly insecure?: boolean;
  /** The time between two rounds in which changes are sent, on average; 1 ms to 1 minute. Default: `'50ms'`. */
  readonly interval?: Duration;
  /** The fraction of a limit from which a change is sent at once; 0 to 1. Default: 0.7. */
  readonly urgentAt?: number;
  /** The time after which nodes compare what they have; 10 ms to 1 minute. Default: `'1s'`. */
  readonly digestInterval?: Duration;
  /** How long opening may wait for the peers of the config to answer, and for their state; at most 1 minute. Default: `'1s'`. */
  readonly syncTimeout?: Duration;
  /** Up to this many nodes, each sends its own changes to every peer; 0 to 65,536. Default: 32. */
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
  /** The difference between a peer's clock and the node's from which it is logged; 1 ms to 1 hour. Default: `'500ms'`. */
  readonly clockOffsetMax?: Duration;
  /** The most connections at a time; 1 to 65,536. Default: 2,048. */
  readonly maxConnections?: number;
  /** The longest frame, in bytes; 16 KiB to 16 MiB. Default: 65,536. */
  readonly maxFrameBytes?: number;
  /** The most frames that wait for a slow peer; 1 to 16. Default: 8. */
  readonly maxFramesQueued?: number;
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
  /** The most replicas (nodes and their restarts) that the node remembers; 2 to 1,000,000. Default: 65,536. */
  readonly maxReplicas?: number;
  /** The most replicas in one counter; 2 to 1,000,000. Default: 1,024. */
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
  /** How much is allowed; 0 to 2^53 - 1. */
  readonly max: number;
  /** `'session'`, or the length of fixed windows that are aligned to UTC. */
  readonly window: Duration;
  /** With `window: 'session'`, how long a session lives after its last use. Default: `'1h'`. */
  readonly sessionTtl?: Duration;
}

/** What a limit may have; the type above, for what is checked while the program runs. */
const LIMIT_KEYS = Object.keys({
  name: true,
  when: true,
  per: true,
  max: true,
  window: true,
  sessionTtl: true,
  whenLabelMissing: true,
} satisfies Record<keyof LimitConfig, true>);

/**
 * The settings as JSON with the keys of the TOML file. The native half alone knows which values are allowed; here what JSON
 * would change in silence is refused, and what the native half could not name by its place in the object.
 *
 * @internal
 */
export function settingsJson(config: Config): string {
  checkObject('the config', config);
  try {
    const { limits, ...tables } = config;
    const settings = snakeCased('config', tables);
    return JSON.stringify(limits === undefined ? settings : { ...(settings as object), limit: limitEntries(limits) });
  } catch (error) {
    throw error instanceof InvalidInputError ? new ConfigError(error.message) : error;
  }
}

/**
 * What the native half says of the settings of this object, with its names: `config.gossip.maxFrameBytes`, not
 * `gossip.max_frame_bytes`. What is in quotes is a user's, and stays.
 *
 * @internal
 */
export function inConfig(error: unknown, config: Config): unknown {
  if (!(error instanceof ConfigError)) return error;
  const said = error.message.replace(/^config: /, '').replace(/^limit ("(?:[^"\\]|\\.)*"): \w+ = /, (start, name: string) => {
    const place = (config.limits ?? []).findLastIndex((limit) => JSON.stringify(limit.name) === name);
    return place < 0 ? start : `config.limits[${place}], ${start}`;
  });
  const message = said.replace(
    /"(?:[^"\\]|\\.)*"|`\w+`|\[(?:node|gossip|storage|counters)\]|\b(?:node|gossip|storage|counters)\.[a-z_]+|\b[a-z]+(?:_[a-z]+)+\b/g,
    (found) => {
      if (found.startsWith('"')) return found;
      if (found.startsWith('[')) return `config.${found.slice(1, -1)}`;
      if (found === '`limit`') return '`limits`';
      return found.includes('.') ? `config.${camel(found)}` : camel(found);
    },
  );
  return new ConfigError(message.startsWith('config.') ? message : `config: ${message}`);
}

function limitEntries(limits: unknown): unknown {
  const path = 'config.limits';
  if (!Array.isArray(limits)) throw new ConfigError(`${path} is ${show(limits)}: give an array of limits`);
  return limits.map((limit: unknown, place) => {
    const here = `${path}[${place}]`;
    checkObject(here, limit);
    const entry = snakeCased(here, limit);
    const { name, per = [], max, window, sessionTtl = '' } = limit as Partial<Record<string, unknown>>;
    for (const key of Object.keys(limit).filter((key) => !LIMIT_KEYS.includes(key))) {
      throw new ConfigError(`${here}.${key} is no part of a limit: those are ${LIMIT_KEYS.join(', ')}`);
    }
    checkString(`${here}.name`, name);
    checkCount(`${here}.max`, max);
    checkString(`${here}.window`, window);
    checkString(`${here}.sessionTtl`, sessionTtl);
    if (!Array.isArray(per)) throw new ConfigError(`${here}.per is ${show(per)}: give an array of labels`);
    per.forEach((label: unknown, place) => checkString(`${here}.per[${place}]`, label));
    return entry;
  });
}

function checkString(path: string, value: unknown): void {
  if (typeof value !== 'string') throw new ConfigError(`${path} is ${show(value)}: give a string`);
}

function snakeCased(path: string, value: unknown): unknown {
  if (typeof value === 'string') {
    if (value.isWellFormed() && !value.includes('\0')) return value;
    throw new ConfigError(`${path} is ${show(value)}: give well-formed text without NUL`);
  }
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value;
    throw new ConfigError(`${path} is ${value}: give a finite number`);
  }
  if (Array.isArray(value)) return value.map((item, place) => snakeCased(`${path}[${place}]`, item));
  // Of a Map, nothing would be seen, and the defaults would apply in its place.
  if (!isPlainObject(value)) {
    throw new ConfigError(`${path} is ${show(value)}: give what the type Config says, or leave it out`);
  }
  const entries = Object.entries(value).map(([key, item]) => {
    if (key.includes('_')) throw new ConfigError(`${path}.${key} is no setting: names are in camelCase, as ${camel(key)}`);
    if (path === 'config' && key === 'limit') throw new ConfigError('config.limit is no setting: limits are in config.limits');
    if (key !== 'when') return [snake(key), snakeCased(`${path}.${key}`, item)];
    // Its keys are labels of the user's.
    checkObject(`${path}.when`, item);
    const patterns = Object.entries(item).map(([label, pattern]) => {
      const here = `${path}.when.${label}`;
      checkString(here, pattern);
      return [label, snakeCased(here, pattern)];
    });
    return ['when', Object.fromEntries(patterns)];
  });
  return Object.fromEntries(entries);
}

function snake(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function camel(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
