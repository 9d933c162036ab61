import { describe, expect, it } from 'vitest';

import { ConfigError, InvalidInputError, Limiter } from 'tallymesh';

import { until } from './support.mjs';

const [OLD, NEW] = ['7f'.repeat(32), '6e'.repeat(32)];
const FINGERPRINT = '260e32fffb57070c';

const settings = (id: string, gossip: object) => ({
  node: { id },
  storage: { inMemory: true },
  gossip: { listen: '127.0.0.1:0', ...gossip },
});

describe('keys of a cluster', () => {
  it('make peers of those who have them, and are replaced while these run', async () => {
    await using a = await Limiter.open(settings('a', { key: OLD }));
    await using b = await Limiter.open(settings('b', { key: OLD, peers: [a.address] }));
    const all = (key: string) => [a, b].every((limiter) => limiter.peers().some((peer) => peer.connected && peer.key === key));
    await until('they are connected', () => all(FINGERPRINT));
    expect(a.status().keys).toStrictEqual([FINGERPRINT]);
    for (const limiter of [a, b]) await limiter.setKeys([OLD, NEW]);
    for (const limiter of [a, b]) await limiter.setKeys([NEW, OLD]);
    const [fingerprint = ''] = a.status().keys;
    await until('the new one is in use', () => all(fingerprint));
    for (const limiter of [a, b]) await limiter.setKeys([NEW]);
    expect(all(fingerprint)).toBe(true);
    await using c = await Limiter.open(settings('c', { key: OLD, peers: [a.address] }));
    await until('it is refused', () => c.peers().some((peer) => peer.absence === 'unproven'));
    expect(a.health().strangersRefused).toBeGreaterThan(0);
  });

  it('are shown in no message', async () => {
    const short = OLD.slice(1);
    const refused = async (key: unknown) => Limiter.open(settings('a', { key })).catch((error: unknown) => String(error));
    for (const key of [short, [OLD], Number(OLD.slice(0, 8).replace(/f/g, '7')), `${OLD},${OLD}`]) {
      const message = await refused(key);
      expect(message).toContain('config.gossip.key');
      expect(message).not.toContain(OLD.slice(0, 6));
    }
    await using limiter = await Limiter.open(settings('a', { key: OLD }));
    await expect(limiter.setKeys([short])).rejects.toThrow(ConfigError);
    await expect(limiter.setKeys([])).rejects.toThrow(ConfigError);
    await expect(limiter.setKeys(OLD as never)).rejects.toThrow(InvalidInputError);
    const shown = await limiter.setKeys([short]).catch((error: unknown) => String(error));
    expect(shown).toContain('64 hex digits');
    expect(shown).not.toContain(short.slice(0, 6));
    expect(JSON.stringify(limiter.status())).not.toContain(OLD);
  });
});
