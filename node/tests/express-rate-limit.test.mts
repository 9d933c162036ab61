import type { AddressInfo } from 'node:net';

import express from 'express';
import { rateLimit, type Options } from 'express-rate-limit';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InvalidInputError, Limiter } from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';

import { inMemory, open, until } from './support.mjs';

const HOUR_MS = 3_600_000;

/** Starts a server; returns where it is, and what asks it for the status of a path. */
async function listen(app: express.Express): Promise<{ url: string; ask: (path: string | number) => Promise<number> }> {
  // Errors are answered, and not logged.
  app.use(((_error, _request, response, _next) => void response.sendStatus(500)) satisfies express.ErrorRequestHandler);
  const server = app.listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, ask: async (path) => (await fetch(`${url}/${path}`)).status };
}

/** A server behind the real middleware; returns what asks it. */
async function serve(store: TallymeshStore, limit = 3): Promise<() => Promise<Response>> {
  const app = express();
  app.use(rateLimit({ windowMs: HOUR_MS, limit, standardHeaders: 'draft-7', legacyHeaders: true, store }));
  app.get('/', (_request, response) => void response.send('hello'));
  const { url } = await listen(app);
  return () => fetch(url);
}

/** A server behind the real middleware, all of whose clients are one, that answers `/404` with 404 and `/hang` never. */
function serveStatuses(options: Partial<Options>): ReturnType<typeof listen> {
  const app = express();
  app.use(rateLimit({ windowMs: HOUR_MS, keyGenerator: () => 'k', ...options }));
  app.get('/hang', () => undefined);
  app.get('/:status', (request, response) => void response.sendStatus(Number(request.params.status)));
  return listen(app);
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
    await until('the other knows', async () => (await b.counters().toArray())[0]?.value === 3n);
    expect((await askB()).status).toBe(429);
  });

  it('does what the interface asks for', async () => {
    const limiter = await open();
    const store = new TallymeshStore({ limiter, prefix: 'login' });
    const other = new TallymeshStore({ limiter, prefix: 'search' });
    for (const each of [store, other]) each.init({ windowMs: HOUR_MS });
    expect(store.localKeys).toBe(false);
    expect(await store.get('k')).toBeUndefined();
    expect(await store.increment('k')).toMatchObject({ totalHits: 1, resetTime: expect.any(Date) });
    expect((await store.increment('k')).totalHits).toBe(2);
    await store.decrement('k');
    expect((await store.get('k'))?.totalHits).toBe(1);
    const resetTime = (await store.get('k'))?.resetTime?.getTime() ?? 0;
    expect(resetTime % HOUR_MS).toBe(0);
    expect(resetTime).toBeGreaterThan(Date.now());

    await other.increment('k');
    await store.increment('l');
    await store.resetKey('k');
    expect([await store.get('k'), (await store.get('l'))?.totalHits]).toStrictEqual([undefined, 1]);
    await store.resetAll();
    expect([await store.get('l'), (await other.get('k'))?.totalHits]).toStrictEqual([undefined, 1]);
    await store.shutdown();
    expect(limiter.health()).toMatchObject({ state: 'running', durable: false, durability: 'in_memory', reasons: [] });
  });

  it('starts from 0 with each window', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: 50 });
    const first = await store.increment('k');
    await until('the window is over', () => Date.now() > (first.resetTime?.getTime() ?? 0) + 20);
    expect((await store.increment('k')).totalHits).toBe(1);
  });

  it('takes nothing back that was not counted', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: HOUR_MS });
    for (let time = 0; time < 3; time += 1) await store.decrement('k');
    const hits = [];
    for (let time = 0; time < 4; time += 1) hits.push((await store.increment('k')).totalHits);
    expect(hits).toStrictEqual([1, 2, 3, 4]);
    for (let time = 0; time < 9; time += 1) await store.decrement('k');
    expect([await store.get('k'), (await store.increment('k')).totalHits]).toStrictEqual([undefined, 1]);
    // What a reset took away is not taken back once more, from what was counted after it.
    await store.resetKey('k');
    await store.increment('k');
    await store.decrement('k');
    await store.decrement('k');
    expect((await store.increment('k')).totalHits).toBe(1);
  });

  it('takes nothing back in a window for what was counted in one that is over', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: 200 });
    const first = await store.increment('k');
    await until('the window is over', () => Date.now() > (first.resetTime?.getTime() ?? 0) + 20);
    const now = await store.increment('k');
    expect(now.totalHits).toBe(1);
    await store.decrement('k');
    // Unless that one is over by now as well, its hit stands.
    const left = await store.get('k');
    if (left?.resetTime?.getTime() === now.resetTime?.getTime()) expect(left?.totalHits).toBe(1);
    else expect(Date.now()).toBeGreaterThanOrEqual(now.resetTime?.getTime() ?? Infinity);
  });

  it('takes back what a failed request counted, whatever others of the key did before', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    const { ask } = await serveStatuses({ limit: 3, skipFailedRequests: true, store });
    expect(await ask(200)).toBe(200);
    for (let time = 0; time < 5; time += 1) {
      expect(await ask(404)).toBe(404);
      await until('the failure is taken back', async () => (await store.get('k'))?.totalHits === 1);
    }
    expect([await ask(200), await ask(200), await ask(200)]).toStrictEqual([200, 200, 429]);
  });

  it('takes back what a request counted that its client gave up', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    const { url, ask } = await serveStatuses({ limit: 3, skipFailedRequests: true, store });
    expect(await ask(200)).toBe(200);
    const client = new AbortController();
    const given = fetch(`${url}/hang`, { signal: client.signal }).catch(() => undefined);
    await until('it is counted', async () => (await store.get('k'))?.totalHits === 2);
    client.abort();
    await given;
    await until('it is taken back', async () => (await store.get('k'))?.totalHits === 1);
  });

  it('counts only the failures of a login', async () => {
    const store = new TallymeshStore({ limiter: await open(), prefix: 'login' });
    const { ask } = await serveStatuses({ limit: 5, skipSuccessfulRequests: true, store });
    for (let time = 0; time < 8; time += 1) {
      expect(await ask(200)).toBe(200);
      await until('the success is taken back', async () => (await store.get('k')) === undefined);
    }
    for (let time = 0; time < 5; time += 1) expect(await ask(401)).toBe(401);
    expect([await ask(401), await ask(200)]).toStrictEqual([429, 429]);
    // What was refused was counted, too: it failed.
    expect((await store.get('k'))?.totalHits).toBe(7);
  });

  it('takes back each request once, when many of a key end at once', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    const { ask } = await serveStatuses({ limit: 100, skipFailedRequests: true, store });
    const asked = Array.from({ length: 40 }, (_, request) => ask(request % 2 === 0 ? 200 : 500));
    expect((await Promise.all(asked)).filter((status) => status === 200).length).toBe(20);
    await until('the failures are taken back', async () => (await store.get('k'))?.totalHits === 20);
  });

  it('counts for each rateLimit() apart, and resets a key by the middleware', async () => {
    const limiter = await open();
    const app = express();
    const middleware = (prefix: string, limit: number) =>
      rateLimit({ windowMs: HOUR_MS, limit, keyGenerator: () => 'k', store: new TallymeshStore({ limiter, prefix }) });
    const login = middleware('login', 1);
    app.use('/login', login);
    app.use('/search', middleware('search', 2));
    app.use((_request, response) => void response.send('hello'));
    const { ask } = await listen(app);
    expect([await ask('login'), await ask('login')]).toStrictEqual([200, 429]);
    expect([await ask('search'), await ask('search'), await ask('search')]).toStrictEqual([200, 200, 429]);
    login.resetKey('k');
    await until('the key is reset', async () => (await ask('login')) === 200);
    expect(await ask('search')).toBe(429);
  });

  it('answers with an error, or lets pass if told so, once the limiter is closed, and survives what ends after it', async () => {
    const limiter = await Limiter.open(inMemory());
    const store = new TallymeshStore({ limiter });
    const { url, ask } = await serveStatuses({ limit: 3, skipFailedRequests: true, store });
    const client = new AbortController();
    const hanging = fetch(`${url}/hang`, { signal: client.signal }).catch(() => 'given up');
    await until('it is counted', async () => (await store.get('k'))?.totalHits === 1);
    await limiter.close();
    client.abort();
    expect(await hanging).toBe('given up');
    expect(await ask(200)).toBe(500);
    await expect(store.increment('k')).rejects.toMatchObject({ code: 'TALLYMESH_CLOSED' });
    await store.decrement('k');
  });

  it('refuses what it cannot use', async () => {
    const limiter = await open();
    expect(() => new TallymeshStore({ limiter: {} as Limiter })).toThrow(/the limiter is an object: give what Limiter.open/);
    expect(() => new TallymeshStore({ limiter, prefix: '' })).toThrow(InvalidInputError);
    expect(() => new TallymeshStore(undefined as never)).toThrow(InvalidInputError);
    expect(() => new TallymeshStore({ limiter, prefx: 'login' } as never)).toThrow(
      'prefx is no option of TallymeshStore: those are limiter, prefix; is prefix meant?',
    );
    expect(() => new TallymeshStore({ limiter, windowMs: 5 } as never)).toThrow(/^windowMs is no option of TallymeshStore/);
    const store = new TallymeshStore({ limiter });
    await expect(store.increment('k')).rejects.toThrow(/the store does not know windowMs yet/);
    expect(() => store.init({ windowMs: NaN })).toThrow(/windowMs is NaN/);
    store.init({ windowMs: HOUR_MS });
    store.init({ windowMs: HOUR_MS });
    expect(() => store.init({ windowMs: 1000 })).toThrow(
      /windowMs is 1000, and another rateLimit\(\) has this store with 3600000/,
    );
    for (const key of ['', 'a\0b', 7 as never]) await expect(store.increment(key)).rejects.toThrow(InvalidInputError);
    await expect(store.increment('x'.repeat(1000))).rejects.toMatchObject({ code: 'TALLYMESH_COUNTER' });
  });
});
