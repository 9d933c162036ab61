/** A limiter that is opened when it is first used: what is asked before waits or is denied, and it is opened once. */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect, promisify } from 'node:util';

import { describe, expect, expectTypeOf, it, onTestFinished } from 'vitest';
import {
  ClosedError,
  ConfigError,
  DeniedError,
  InvalidInputError,
  LazyLimiter,
  Limiter,
  OpenError,
  toolRateLimiters,
  type Config,
  type LimitConfig,
  type LimiterSource,
  type Receipt,
  type Request,
} from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';

import { inMemory, temporaryDirectory, until } from './support.mjs';

const BOOKINGS: LimitConfig = { name: 'bookings', when: { tool: 'book_*' }, per: ['session'], max: 3, window: 'session' };
const LIMITS = { book: { maxPerTurn: 1, maxPerSession: 3 } };
const booking = { session: 's', tool: 'book_service' };
const NOT_YET = 'the limiter is not open yet: await limiter.open() before the first call';
/** Of the right shape; what is wrong with it is found when it is opened. */
const REFUSED: Config = { node: { id: 'a b' }, storage: { inMemory: true } };
const WHY_REFUSED = /^config\.node\.id = "a b" is not allowed: /;

/** A lazy limiter that is closed when the test is over. */
function lazy(config: Config | string = inMemory(BOOKINGS)): LazyLimiter {
  const limiter = Limiter.lazy(config);
  onTestFinished(async () => void (await limiter.close()));
  return limiter;
}

/** Settings of a node in a directory that no two limiters can have open. */
function onDisk(): { config: Config; dataDir: string } {
  const dataDir = join(temporaryDirectory(), 'node');
  return { config: { node: { id: 'a', dataDir }, limits: [BOOKINGS] }, dataDir };
}

/** A lazy limiter whose settings file is not there yet, and what puts it there. */
function withoutFile(): { limiter: LazyLimiter; repair: () => void } {
  const path = join(temporaryDirectory(), 'tallymesh.toml');
  return { limiter: lazy(path), repair: () => writeFileSync(path, '[node]\nid = "a"\n[storage]\nin_memory = true\n') };
}

describe('the type', () => {
  it('has every method of a limiter, with the same arguments and answers', () => {
    // What is known only once it is open.
    type NotBefore = 'node' | 'id';
    expectTypeOf<LazyLimiter>().toExtend<Omit<Limiter, NotBefore>>();
    expectTypeOf<Exclude<keyof Limiter, keyof LazyLimiter>>().toEqualTypeOf<never>();
    expectTypeOf<Pick<LazyLimiter, NotBefore>>().toEqualTypeOf<{
      readonly node: string | undefined;
      readonly id: number | undefined;
    }>();
    expectTypeOf<LazyLimiter>().toExtend<LimiterSource>();
    expectTypeOf<LazyLimiter>().not.toExtend<PromiseLike<unknown>>();
    const methods = Object.getOwnPropertyNames(Limiter.prototype);
    expect(methods.filter((name) => !(name in LazyLimiter.prototype))).toStrictEqual([]);
  });
});

describe('a lazy limiter that is not used', () => {
  it('opens nothing, whatever is made of it or asked about it', async () => {
    const { config, dataDir } = onDisk();
    const limiter = lazy(config);
    limiter.withLabels({ session: 's' }, () => limiter.labels());
    for (const tools of [limiter.toolRateLimiter({ session: 's' }), toolRateLimiters(limiter)('s')]) {
      expect(tools.getStats()).toStrictEqual({ turn: {}, session: {} });
      inspect(tools);
    }
    limiter.counters();
    const { node, id, address, setAside, slot } = limiter;
    expect({ node, id, address, setAside, slot }).toStrictEqual({
      node: undefined,
      id: undefined,
      address: undefined,
      setAside: undefined,
      slot: undefined,
    });
    expect(JSON.stringify(limiter)).toBe('{"state":"unopened"}');
    expect(inspect(limiter)).toBe("LazyLimiter { state: 'unopened' }");
    const returned = await (async () => limiter)();
    expect(returned).toBe(limiter);
    await new Promise(setImmediate);
    expect([limiter.state, existsSync(dataDir)]).toStrictEqual(['unopened', false]);
  });

  it('refuses settings of a wrong shape when it is made', () => {
    for (const wrong of [undefined, 7, [], new Map(), new Date()]) {
      expect(() => Limiter.lazy(wrong as never)).toThrow(InvalidInputError);
    }
    expect(() => Limiter.lazy('')).toThrow(InvalidInputError);
    const max = '3' as unknown as number;
    expect(() => Limiter.lazy(inMemory({ ...BOOKINGS, max }))).toThrow(ConfigError);
    expect(() => Limiter.lazy(inMemory({ ...BOOKINGS, max }))).toThrow(/config\.limits\[0\]\.max is "3"/);
  });

  it('takes the settings as they are when it is made', async () => {
    const limits = [BOOKINGS];
    const limiter = lazy({ ...inMemory(), limits });
    limits.pop();
    await limiter.open();
    expect(limiter.acquire(booking)).toMatchObject({ allowed: true, remaining: 2 });
  });
});

describe('before it is open, a lazy limiter', () => {
  it('denies what decides at once, with the reason, and begins to open', async () => {
    const limiter = lazy();
    const denied = { allowed: false, remaining: 0, cause: 'not-open', reason: NOT_YET };
    const nothing = { limit: undefined, retryAfterMs: undefined, missingLabel: undefined };
    expect(limiter.acquire(booking)).toMatchObject({ ...denied, ...nothing, receipt: undefined });
    expect(limiter.peek(booking)).toMatchObject({ ...denied, ...nothing });
    expect(JSON.parse(JSON.stringify(limiter.acquire(booking)))).toStrictEqual(denied);
    expect(() => limiter.acquire(booking).orThrow()).toThrow(DeniedError);
    expect(() => limiter.acquire(booking).orThrow()).toThrow(expect.objectContaining({ cause: 'not-open', message: NOT_YET }));
    expect(limiter.state).toBe('opening');
    await until('it is open', () => limiter.state === 'open');
    expect(limiter.acquire(booking)).toMatchObject({ allowed: true, remaining: 2 });
  });

  it.each(['canCall', 'tryCall'] as const)('denies `%s` of tool rate limiters, which count once it is open', async (ask) => {
    const limiter = lazy();
    const ones = [
      limiter.toolRateLimiter({ session: 's', limits: LIMITS }),
      toolRateLimiters(limiter, { limits: LIMITS })('t'),
    ];
    for (const tools of ones) expect(tools[ask]('book')).toStrictEqual({ allowed: false, reason: NOT_YET });
    expect(limiter.state).toBe('opening');
    await limiter.open();
    for (const tools of ones) {
      expect([tools.tryCall('book'), tools.getStats().session]).toStrictEqual([{ allowed: true }, { book: 1 }]);
      expect(tools.canCall('book').reason).toBe('book max per turn (1) reached');
    }
  });

  it('denies the calls of a session that is too long to count, as it does afterwards', async () => {
    const limiter = lazy();
    const tools = limiter.toolRateLimiter({ session: 'x'.repeat(600), limits: LIMITS });
    expect(tools.tryCall('book').allowed).toBe(false);
    await limiter.open();
    expect(tools.tryCall('book')).toMatchObject({ allowed: false, reason: expect.stringContaining('the key has') });
    expect(() => limiter.toolRateLimiter({ session: 'x'.repeat(600), limits: LIMITS })).toThrow(/the key has/);
  });

  it('waits with what returns a promise, and opens by it', async () => {
    const asks: ((limiter: LazyLimiter) => Promise<unknown>)[] = [
      async (limiter) => expect(await limiter.acquireDurable(booking)).toMatchObject({ allowed: true, remaining: 2 }),
      async (limiter) => expect(await limiter.flush()).toBeUndefined(),
      async (limiter) => expect(await limiter.counters().toArray()).toStrictEqual([]),
      async (limiter) => {
        for await (const counter of limiter.counters()) expect.unreachable(counter.limit);
      },
      async (limiter) => expect(await limiter.open()).toBeInstanceOf(Limiter),
    ];
    for (const ask of asks) {
      const limiter = lazy();
      const asked = ask(limiter);
      await Promise.resolve();
      expect(limiter.state).toBe('opening');
      await asked;
      expect(limiter.state).toBe('open');
    }
  });

  it('has the request as it was when it was asked', async () => {
    const limiter = lazy();
    const request: { session: string; tool: string } = { ...booking };
    const asked = limiter.acquireDurable(request);
    request.session = 'other';
    await asked;
    expect((await limiter.counters().toArray()).map((counter) => counter.values)).toStrictEqual([['s']]);
  });

  it('says so by an error where no answer can', async () => {
    const receipt = 'r' as Receipt;
    const asks: ((limiter: LazyLimiter) => unknown)[] = [
      (limiter) => limiter.refund(receipt),
      (limiter) => limiter.token(receipt),
      (limiter) => limiter.refundToken('t'),
      (limiter) => limiter.reset(booking),
      (limiter) => limiter.peers(),
      (limiter) => limiter.health(),
      (limiter) => limiter.status(),
    ];
    for (const ask of asks) {
      const limiter = lazy();
      expect(() => ask(limiter)).toThrow(expect.objectContaining({ name: 'OpenError', message: NOT_YET }));
      expect(limiter.state).toBe('opening');
    }
  });

  it('refuses what no limiter takes, at once', async () => {
    const limiter = lazy();
    const wrong = [{ session: 7 }, { session: undefined }, { session: '' }, { '': 'x' }, { cost: -1 }, new Map(), undefined];
    for (const request of wrong as unknown as Request[]) {
      expect(() => limiter.acquire(request)).toThrow(InvalidInputError);
      expect(() => limiter.peek(request)).toThrow(InvalidInputError);
      await expect(limiter.acquireDurable(request)).rejects.toThrow(InvalidInputError);
    }
    expect(limiter.state).toBe('unopened');
    const message = (ask: () => unknown): unknown => {
      try {
        return ask();
      } catch (error) {
        return (error as Error).message;
      }
    };
    const before = wrong.map((request) => message(() => limiter.acquire(request as never)));
    const opened = await limiter.open();
    expect(before).toStrictEqual(wrong.map((request) => message(() => opened.acquire(request as never))));
  });
});

describe('opening a lazy limiter', () => {
  it('happens once, however many use it at once', async () => {
    // A second one in this directory could not be opened.
    const limiter = lazy(onDisk().config);
    const first = limiter.open();
    const uses = Array.from({ length: 20 }, (_, use) => limiter.acquireDurable({ ...booking, session: `s${use % 5}` }));
    for (let use = 0; use < 20; use += 1) expect(limiter.acquire(booking).cause).toBe('not-open');
    const opens = await Promise.all(Array.from({ length: 20 }, () => limiter.open()));
    expect(new Set([...opens, await first]).size).toBe(1);
    expect((await Promise.all(uses)).filter((decision) => decision.allowed).length).toBe(15);
    expect(limiter.open()).toBe(limiter.open());
  });

  it('makes it as any limiter', async () => {
    const { config, dataDir } = onDisk();
    const limiter = lazy(config);
    const opened = await limiter.open();
    expect(existsSync(dataDir)).toBe(true);
    expect([limiter.state, limiter.node, limiter.id]).toStrictEqual(['open', 'a', opened.id]);
    expect(inspect(limiter)).toBe("LazyLimiter { state: 'open', node: 'a' }");
    const decision = limiter.acquire(booking).orThrow();
    expect(opened.acquire(booking).remaining).toBe(1);
    limiter.refund(decision.receipt);
    limiter.refundToken(limiter.token(limiter.acquire(booking).orThrow().receipt));
    expect(limiter.peek(booking).remaining).toBe(1);
    expect(limiter.reset(booking)).toBe(1);
    expect(limiter.peers()).toStrictEqual([]);
    expect([limiter.health().state, limiter.status().health.state]).toStrictEqual(['running', 'running']);
    expect(Limiter.attach(limiter.id ?? -1).peek(booking).remaining).toBe(2);
    await limiter.flush();
    expect((await limiter.acquireDurable(booking)).allowed).toBe(true);
    expect((await limiter.counters().toArray()).length).toBe(1);
  });
});

describe('a lazy limiter that cannot be opened', () => {
  it('keeps the reason, and tells it to every later call', async () => {
    const limiter = lazy(REFUSED);
    await expect(limiter.open()).rejects.toThrow(ConfigError);
    expect(limiter.state).toBe('failed');
    const failure: unknown = await limiter.flush().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'TALLYMESH_CONFIG', message: expect.stringMatching(WHY_REFUSED) });
    await expect(limiter.acquireDurable(booking)).rejects.toBe(failure);
    await expect(limiter.counters().toArray()).rejects.toBe(failure);
    const { message } = failure as Error;
    const reason = `the limiter could not be opened: ${message}; limiter.open() tries again`;
    for (const denied of [limiter.acquire(booking), limiter.peek(booking)]) {
      expect(denied).toMatchObject({ allowed: false, cause: 'not-open', reason });
    }
    expect(limiter.toolRateLimiter({ session: 's' }).tryCall('book')).toStrictEqual({ allowed: false, reason });
    expect(() => limiter.health()).toThrow(new OpenError(reason));
    expect(JSON.parse(JSON.stringify(limiter))).toStrictEqual({ state: 'failed', reason: message });
  });

  it('is opened by `open` once that is possible, and by no use before', async () => {
    const { limiter, repair } = withoutFile();
    const tools = toolRateLimiters(limiter, { limits: LIMITS })('s');
    await expect(limiter.acquireDurable({})).rejects.toMatchObject({ code: expect.stringMatching(/^TALLYMESH_/) });
    repair();
    await expect(limiter.acquireDurable({})).rejects.toThrow();
    expect([limiter.acquire({}).allowed, tools.tryCall('book').allowed, limiter.state]).toStrictEqual([false, false, 'failed']);
    const opening = limiter.open();
    expect(limiter.acquire({}).reason).toBe(NOT_YET);
    const waiting = limiter.acquireDurable({});
    expect(await limiter.open()).toBe(await opening);
    expect((await waiting).allowed).toBe(true);
    expect([limiter.acquire({}).allowed, tools.tryCall('book').allowed, limiter.state]).toStrictEqual([true, true, 'open']);
  });

  it('ends no process that waits for nothing of it, and warns once', async () => {
    const program = `
      const { Limiter, toolRateLimiters } = require('tallymesh');
      const limiter = Limiter.lazy(${JSON.stringify(REFUSED)});
      const tools = toolRateLimiters(limiter)('s');
      limiter.acquire({});
      limiter.open();
      tools.tryCall('book');
      setTimeout(() => {
        limiter.open();
        limiter.open();
        tools.tryCall('book');
        limiter.acquire({});
        limiter.close();
        limiter.open();
        setImmediate(() => console.log(limiter.state));
      }, 100);`;
    const cwd = fileURLToPath(new URL('..', import.meta.url));
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['-e', program], { cwd });
    expect(stdout).toBe('closed\n');
    // Of the two that failed.
    expect(stderr.match(/TallymeshWarning: the limiter could not be opened: config\.node\.id/g)?.length).toBe(2);
  });
});

describe('a lazy limiter that is closed', () => {
  const asks: ((limiter: LazyLimiter) => unknown)[] = [
    (limiter) => limiter.acquire(booking),
    (limiter) => limiter.peek(booking),
    (limiter) => limiter.reset(booking),
    (limiter) => limiter.health(),
    (limiter) => limiter.acquireDurable(booking),
    (limiter) => limiter.flush(),
    (limiter) => limiter.counters().toArray(),
  ];

  it('before it is open, opens nothing and stays closed', async () => {
    const { config, dataDir } = onDisk();
    const limiter = lazy(config);
    const tools = limiter.toolRateLimiter({ session: 's' });
    await limiter.close();
    await limiter.close();
    for (const ask of asks) await expect((async () => ask(limiter))()).rejects.toThrow(ClosedError);
    await expect(limiter.open()).rejects.toThrow(ClosedError);
    expect(tools.tryCall('book')).toMatchObject({ allowed: false, reason: expect.stringContaining('the limiter is closed') });
    expect(() => limiter.toolRateLimiter({ session: 's' })).toThrow(ClosedError);
    expect([limiter.state, existsSync(dataDir)]).toStrictEqual(['closed', false]);
    await using other = Limiter.lazy(config);
    expect((await other.acquireDurable(booking)).allowed).toBe(true);
  });

  it('while it opens, answers what waits for it and nothing else, and lets its directory go', async () => {
    const { config } = onDisk();
    const limiter = lazy(config);
    const waiting = limiter.acquireDurable(booking);
    const store = new TallymeshStore({ limiter });
    store.init({ windowMs: 3_600_000 });
    const hit = store.increment('k');
    const closing = limiter.close();
    expect(limiter.state).toBe('closed');
    for (const ask of asks) await expect((async () => ask(limiter))()).rejects.toThrow(ClosedError);
    expect(await waiting).toMatchObject({ allowed: true, remaining: 2 });
    expect((await hit).totalHits).toBe(1);
    await closing;
    await using next = Limiter.lazy(config);
    expect((await next.acquireDurable(booking)).remaining).toBe(1);
  });

  it('while it fails to open or after that, is closed', async () => {
    for (const wait of [true, false]) {
      const limiter = lazy(REFUSED);
      const opening = limiter.open();
      if (wait) await opening.catch(() => undefined);
      await limiter.close();
      await expect(opening).rejects.toThrow(ConfigError);
      await expect(limiter.open()).rejects.toThrow(ClosedError);
      expect(() => limiter.acquire(booking)).toThrow(ClosedError);
    }
  });

  it('once it was open, is as a limiter that is closed', async () => {
    const limiter = lazy();
    await limiter.open();
    const closing = limiter.close();
    for (const ask of asks) await expect((async () => ask(limiter))()).rejects.toThrow(ClosedError);
    await closing;
    await expect(limiter.open()).rejects.toThrow(ClosedError);
    const other = lazy();
    await (await other.open()).close();
    expect(other.state).toBe('closed');
    await other.close();
  });
});
