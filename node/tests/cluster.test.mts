import { describe, expect, it } from 'vitest';
import type { Config } from 'tallymesh';

import { NodeProcess, freeAddress, temporaryDirectory, until } from './support.mjs';

const call = { session: 's', tool: 'book_service' };

/** The settings of two nodes that know each other. */
async function two(): Promise<[Config, Config]> {
  const addresses = [await freeAddress(), await freeAddress()] as const;
  const config = (id: string, own: string, other: string): Config => ({
    node: { id, dataDir: temporaryDirectory() },
    gossip: { listen: own, peers: [other], interval: '5ms' },
    limits: [{ name: 'calls', per: ['session'], max: 3, window: 'session' }],
  });
  return [config('a', ...addresses), config('b', addresses[1], addresses[0])];
}

function connected(...nodes: NodeProcess[]): Promise<void> {
  return until('all are connected', async () => {
    const peers = await Promise.all(nodes.map((node) => node.ask('peers', null)));
    return peers.every((list) => list.some((peer) => peer.connected));
  });
}

describe('two processes', () => {
  it('share limits, those of the config and those of tools', async () => {
    const [a, b] = await Promise.all((await two()).map((config) => NodeProcess.start(config)));
    if (a === undefined || b === undefined) throw new Error('two configs');
    await connected(a, b);

    for (let number = 0; number < 3; number += 1) {
      expect((await a.ask('acquire', call)).allowed).toBe(true);
      expect((await a.ask('tryCall', call)).allowed).toBe(true);
    }
    await until('the other knows', async () => (await b.ask('stats', call)).session['book_service'] === 3);
    await until('the other denies', async () => !(await b.ask('acquire', call)).allowed);
    expect(await b.ask('tryCall', call)).toStrictEqual({ allowed: false, reason: 'book_service max per session (3) reached' });
  });
});

describe('a process that is killed', () => {
  it('has lost nothing durable when it starts again, alone', async () => {
    const [config] = await two();
    const before = await NodeProcess.start(config);
    for (let number = 0; number < 3; number += 1) {
      expect((await before.ask('tryCall', call)).allowed).toBe(true);
      expect((await before.ask('acquireDurable', call)).allowed).toBe(true);
    }
    await before.kill();

    const after = await NodeProcess.start(config);
    expect((await after.ask('acquire', call)).allowed).toBe(false);
    expect((await after.ask('tryCall', call)).allowed).toBe(false);
  });

  it('relearns from a peer what it had not written', async () => {
    const [first, second] = await two();
    const relaxed: Config = { ...first, storage: { persistEvery: '1m' } };
    const [a, b] = [await NodeProcess.start(relaxed), await NodeProcess.start(second)];
    await connected(a, b);
    for (let number = 0; number < 3; number += 1) await a.ask('tryCall', call);
    await until('the peer knows', async () => (await b.ask('stats', call)).session['book_service'] === 3);
    await a.kill();

    const again = await NodeProcess.start(relaxed);
    expect((await again.ask('tryCall', call)).allowed).toBe(false);
  });

  it('leaves its peer deciding', async () => {
    const [first, second] = await two();
    const [a, b] = [await NodeProcess.start(first), await NodeProcess.start(second)];
    await connected(a, b);
    await a.ask('tryCall', call);
    await until('the peer knows', async () => (await b.ask('stats', call)).session['book_service'] === 1);
    await a.kill();
    expect((await b.ask('tryCall', call)).allowed).toBe(true);
    expect((await b.ask('tryCall', call)).allowed).toBe(true);
    expect((await b.ask('tryCall', call)).allowed).toBe(false);
  });
});

describe('a process that closes', () => {
  it('has written all it counted, whatever the pace of writing', async () => {
    const [config] = await two();
    const slow: Config = { ...config, storage: { persistEvery: '1m' } };
    const before = await NodeProcess.start(slow);
    for (let number = 0; number < 3; number += 1) await before.ask('tryCall', call);
    await before.ask('close', null);
    await before.kill();

    const after = await NodeProcess.start(slow);
    expect((await after.ask('tryCall', call)).allowed).toBe(false);
  });
});
