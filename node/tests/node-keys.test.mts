import { describe, expect, it } from 'vitest';

import { ConfigError, InvalidInputError, Limiter, generateNodeKey, publicKeyOf } from 'tallymesh';

import { until } from './support.mjs';

const settings = (id: string, gossip: object) => ({
  node: { id },
  storage: { inMemory: true },
  gossip: { listen: '127.0.0.1:0', ...gossip },
});

const member = (id: string, key: string) => `${id}=${publicKeyOf(key)}`;

describe('keys of nodes', () => {
  it('make peers of the members, and are replaced and revoked while these run', async () => {
    const [first, second, next] = [generateNodeKey(), generateNodeKey(), generateNodeKey()];
    const members = [member('a', first), member('b', second)];
    await using a = await Limiter.open(settings('a', { nodeKey: first, members }));
    await using b = await Limiter.open(settings('b', { nodeKey: second, members, peers: [a.address] }));
    const keyOf = (limiter: Limiter) => limiter.peers().find((peer) => peer.connected)?.key;
    await until('they are connected', () => keyOf(a) === b.status().keys[0] && keyOf(b) === a.status().keys[0]);
    for (const limiter of [a, b]) await limiter.setMembers([member('a', next), ...members]);
    await a.setNodeKey(next);
    const [fingerprint] = a.status().keys;
    await until('the new one is in use', () => keyOf(b) === fingerprint);
    for (const limiter of [a, b]) await limiter.setMembers([member('a', next), member('b', second)]);
    expect(keyOf(b)).toBe(fingerprint);
    await a.setMembers([member('a', next)]);
    await until('it is gone', () => keyOf(a) === undefined);
    await until('it knows why', () => b.peers().some((peer) => peer.absence === 'unproven'));
  });

  it('are shown in no message, and say what is wrong', async () => {
    const key = generateNodeKey();
    const short = key.slice(1);
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect(() => publicKeyOf(short)).toThrow(ConfigError);
    expect(() => publicKeyOf(7 as never)).toThrow(InvalidInputError);
    const refused = async (gossip: object) => Limiter.open(settings('a', gossip)).catch((error: unknown) => String(error));
    const members = [member('a', key)];
    for (const [gossip, why] of [
      [{ nodeKey: key }, `a=${publicKeyOf(key)}`],
      [{ nodeKey: short, members }, '64 hex digits'],
      [{ nodeKey: key, members: [member('b', key)] }, 'config.gossip.members'],
      [{ nodeKey: key, members, key }, 'config.gossip.nodeKey'],
    ] as const) {
      const message = await refused(gossip);
      expect(message).toContain(why);
      expect(message).not.toContain(short.slice(0, 12));
    }
    await using limiter = await Limiter.open(settings('a', { nodeKey: key, members }));
    await expect(limiter.setMembers([])).rejects.toThrow(ConfigError);
    await expect(limiter.setMembers('a' as never)).rejects.toThrow(InvalidInputError);
    await expect(limiter.setNodeKey(generateNodeKey())).rejects.toThrow(ConfigError);
    await expect(limiter.setNodeKey(7 as never)).rejects.toThrow(InvalidInputError);
    await expect(limiter.setKeys([key])).rejects.toThrow(ConfigError);
    expect(JSON.stringify(limiter.status())).not.toContain(key);
  });
});
