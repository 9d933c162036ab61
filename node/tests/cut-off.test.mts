import { expect, it } from 'vitest';
import { Limiter, type Config } from 'tallymesh';

import { NodeProcess, freeAddress, until } from './support.mjs';

const request = { session: 's' };

/** A node's settings whose three limits differ in what they do when cut off. */
function settings(id: string, listen: string, peer: string): Config {
  return {
    node: { id },
    storage: { inMemory: true },
    gossip: { listen, peers: [peer], interval: '20ms' },
    limits: (['allow', 'share', 'deny'] as const).map((whenCutOff) => ({
      name: whenCutOff,
      when: { tool: whenCutOff },
      per: ['session'],
      max: 10,
      window: 'session',
      whenCutOff,
    })),
  };
}

it.skipIf(process.platform === 'win32')('divides what is left while a member is silent whose connection stays', async () => {
  const [here, there] = [await freeAddress(), await freeAddress()];
  const other = await NodeProcess.start(settings('b', there, here));
  await using limiter = await Limiter.open(settings('a', here, there));
  await until('it knows the other', () => limiter.peers().some((peer) => peer.connected));
  const asked = (tool: string) => limiter.acquire({ ...request, tool });
  for (const tool of ['allow', 'share', 'deny']) {
    expect(asked(tool).allowed).toBe(true);
    expect(limiter.cap({ ...request, tool })).toBeUndefined();
  }
  expect(limiter.status().cutOff).toBeUndefined();

  other.freeze();
  await until('its silence is noticed', () => limiter.status().cutOff !== undefined);
  expect(limiter.status().cutOff).toMatchObject({ members: 2, side: 1, heard: ['a'], suspected: ['b'] });
  expect(limiter.cap({ ...request, tool: 'allow' })).toBeUndefined();
  // Of the 9 that are left, this side has 4, and one more or not by a draw that both sides make alike.
  const cap = limiter.cap({ ...request, tool: 'share' }) ?? NaN;
  expect([5, 6]).toContain(cap);
  for (let used = 1; used < cap; used += 1) expect(asked('share').allowed).toBe(true);
  for (const tool of ['share', 'deny']) expect(asked(tool)).toMatchObject({ allowed: false, cause: 'cut-off' });
  for (let time = 1; time < 10; time += 1) expect(asked('allow').allowed).toBe(true);
  expect(asked('allow')).toMatchObject({ allowed: false, cause: 'limit-reached' });

  other.thaw();
  await until('it is heard again', () => limiter.status().cutOff === undefined);
  expect(limiter.cap({ ...request, tool: 'share' })).toBeUndefined();
  await until('all is allowed again', () => asked('deny').allowed);
});
