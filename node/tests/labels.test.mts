/** Labels that calls get from where they are made. */
import type { AddressInfo } from 'node:net';
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate as turn } from 'node:timers/promises';

import express from 'express';
import { rateLimit } from 'express-rate-limit';
import { describe, expect, expectTypeOf, it, onTestFinished, vi } from 'vitest';
import { InvalidInputError, Limiter, toolRateLimiters, type Labels, type LazyLimiter, type LimitConfig } from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';
import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';

import { inMemory, open } from './support.mjs';

const BOOKINGS: LimitConfig = { name: 'bookings', when: { tool: 'book_*' }, per: ['session'], max: 3, window: 'session' };
const TOKENS: LimitConfig = { name: 'tokens', when: { tool: 'ask' }, per: ['user', 'session'], max: 100, window: 'session' };
const LIMITS = { book: { maxPerTurn: 1, maxPerSession: 3 } };
const booking = { tool: 'book_service' };

/** The values of every counter of this limit, with what is counted. */
async function counted(limiter: Limiter | LazyLimiter, limit = 'bookings'): Promise<Record<string, number>> {
  const counters = (await limiter.counters().toArray()).filter((counter) => counter.limit === limit);
  return Object.fromEntries(counters.map(({ values, value }) => [values.join(' '), Number(value)]));
}

describe('withLabels', () => {
  it('gives its labels to each call, and no other call', async () => {
    const limiter = await open(BOOKINGS);
    const missing = { allowed: false, cause: 'missing-label', missingLabel: 'session' };
    expect(limiter.acquire(booking)).toMatchObject(missing);
    await limiter.withLabels({ session: 's' }, async () => {
      expect(limiter.peek(booking)).toMatchObject({ allowed: true, remaining: 2 });
      expect(limiter.acquire(booking)).toMatchObject({ allowed: true, remaining: 2 });
      await turn();
      expect(await limiter.acquireDurable(booking)).toMatchObject({ allowed: true, remaining: 1 });
      expect(limiter.labels()).toStrictEqual({ session: 's' });
    });
    expect(limiter.acquire(booking)).toMatchObject(missing);
    expect(limiter.peek(booking)).toMatchObject(missing);
    expect(await limiter.acquireDurable(booking)).toMatchObject(missing);
    expect(limiter.labels()).toStrictEqual({});
    expect(await counted(limiter)).toStrictEqual({ s: 2 });
  });

  it('decides with them which limits apply', async () => {
    const config = { ...inMemory({ ...BOOKINGS, when: { plan: 'free' } }), counters: { unmatched: 'deny' } } as const;
    await using limiter = await Limiter.open(config);
    expect(limiter.acquire({ session: 's' }).cause).toBe('unmatched');
    expect(limiter.withLabels({ plan: 'paid' }, () => limiter.acquire({ session: 's' })).cause).toBe('unmatched');
    expect(limiter.withLabels({ plan: 'free' }, () => limiter.acquire({ session: 's' })).limit).toBeUndefined();
    expect(limiter.withLabels({ plan: 'free' }, () => limiter.acquire({})).missingLabel).toBe('session');
    expect(await counted(limiter)).toStrictEqual({ s: 1 });
  });

  it('lets the label of a call win, and that of the inner scope', async () => {
    const limiter = await open(BOOKINGS, TOKENS);
    limiter.withLabels({ session: 'outer', user: 'u' }, () => {
      expect(limiter.acquire({ ...booking, session: 'own' }).remaining).toBe(2);
      limiter.withLabels({ session: 'inner' }, () => {
        expect(limiter.labels()).toStrictEqual({ session: 'inner', user: 'u' });
        limiter.acquire({ tool: 'ask', cost: 7 });
      });
      limiter.acquire({ tool: 'ask', cost: 5 });
    });
    expect(await counted(limiter)).toStrictEqual({ own: 1 });
    expect(await counted(limiter, 'tokens')).toStrictEqual({ 'u inner': 7, 'u outer': 5 });
  });

  it('returns what the function returns, and passes on what it throws', async () => {
    const limiter = await open();
    expectTypeOf(limiter.withLabels({}, () => 7)).toEqualTypeOf<number>();
    expectTypeOf(limiter.withLabels({}, async () => 'x')).toEqualTypeOf<Promise<string>>();
    expect(limiter.withLabels({}, () => 7)).toBe(7);
    const promise = Promise.resolve(7);
    expect(limiter.withLabels({}, () => promise)).toBe(promise);
    const error = new Error('no');
    const fails = (): never => {
      throw error;
    };
    expect(() => limiter.withLabels({ session: 's' }, fails)).toThrow(error);
    await expect(limiter.withLabels({ session: 's' }, async () => fails())).rejects.toBe(error);
    expect(limiter.labels()).toStrictEqual({});
  });

  it('does not mix two limiters', async () => {
    const [one, other] = [await open(BOOKINGS), await open(BOOKINGS)];
    one.withLabels({ session: 'one' }, () => {
      expect(other.acquire(booking).missingLabel).toBe('session');
      other.withLabels({ session: 'other' }, () => {
        expect([one.labels(), other.labels()]).toStrictEqual([{ session: 'one' }, { session: 'other' }]);
        expect([one.acquire(booking).remaining, other.acquire(booking).remaining]).toStrictEqual([2, 2]);
      });
    });
    expect([await counted(one), await counted(other)]).toStrictEqual([{ one: 1 }, { other: 1 }]);
  });

  it('does not mix requests that are handled at once', async () => {
    const limiter = await open({ ...BOOKINGS, max: 100 });
    const handle = (session: string): Promise<void> =>
      limiter.withLabels({ session }, async () => {
        for (let call = 0; call < 10; call += 1) {
          await (call % 2 === 0 ? turn() : Promise.resolve());
          limiter.acquire(booking);
          await limiter.acquireDurable(booking);
          expect(limiter.labels()).toStrictEqual({ session });
        }
      });
    const sessions = Array.from({ length: 10 }, (_, number) => `s${number}`);
    await Promise.all(sessions.map(handle));
    expect(await counted(limiter)).toStrictEqual(Object.fromEntries(sessions.map((session) => [session, 20])));
  });

  it('reaches no callback that was registered outside, and those that were inside after it is over', async () => {
    const limiter = await open(BOOKINGS);
    const outside = new Promise<Labels>((resolve) => setTimeout(() => resolve(limiter.labels()), 5));
    const queued = turn().then(() => limiter.labels());
    let inside!: Promise<Labels>;
    limiter.withLabels({ session: 's' }, () => {
      inside = new Promise((resolve) => setTimeout(() => resolve(limiter.labels()), 1));
    });
    expect(await Promise.all([outside, queued, inside])).toStrictEqual([{}, {}, { session: 's' }]);
  });

  it('takes a copy of the labels', async () => {
    const limiter = await open(BOOKINGS);
    const labels = { session: 's' };
    limiter.withLabels(labels, () => {
      labels.session = 'other';
      expect(limiter.labels()).toStrictEqual({ session: 's' });
      expect(Object.isFrozen(limiter.labels())).toBe(true);
    });
  });

  it.each([
    ['a cost', { cost: 5 }, /labels\.cost is no label: give the cost with each request/],
    ['a label without a name', { '': 'x' }, /the name of a label is empty/],
    ['an undefined label', { session: undefined }, /label session is undefined: give a string/],
    ['a number', { session: 7 }, /label session is 7: give a string/],
    ['an empty text', { session: '' }, /label session is empty/],
    ['a NUL', { session: 'a\0b' }, /label session is .*: leave the NUL out/],
    ['half of a surrogate pair', { session: '\ud800' }, /half of a surrogate pair/],
    ['a long text', { session: 'x'.repeat(8193) }, /label session has 8193 characters/],
    ['too many', Object.fromEntries(Array.from({ length: 1025 }, (_, label) => [`l${label}`, 'x'])), /has 1025 labels/],
    ['a Map', new Map([['session', 's']]), /labels is an object of class Map: give a plain object/],
    ['nothing', undefined, /labels is undefined: give an object/],
  ])('refuses %s at once, and runs nothing', async (_, labels, message) => {
    const limiter = await open(BOOKINGS);
    const fn = vi.fn();
    for (const each of [limiter, Limiter.lazy(inMemory())]) {
      expect(() => each.withLabels(labels as never, fn)).toThrow(InvalidInputError);
      expect(() => each.withLabels(labels as never, fn)).toThrow(message);
    }
    expect(fn).not.toHaveBeenCalled();
  });

  it('refuses scopes that have too many labels together, and what is no function', async () => {
    const limiter = await open(BOOKINGS);
    const labels = (letter: string) =>
      Object.fromEntries(Array.from({ length: 600 }, (_, number) => [`${letter}${number}`, 'x']));
    const inner = () => limiter.withLabels(labels('b'), () => undefined);
    expect(() => limiter.withLabels(labels('a'), inner)).toThrow(/labels has 1200 labels/);
    expect(() => limiter.withLabels({}, 7 as never)).toThrow(/fn is 7: give the function/);
  });

  it('changes no refusal of a request', async () => {
    const limiter = await open(BOOKINGS);
    limiter.withLabels({ session: 's' }, () => {
      for (const wrong of [new Map(), undefined, { session: undefined }, { tool: 7 }]) {
        expect(() => limiter.acquire(wrong as never)).toThrow(InvalidInputError);
        expect(() => limiter.peek(wrong as never)).toThrow(InvalidInputError);
      }
    });
  });

  it('does not change what is reset: that is what is told', async () => {
    const limiter = await open(BOOKINGS, { ...BOOKINGS, name: 'per user', when: {}, per: ['user'] });
    await limiter.withLabels({ session: 'admin', user: 'a' }, async () => {
      limiter.acquire(booking);
      limiter.acquire({ ...booking, session: 's' });
      expect(limiter.reset({ ...booking, session: 's' })).toBe(1);
      expect(limiter.reset({ limit: 'per user', labels: { user: 'b' } })).toBe(0);
    });
    expect(await counted(limiter)).toStrictEqual({ admin: 1, s: 0 });
    expect(await counted(limiter, 'per user')).toStrictEqual({ a: 2 });
  });

  it('is asked for nothing in a limiter that never had labels', async () => {
    const get = vi.spyOn(AsyncLocalStorage.prototype, 'getStore');
    onTestFinished(() => get.mockRestore());
    const limiter = await open(BOOKINGS);
    const asks = () => {
      limiter.acquire(booking);
      limiter.peek(booking);
      limiter.labels();
    };
    asks();
    expect(get).not.toHaveBeenCalled();
    limiter.withLabels({ session: 's' }, asks);
    expect(get).toHaveBeenCalled();
  });

  it('works while a lazy limiter opens, and after it', async () => {
    const limiter = Limiter.lazy(inMemory(BOOKINGS));
    onTestFinished(async () => void (await limiter.close()));
    await limiter.withLabels({ session: 's' }, async () => {
      expect(limiter.acquire(booking).cause).toBe('not-open');
      expect(await limiter.acquireDurable(booking)).toMatchObject({ allowed: true, remaining: 2 });
      const opened = await limiter.open();
      expect([opened.labels(), limiter.labels()]).toStrictEqual([{ session: 's' }, { session: 's' }]);
      expect(opened.acquire(booking).remaining).toBe(1);
      opened.withLabels({ session: 't' }, () => expect(limiter.acquire(booking).remaining).toBe(2));
    });
    expect(limiter.acquire(booking).missingLabel).toBe('session');
  });
});

describe('the session of withLabels', () => {
  it('is that of tool rate limiters that are given none', async () => {
    const opened = await open();
    const lazy = Limiter.lazy(inMemory());
    onTestFinished(async () => void (await lazy.close()));
    await lazy.open();
    for (const [s, limiter, of] of [
      ['s1', opened, opened.toolRateLimiters({ limits: LIMITS })],
      ['s2', opened, toolRateLimiters(opened, { limits: LIMITS })],
      ['s3', lazy, toolRateLimiters(lazy, { limits: LIMITS })],
    ] as const) {
      limiter.withLabels({ session: s }, () => {
        expect(of().tryCall('book').allowed).toBe(true);
        expect(of(undefined, { turn: '2' }).tryCall('book').allowed).toBe(true);
        expect(of(`not ${s}`).tryCall('book').allowed).toBe(true);
        expect(limiter.toolRateLimiter({ limits: LIMITS }).getStats().session).toStrictEqual({ book: 2 });
      });
      expect(of(s).getStats().session).toStrictEqual({ book: 2 });
      expect(of(`not ${s}`).getStats().session).toStrictEqual({ book: 1 });
    }
  });

  it('is that of a limiter that was promised, once it is open', async () => {
    const limiter = await open();
    const of = toolRateLimiters(Promise.resolve(limiter), { limits: LIMITS });
    await turn();
    limiter.withLabels({ session: 's' }, () => expect(of().tryCall('book').allowed).toBe(true));
    expect(of('s').getStats().session).toStrictEqual({ book: 1 });
  });

  it('must be there if none is given', async () => {
    const limiter = await open();
    const message = 'session is undefined: give a string, or call this within limiter.withLabels({ session }, ...)';
    const asks = [() => limiter.toolRateLimiters()(), () => limiter.toolRateLimiter(), () => limiter.toolRateLimiter({})];
    for (const ask of asks) {
      expect(ask).toThrow(new InvalidInputError(message));
      expect(() => limiter.withLabels({ user: 'u' }, ask)).toThrow(new InvalidInputError(message));
    }
    const session = undefined as unknown as string;
    const left = () => limiter.toolRateLimiter({ session });
    expect(() => limiter.withLabels({ session: 's' }, left)).toThrow(/session is undefined: give a string/);
  });
});

describe('adapters, whose keys are given with each call', () => {
  it('have no labels of their own, and functions of their options see those in force', async () => {
    const limiter = await open();
    const app = express();
    app.use((request, _, next) => limiter.withLabels({ user: String(request.query['user']) }, next));
    const keyGenerator = () => limiter.labels().user ?? 'none';
    app.use(rateLimit({ windowMs: 3_600_000, limit: 1, keyGenerator, store: new TallymeshStore({ limiter }) }));
    app.get('/', (_, response) => void response.send(limiter.labels().user));
    const server = app.listen(0, '127.0.0.1');
    await new Promise((listening) => server.once('listening', listening));
    onTestFinished(() => void server.close());
    const ask = (user: string) => fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/?user=${user}`);
    const answers = await Promise.all(['u', 'v', 'w'].map(async (user) => (await ask(user)).text()));
    expect(answers).toStrictEqual(['u', 'v', 'w']);
    expect([(await ask('u')).status, (await ask('x')).status]).toStrictEqual([429, 200]);
    const flexible = new RateLimiterTallymesh({ limiter, points: 5, duration: 3600 });
    await limiter.withLabels({ user: 'u' }, () => flexible.consume('k'));
    expect((await flexible.consume('k')).consumedPoints).toBe(2);
  });
});
