import { describe, expect, it } from 'vitest';

import { ConfigError, InvalidInputError, Limiter } from 'tallymesh';

import { until } from './support.mjs';

/** The pair of RFC 8032, 7.1, test 2. */
const PRIVATE = '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb';
const PUBLIC = '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c';

const settings = (id: string, peers: readonly string[], publicKey?: string) => ({
  node: { id },
  storage: { inMemory: true },
  gossip: { listen: '127.0.0.1:0', digestInterval: '100ms', peers },
  ...(publicKey === undefined ? {} : { operator: { publicKey } }),
  limits: [{ name: 'calls', max: 100, window: '1h' }],
});

/** How much the limit has counted: a peek says what would be left after one more. */
const used = (limiter: Limiter): number => 99 - limiter.peek({}).remaining;

describe('an operator', () => {
  it('quarantines and releases a node, and forgets a replica, on every node', async () => {
    await using a = await Limiter.open(settings('a', [], PUBLIC));
    await using b = await Limiter.open(settings('b', [a.address ?? ''], PUBLIC));
    for (let call = 0; call < 5; call += 1) b.acquire({});
    await until('a has heard', () => used(a) === 5);
    a.operator.quarantine('b', { for: '24h', operatorKey: PRIVATE });
    await until('it counts for nothing', () => used(a) === 0);
    await until('b was told', () => b.health().reasons.some((reason) => reason.includes('in quarantine')));
    expect(used(b)).toBe(5);
    const [entry] = b.status().operator;
    expect(entry).toMatchObject({ action: 'quarantine', subject: 'b', isTold: true, isInForce: true });
    a.operator.release('b', { operatorKey: PRIVATE });
    await until('it is back', () => used(a) === 5);
    const { replica } = b.status();
    a.operator.forget(replica, { operatorKey: PRIVATE });
    await until('b goes on as another', () => b.status().replica !== replica);
    await until('what it had told is gone', () => used(a) === used(b) && used(a) < 5);
  });

  it('is who has the private key', async () => {
    await using a = await Limiter.open(settings('a', [], PUBLIC));
    const other = '7f'.repeat(32);
    expect(() => a.operator.release('b')).toThrow(ConfigError);
    expect(() => a.operator.release('b', { operatorKey: other })).toThrow(/operator\.publicKey/);
    expect(() => a.operator.quarantine('b', { for: 'soon', operatorKey: PRIVATE })).toThrow(InvalidInputError);
    expect(() => a.operator.quarantine('b c', { for: '1h', operatorKey: PRIVATE })).toThrow(InvalidInputError);
    expect(() => a.operator.forget('b', { operatorKey: PRIVATE })).toThrow(InvalidInputError);
    const shown = [other.slice(1), 7].map((operatorKey) => {
      try {
        a.operator.release('b', { operatorKey: operatorKey as never });
        return '';
      } catch (error) {
        return String(error);
      }
    });
    for (const message of shown) expect(message).toContain('64 hex digits');
    expect(shown.join()).not.toContain(other.slice(0, 6));
    expect(a.status().operator).toStrictEqual([]);
    await using lone = await Limiter.open(settings('lone', []));
    expect(() => lone.operator.release('b', { operatorKey: PRIVATE })).toThrow(ConfigError);
    lone.operator.quarantine('b', { for: '1h' });
    expect(lone.status().operator).toMatchObject([{ isTold: false, isInForce: true }]);
  });
});
