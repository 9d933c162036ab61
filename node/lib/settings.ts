/** Every setting of a {@link Config}, one row each: a test of the native half holds them to its own rows. */

import type { LimitConfig } from './config.js';

/** One setting. */
export interface Setting {
  readonly kind: 'text' | 'texts' | 'secret' | 'flag' | 'word' | 'duration' | 'count' | 'fraction';
  /** What it may be, in the native half's words. */
  readonly allowed: string;
  /** What applies without it; left out where that is nothing. */
  readonly default?: string;
}

/** By their paths in the object. */
export const SETTINGS: Readonly<Record<string, Setting>> = {
  'node.id': { kind: 'text', allowed: 'text' },
  'node.dataDir': { kind: 'text', allowed: 'text' },
  'node.slots': { kind: 'count', allowed: '1 to 1024' },
  'node.slot': { kind: 'count', allowed: '0 to 1023' },
  'node.control': { kind: 'text', allowed: 'text' },
  'gossip.cluster': { kind: 'text', allowed: 'text', default: 'default' },
  'gossip.listen': { kind: 'text', allowed: 'text' },
  'gossip.advertise': { kind: 'text', allowed: 'text' },
  'gossip.peers': { kind: 'texts', allowed: 'a list of texts', default: '[]' },
  'gossip.peerExchange': { kind: 'flag', allowed: 'true or false', default: 'true' },
  'gossip.key': { kind: 'secret', allowed: '1 to 4 keys of 64 hex digits, with commas between them' },
  'gossip.keyFile': { kind: 'text', allowed: 'text' },
  'gossip.nodeKey': { kind: 'secret', allowed: 'a key of 64 hex digits' },
  'gossip.nodeKeyFile': { kind: 'text', allowed: 'text' },
  'gossip.members': { kind: 'texts', allowed: 'a list of texts' },
  'gossip.tlsCertificate': { kind: 'text', allowed: 'text' },
  'gossip.tlsKey': { kind: 'text', allowed: 'text' },
  'gossip.tlsAuthorities': { kind: 'text', allowed: 'text' },
  'gossip.tlsRevoked': { kind: 'text', allowed: 'text' },
  'gossip.insecure': { kind: 'flag', allowed: 'true or false', default: 'false' },
  'gossip.interval': { kind: 'duration', allowed: '1ms to 1m', default: '50ms' },
  'gossip.urgentAt': { kind: 'fraction', allowed: '0.0 to 1.0', default: '0.7' },
  'gossip.digestInterval': { kind: 'duration', allowed: '10ms to 1m', default: '1s' },
  'gossip.syncTimeout': { kind: 'duration', allowed: '0s to 1m', default: '1s' },
  'gossip.readyTimeout': { kind: 'duration', allowed: '0s to 10m', default: '10s' },
  'gossip.leaveTimeout': { kind: 'duration', allowed: '0s to 1m', default: '1s' },
  'gossip.directUpTo': { kind: 'count', allowed: '0 to 65536', default: '128' },
  'gossip.fanout': { kind: 'count', allowed: '1 to 1024', default: '4' },
  'gossip.handshakeTimeout': { kind: 'duration', allowed: '100ms to 1m', default: '5s' },
  'gossip.silenceTimeout': { kind: 'duration', allowed: '100ms to 10m', default: '5s' },
  'gossip.presumedDeadAfter': { kind: 'duration', allowed: '1s to 1day, or "never"', default: '60s' },
  'gossip.clockOffsetMax': { kind: 'duration', allowed: '1ms to 1h', default: '500ms' },
  'gossip.maxConnections': { kind: 'count', allowed: '1 to 65536', default: '2048' },
  'gossip.maxFrameBytes': { kind: 'count', allowed: '16384 to 16777216', default: '65536' },
  'gossip.maxFramesQueued': { kind: 'count', allowed: '1 to 16', default: '8' },
  'operator.publicKey': { kind: 'text', allowed: 'text' },
  'storage.durability': { kind: 'word', allowed: '"relaxed" or "sync"', default: 'relaxed' },
  'storage.persistEvery': { kind: 'duration', allowed: '1ms to 1m', default: '10ms' },
  'storage.inMemory': { kind: 'flag', allowed: 'true or false', default: 'false' },
  'counters.maxCounters': { kind: 'count', allowed: '1 to 100000000', default: '1000000' },
  'counters.whenFull': { kind: 'word', allowed: '"deny" or "allow"', default: 'deny' },
  'counters.unmatched': { kind: 'word', allowed: '"allow" or "deny"', default: 'allow' },
  'counters.maxKeyBytes': { kind: 'count', allowed: '16 to 8192', default: '512' },
  'counters.maxLabels': { kind: 'count', allowed: '1 to 1024', default: '16' },
  'counters.maxReplicas': { kind: 'count', allowed: '2 to 1000000', default: '262144' },
  'counters.maxReplicasPerCounter': { kind: 'count', allowed: '2 to 1000000', default: '131072' },
  'counters.grace': { kind: 'duration', allowed: '100ms to 1day', default: '60s' },
  'counters.futureMax': { kind: 'duration', allowed: '100ms to 1day', default: '10m' },
  'counters.ttl': { kind: 'duration', allowed: '1ms to 366days', default: '24h' },
};

/** What a limit may have, by key. Of `when`, each pattern. */
export const LIMIT_PARTS: Readonly<Record<keyof LimitConfig, Setting>> = {
  name: { kind: 'text', allowed: '1 to 128 bytes' },
  when: { kind: 'text', allowed: 'a pattern' },
  per: { kind: 'texts', allowed: 'labels' },
  max: { kind: 'count', allowed: '0 to 2^53 - 1' },
  window: { kind: 'duration', allowed: '"session", or 1ms to 366 days' },
  sessionTtl: { kind: 'duration', allowed: '1ms to 366 days', default: '1h' },
  whenCutOff: { kind: 'word', allowed: '"allow", "share" or "deny"', default: 'allow' },
  whenLabelMissing: { kind: 'word', allowed: '"deny" or "skip"', default: 'deny' },
};

/** A name of the file in camelCase: `gossip.maxFrameBytes` of `gossip.max_frame_bytes`. */
export function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** A name of the object as the file has it. */
export function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The settings' paths in a file, each by itself: not within a longer name, a quoted text or a path of the file system. */
const FILE_PATHS = new RegExp(
  `"(?:[^"\\\\]|\\\\.)*"|(?<![\\w./\\\\-])(?:${Object.keys(SETTINGS)
    .map((path) => snake(path).replace('.', '\\.'))
    .join('|')})(?![\\w/\\\\-])`,
  'g',
);

/** A sentence of the native half with the settings that it names called as the object has them, after `prefix`. */
export function fileNamesReplaced(text: string, prefix = ''): string {
  return text.replace(FILE_PATHS, (found) => (found.startsWith('"') ? found : prefix + camel(found)));
}
