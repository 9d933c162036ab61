import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';
import { ClosedError, ConfigError, Limiter, type LimitConfig } from 'tallymesh';

import { inMemory, temporaryDirectory, until } from './support.mjs';

const BOOKINGS: LimitConfig = { name: 'bookings', when: { tool: 'book_*' }, per: ['session'], max: 3, window: 'session' };
const booking = { session: 's', tool: 'book_service' };

describe('two limiters in one process', () => {
  it('say why a peer is not there', async () => {
    const listening = { ...inMemory(), node: { id: 'b' }, gossip: { listen: '127.0.0.1:0' } };
    const other = await Limiter.open(listening);
    const peers = ['not-yet.invalid:7946', other.address ?? ''];
    await using limiter = await Limiter.open({ ...inMemory(), node: { id: 'a' }, gossip: { peers, syncTimeout: '50ms' } });
    const absence = (address: string | undefined) => limiter.peers().find((peer) => peer.address === address)?.absence;
    await until('they have met', () => limiter.peers().some((peer) => peer.connected));
    expect([absence('not-yet.invalid:7946'), absence(other.address)]).toStrictEqual(['unresolved', undefined]);
    await other.close();
    await until('it is told why', () => absence(other.address) === 'stopped');
  });

  it('gossip', async () => {
    await using a = await Limiter.open({ ...inMemory(BOOKINGS), node: { id: 'a' }, gossip: { listen: '127.0.0.1:0' } });
    const peers = [a.address ?? ''];
    await using b = await Limiter.open({ ...inMemory(BOOKINGS), node: { id: 'b' }, gossip: { peers, interval: '5ms' } });
    await until(
      'they are connected',
      () => a.peers().some((peer) => peer.connected) && b.peers().some((peer) => peer.connected),
    );
    for (let call = 0; call < 3; call += 1) a.acquire(booking);
    await until('the other has heard of it', async () => (await b.counters().toArray())[0]?.value === 3n);
    expect(b.status()).toStrictEqual({
      replica: expect.stringMatching(/^b#\d+\.[0-9a-f]{16}$/),
      health: { state: 'running', durable: false, durability: 'in_memory', reasons: [] },
      peers: [
        {
          address: a.address,
          source: 'config',
          since: expect.any(Number),
          replica: a.status().replica,
          connected: true,
          lag: expect.any(Number),
          clockOffsetMs: expect.any(Number),
          roundTripMs: expect.any(Number),
          differentLimits: [],
          lastHeardMs: expect.any(Number),
        },
      ],
      keys: [],
      clusterSize: 2,
      ready: true,
      waitingFor: [],
      counters: 1,
      operator: [],
      rejections: {
        cellsForgotten: 0,
        countersRefused: 0,
        entriesRefused: 0,
        cellsImplausible: 0,
        cellsLate: 0,
        messagesUnknown: 0,
        replicasRefused: 0,
        cellsRefused: 0,
        connectionsRefused: 0,
        framesRefused: 0,
        framesDelayed: 0,
        addressesRefused: 0,
        strangersRefused: 0,
        addressesImplausible: 0,
      },
      clockBehindMs: expect.any(Number),
      requestsUnmatched: 0,
      logLinesDropped: 0,
      threadRestarts: 0,
    });
    expect(a.status()).toMatchObject({ address: a.address, peers: [{ replica: b.status().replica }] });
    expect(b.acquire(booking).limit).toBe('bookings');
  });

  it('take peers onto their list and off it while they run', async () => {
    const listening = (id: string) => ({ ...inMemory(BOOKINGS), node: { id }, gossip: { listen: '127.0.0.1:0' } });
    await using a = await Limiter.open(listening('a'));
    await using b = await Limiter.open(listening('b'));
    for (let call = 0; call < 3; call += 1) a.acquire(booking);
    await b.setPeers([a.address ?? '']);
    await until('the other has heard of it', async () => (await b.counters().toArray())[0]?.value === 3n);
    await b.setPeers([]);
    const absence = (limiter: Limiter) => limiter.peers().map((peer) => peer.absence);
    await until('both know why', () => absence(a)[0] === 'removed' && absence(b)[0] === 'removed');

    await expect(b.setPeers(['10.0.0.7'])).rejects.toThrow(ConfigError);
    await expect(b.setPeers(['10.0.0.7'])).rejects.toThrow(/gossip\.peers = "10\.0\.0\.7" .*host:port/);
    await expect(b.setPeers('10.0.0.7:1' as never)).rejects.toThrow(/peers is "10\.0\.0\.7:1": give an array of strings/);
    await expect(b.setPeers([7 as never])).rejects.toThrow(/peers\[0\] is 7: give a string/);
    await expect(b.setPeers(Array.from({ length: 4097 }, (_, n) => `h${n}:1`))).rejects.toThrow(/at most 4096/);
    await b.close();
    await expect(b.setPeers([])).rejects.toThrow(ClosedError);
  });

  it('read the addresses of peers from a file', async () => {
    const listening = { ...inMemory(), node: { id: 'a' }, gossip: { listen: '127.0.0.1:0' } };
    await using a = await Limiter.open(listening);
    const path = join(temporaryDirectory(), 'peers');
    const peers = [`file:${path}`];
    await using b = await Limiter.open({ ...inMemory(), node: { id: 'b' }, gossip: { peers, syncTimeout: '50ms' } });
    expect(b.peers()).toMatchObject([{ address: peers[0], absence: 'unresolved' }]);
    writeFileSync(path, `# the peers\n\nnonsense\n${a.address ?? ''}\n`);
    await until('they have met', () => b.peers().some((peer) => peer.connected));
  });

  it('tell which of their limits say different things', async () => {
    const config = (id: string, max: number) => ({ ...inMemory({ ...BOOKINGS, max }), node: { id } });
    await using a = await Limiter.open({ ...config('a', 3), gossip: { listen: '127.0.0.1:0' } });
    await using b = await Limiter.open({ ...config('b', 4), gossip: { peers: [a.address ?? ''] } });
    for (const limiter of [a, b])
      await until('it is told', () => limiter.peers().some((peer) => peer.differentLimits.includes('bookings')));
    expect(a.health().messagesUnknown).toBe(0);
  });
});
