/** The drop-in and the adapters with a limiter that is still to be opened: what is asked before waits or is denied, never allowed. */
import { writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import express from 'express';
import { rateLimit } from 'express-rate-limit';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  ClosedError,
  ConfigError,
  InvalidInputError,
  Limiter,
  TallymeshError,
  toolRateLimiters,
  type LimiterSource,
} from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';
import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';

import { inMemory, open, temporaryDirectory, until } from './support.mjs';

/** A promise of a limiter that is kept when told. */
function promised(): { limiter: Promise<Limiter>; keep: (with_?: Promise<Limiter>) => Promise<Limiter> } {
  const { promise, resolve } = deferred<Limiter>();
  return {
    limiter: promise,
    keep: async (opened = open()) => {
      resolve(await opened);
      return promise;
    },
  };
}

function deferred<Value>() {
  let resolve!: (value: Value) => void;
  const promise = new Promise<Value>((settle) => (resolve = settle));
  return { promise, resolve };
}

/** Whether a promise is settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const waiting = Symbol('waiting');
  const first = await Promise.race([promise.catch(() => undefined), new Promise((resolve) => setImmediate(resolve, waiting))]);
  return first !== waiting;
}

const LIMITS = { book: { maxPerTurn: 1, maxPerSession: 3 } };
const WINDOW = { windowMs: 3_600_000 };

describe('a tool rate limiter of a limiter that is not open yet', () => {
  it('denies with the reason, and counts once it is open', async () => {
    const { limiter, keep } = promised();
    const tools = toolRateLimiters(limiter, { limits: LIMITS })('s');
    tools.resetTurn();
    const denied = { allowed: false, reason: 'the limiter is not open yet: wait for what Limiter.open() returned' };
    for (let call = 0; call < 10; call += 1)
      expect([tools.canCall('book'), tools.tryCall('book')]).toStrictEqual([denied, denied]);
    expect(tools.getStats()).toStrictEqual({ turn: {}, session: {} });
    expect(() => tools.reset()).toThrow(expect.objectContaining({ code: 'TALLYMESH_OPEN' }));

    const opened = await keep();
    expect(tools.tryCall('book')).toStrictEqual({ allowed: true });
    expect(opened.toolRateLimiters({ limits: LIMITS })('s').getStats()).toStrictEqual({
      turn: { book: 1 },
      session: { book: 1 },
    });
  });

  it('ends the turn that was reset before it was open', async () => {
    const opened = await open();
    opened.toolRateLimiters({ limits: LIMITS })('s').recordCall('book');
    const { limiter, keep } = promised();
    const tools = toolRateLimiters(limiter, { limits: LIMITS })('s');
    tools.resetTurn();
    await keep(Promise.resolve(opened));
    expect(tools.canCall('book')).toStrictEqual({ allowed: true });
    expect(tools.getStats()).toStrictEqual({ turn: {}, session: { book: 1 } });
  });

  it('counts what was recorded before it was open, in this object', async () => {
    const { limiter, keep } = promised();
    const tools = toolRateLimiters(limiter, { limits: LIMITS })('s');
    for (let call = 0; call < 3; call += 1) tools.recordCall('book');
    await keep();
    tools.resetTurn();
    expect(tools.canCall('book')).toStrictEqual({ allowed: false, reason: 'book max per session (3) reached' });
    expect(tools.tryCall('book').allowed).toBe(false);
  });

  it('denies with the reason for which it could not be opened', async () => {
    const tools = toolRateLimiters(Limiter.open({ node: { id: 'a b' } }), { limits: LIMITS })('s');
    await until('it is known', () => tools.canCall('book').reason?.includes('config.node.id = "a b"') ?? false);
    expect(tools.tryCall('book').allowed).toBe(false);
    const broken = toolRateLimiters(Promise.reject(new Error('no secret')), { limits: LIMITS })('s');
    await until('it is known', () => broken.canCall('book').reason === 'the limiter could not be opened: Error: no secret');
    const taken = Limiter.open(inMemory({ name: 'tool calls per turn', max: 1, window: '1h' }));
    onTestFinished(async () => void (await (await taken).close()));
    const none = toolRateLimiters(taken, { limits: LIMITS })('s');
    await taken;
    expect(none.canCall('book')).toMatchObject({ allowed: false, reason: expect.stringContaining('which is taken') });
  });
});

describe('an adapter of a limiter that is not open yet', () => {
  it('waits: the store of express-rate-limit, which is made while modules load', async () => {
    const { limiter, keep } = promised();
    const store = new TallymeshStore({ limiter });
    const app = express();
    app.use(rateLimit({ ...WINDOW, limit: 2, skipFailedRequests: true, keyGenerator: () => 'k', store }));
    app.get('/:status', (request, response) => void response.sendStatus(Number(request.params.status)));
    const server = app.listen(0, '127.0.0.1');
    await new Promise((listening) => server.once('listening', listening));
    onTestFinished(() => void server.close());
    const ask = async (status: number) =>
      (await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/${status}`)).status;
    const asked = [ask(404), ask(200)];
    expect(await isSettled(Promise.race(asked))).toBe(false);
    await keep();
    expect(await Promise.all(asked)).toStrictEqual([404, 200]);
    await until('the failure is taken back', async () => (await store.get('k'))?.totalHits === 1);
    expect([await ask(200), await ask(200)]).toStrictEqual([200, 429]);
  });

  it('waits: each method of the store', async () => {
    const { limiter, keep } = promised();
    const store = new TallymeshStore({ limiter });
    store.init(WINDOW);
    const asked = [store.increment('k'), store.get('k'), store.resetKey('l'), store.resetAll(), store.shutdown()];
    for (const promise of asked) expect(await isSettled(promise)).toBe(false);
    await keep();
    await Promise.all(asked);
  });

  it('waits: the limiter of rate-limiter-flexible', async () => {
    const { limiter, keep } = promised();
    const flexible = new RateLimiterTallymesh({ limiter, points: 2, duration: 3600 });
    const asked = Array.from({ length: 5 }, () => flexible.consume('k'));
    const others = [flexible.get('l'), flexible.set('l', 1), flexible.reward('l'), flexible.penalty('l'), flexible.delete('l')];
    for (const promise of [...asked, ...others]) expect(await isSettled(promise)).toBe(false);
    const settled = Promise.allSettled(asked);
    await keep();
    expect((await settled).filter(({ status }) => status === 'fulfilled').length).toBe(2);
    await Promise.all(others);
  });

  it('rejects with the reason for which it could not be opened', async () => {
    const limiter = Limiter.open({ node: { id: 'a b' } });
    const store = new TallymeshStore({ limiter });
    store.init(WINDOW);
    await expect(store.increment('k')).rejects.toThrow(ConfigError);
    await store.decrement('k');
    await expect(new RateLimiterTallymesh({ limiter, points: 1, duration: 1 }).consume('k')).rejects.toThrow(ConfigError);
  });

  it('says so once, however many wait for it, since the process goes on', async () => {
    const warnings: Error[] = [];
    const listener = (warning: Error) => {
      // Others may still be of the test before.
      if (warning.message.includes('"not an id"')) warnings.push(warning);
    };
    process.on('warning', listener);
    onTestFinished(() => void process.off('warning', listener));
    const limiter = Limiter.open({ node: { id: 'not an id' } });
    const stores = Array.from({ length: 3 }, () => new TallymeshStore({ limiter }));
    for (const store of stores) store.init(WINDOW);
    await Promise.allSettled(stores.map((store) => store.increment('k')));
    await until('it is said', () => warnings.length > 0);
    await new Promise(setImmediate);
    expect(warnings).toMatchObject([{ name: 'TallymeshWarning', code: 'TALLYMESH_CONFIG' }]);
  });

  it('rejects when what was promised is no limiter', async () => {
    const store = new TallymeshStore({ limiter: Promise.resolve(7 as never) });
    store.init(WINDOW);
    await expect(store.increment('k')).rejects.toThrow(InvalidInputError);
  });
});

describe('an adapter of a lazy limiter', () => {
  /** Each with a method that counts, and what it answers the second time. */
  const adapters: [name: string, (limiter: LimiterSource) => () => Promise<number>][] = [
    [
      'the store of express-rate-limit',
      (limiter) => {
        const store = new TallymeshStore({ limiter });
        store.init(WINDOW);
        return async () => (await store.increment('k')).totalHits;
      },
    ],
    [
      'the limiter of rate-limiter-flexible',
      (limiter) => {
        const flexible = new RateLimiterTallymesh({ limiter, points: 9, duration: 3600 });
        return async () => (await flexible.consume('k')).consumedPoints;
      },
    ],
  ];

  it.each(adapters)('opens it by its first use, and waits: %s', async (_, make) => {
    const limiter = Limiter.lazy(inMemory());
    onTestFinished(async () => void (await limiter.close()));
    const count = make(limiter);
    await new Promise(setImmediate);
    expect(limiter.state).toBe('unopened');
    const asked = [count(), count(), count()];
    await Promise.resolve();
    expect(limiter.state).toBe('opening');
    expect((await Promise.all(asked)).sort()).toStrictEqual([1, 2, 3]);
    expect(await count()).toBe(4);
  });

  it.each(adapters)('rejects with why it could not be opened, until it can: %s', async (_, make) => {
    const path = join(temporaryDirectory(), 'tallymesh.toml');
    const limiter = Limiter.lazy(path);
    onTestFinished(async () => void (await limiter.close()));
    const count = make(limiter);
    const failure: unknown = await limiter.open().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TallymeshError);
    await expect(count()).rejects.toBe(failure);
    writeFileSync(path, '[node]\nid = "a"\n[storage]\nin_memory = true\n');
    await expect(count()).rejects.toBe(failure);
    await limiter.open();
    expect(await count()).toBe(1);
  });

  it.each(adapters)('rejects once it is closed, also before it was open: %s', async (_, make) => {
    const limiter = Limiter.lazy(inMemory());
    const count = make(limiter);
    await limiter.close();
    await expect(count()).rejects.toThrow(ClosedError);
  });

  it('rejects, and tools are denied, where a limit has the name of its counters', async () => {
    const limiter = Limiter.lazy(
      inMemory(...['express-rate-limit', 'tool calls per turn'].map((name) => ({ name, max: 1, window: '1h' }))),
    );
    onTestFinished(async () => void (await limiter.close()));
    const store = new TallymeshStore({ limiter });
    store.init(WINDOW);
    const tools = toolRateLimiters(limiter)('s');
    for (let call = 0; call < 2; call += 1) await expect(store.increment('k')).rejects.toThrow(/which is taken/);
    expect(tools.tryCall('book').reason).toMatch(/which is taken/);
  });

  it('counts what was recorded before it was open in the tool rate limiter, and ends the turn that was reset', async () => {
    const limiter = Limiter.lazy(inMemory());
    onTestFinished(async () => void (await limiter.close()));
    const tools = toolRateLimiters(limiter, { limits: LIMITS })('s');
    tools.recordCall('book');
    await limiter.open();
    expect(tools.canCall('book')).toStrictEqual({ allowed: false, reason: 'book max per turn (1) reached' });
    tools.resetTurn();
    expect([tools.canCall('book').allowed, tools.getStats()]).toStrictEqual([true, { turn: {}, session: { book: 1 } }]);
  });
});
