import type { AddressInfo } from 'node:net';

import express from 'express';
import { rateLimit } from 'express-rate-limit';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InvalidInputError, Limiter } from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';

import { inMemory, open, until } from './support.mjs';

const HOUR_MS = 3_600_000;

/** A server behind the real middleware; returns what asks it. */
async function serve(store: TallymeshStore, limit = 3): Promise<(path?: string) => Promise<Response>> {
  const app = express();
  const middleware = rateLimit({ windowMs: HOUR_MS, limit, standardHeaders: 'draft-8', legacyHeaders: true, store });
  app.use(middleware);
  app.get('/', (_request, response) => void response.send('hello'));
  const server = app.listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return (path = '/') => fetch(`http://127.0.0.1:${port}${path}`);
}

describe('a store of express-rate-limit', () => {
  it('limits requests', async () => {
    const ask = await serve(new TallymeshStore({ limiter: await open() }));
    const answers = [await ask(), await ask(), await ask(), await ask()];
    expect(answers.map((answer) => answer.status)).toStrictEqual([200, 200, 200, 429]);
    expect(answers[1]?.headers.get('x-ratelimit-remaining')).toBe('1');
    expect(answers[3]?.headers.get('retry-after')).toMatch(/^\d+$/);
  });

  it('counts over all instances', async () => {
    await using a = await Limiter.open({
      ...inMemory(),
      node: { id: 'a' },
      gossip: { listen: '127.0.0.1:0', interval: '5ms' },
    });
    await using b = await Limiter.open({ ...inMemory(), node: { id: 'b' }, gossip: { peers: [a.address ?? ''] } });
    await until(
      'they are connected',
      () => b.peers().some((peer) => peer.connected) && a.peers().some((peer) => peer.connected),
    );
    const stores = [new TallymeshStore({ limiter: a }), new TallymeshStore({ limiter: b })] as const;
    const [askA, askB] = [await serve(stores[0]), await serve(stores[1])];
    for (let request = 0; request < 3; request += 1) expect((await askA()).status).toBe(200);
    await until('the other knows', () => b.counters()[0]?.value === 3n);
    expect((await askB()).status).toBe(429);
  });

  it('does what the interface asks for', async () => {
    const limiter = await open();
    const store = new TallymeshStore({ limiter, prefix: 'login' });
    const other = new TallymeshStore({ limiter, prefix: 'search' });
    for (const each of [store, other]) each.init({ windowMs: HOUR_MS });
    expect(store.localKeys).toBe(false);
    expect(store.get('k')).toBeUndefined();
    expect(store.increment('k')).toMatchObject({ totalHits: 1, resetTime: expect.any(Date) });
    expect(store.increment('k').totalHits).toBe(2);
    store.decrement('k');
    expect(store.get('k')?.totalHits).toBe(1);
    const resetTime = store.get('k')?.resetTime?.getTime() ?? 0;
    expect(resetTime % HOUR_MS).toBe(0);
    expect(resetTime).toBeGreaterThan(Date.now());

    other.increment('k');
    store.increment('l');
    store.resetKey('k');
    expect([store.get('k'), store.get('l')?.totalHits]).toStrictEqual([undefined, 1]);
    await store.resetAll();
    expect([store.get('l'), other.get('k')?.totalHits]).toStrictEqual([undefined, 1]);
    await store.shutdown();
    expect(limiter.health()).toMatchObject({ state: 'running', durable: false, durability: 'in_memory', reasons: [] });
  });

  it('starts from 0 with each window', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: 50 });
    const first = store.increment('k');
    await until('the window is over', () => Date.now() > (first.resetTime?.getTime() ?? 0) + 20);
    expect(store.increment('k').totalHits).toBe(1);
  });

  it('takes nothing back that was not counted', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: HOUR_MS });
    for (let time = 0; time < 3; time += 1) store.decrement('k');
    const hits = Array.from({ length: 4 }, () => store.increment('k').totalHits);
    expect(hits).toStrictEqual([1, 2, 3, 4]);
    for (let time = 0; time < 9; time += 1) store.decrement('k');
    expect([store.get('k'), store.increment('k').totalHits]).toStrictEqual([undefined, 1]);
    // What a reset took away is not taken back once more, from what was counted after it.
    store.resetKey('k');
    store.increment('k');
    store.decrement('k');
    store.decrement('k');
    expect(store.increment('k').totalHits).toBe(1);
  });

  it('takes nothing back in a window for what was counted in one that is over', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: 200 });
    const first = store.increment('k');
    await until('the window is over', () => Date.now() > (first.resetTime?.getTime() ?? 0) + 20);
    const now = store.increment('k');
    expect(now.totalHits).toBe(1);
    store.decrement('k');
    // Unless that one is over by now as well, its hit stands.
    const left = store.get('k');
    if (left?.resetTime?.getTime() === now.resetTime?.getTime()) expect(left?.totalHits).toBe(1);
    else expect(Date.now()).toBeGreaterThanOrEqual(now.resetTime?.getTime() ?? Infinity);
  });

  it('takes back what a failed request counted, whatever others of the key did before', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    const app = express();
    app.use(rateLimit({ windowMs: HOUR_MS, limit: 3, skipFailedRequests: true, keyGenerator: () => 'k', store }));
    app.get('/:status', (request, response) => void response.sendStatus(Number(request.params.status)));
    const server = app.listen(0, '127.0.0.1');
    await new Promise((listening) => server.once('listening', listening));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const ask = async (status: number): Promise<number> => (await fetch(`http://127.0.0.1:${port}/${status}`)).status;
    expect(await ask(200)).toBe(200);
    for (let time = 0; time < 5; time += 1) {
      expect(await ask(404)).toBe(404);
      await until('the failure is taken back', () => store.get('k')?.totalHits === 1);
    }
    expect([await ask(200), await ask(200), await ask(200)]).toStrictEqual([200, 200, 429]);
  });

  it('refuses what it cannot use', async () => {
    const limiter = await open();
    expect(() => new TallymeshStore({ limiter: {} as Limiter })).toThrow(/the limiter is an object: give what Limiter.open/);
    expect(() => new TallymeshStore({ limiter, prefix: '' })).toThrow(InvalidInputError);
    expect(() => new TallymeshStore(undefined as never)).toThrow(InvalidInputError);
    const store = new TallymeshStore({ limiter });
    expect(() => store.init({ windowMs: NaN })).toThrow(/windowMs is NaN/);
    for (const key of ['', 'a\0b', 7 as never]) expect(() => store.increment(key)).toThrow(InvalidInputError);
    expect(() => store.increment('x'.repeat(1000))).toThrow(expect.objectContaining({ code: 'TALLYMESH_COUNTER' }));
  });
});
