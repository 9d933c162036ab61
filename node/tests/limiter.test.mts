import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';
import { ClosedError, DeniedError, InvalidInputError, Limiter, RefundError, type LimitConfig, type Receipt } from 'tallymesh';

import { inMemory, open, temporaryDirectory } from './support.mjs';

const BOOKINGS: LimitConfig = { name: 'bookings', when: { tool: 'book_*' }, per: ['session'], max: 3, window: 'session' };
const TOKENS: LimitConfig = { name: 'tokens', per: ['user'], max: 1000, window: '1h' };
const booking = { session: 's', tool: 'book_service' };

describe('acquire', () => {
  it('charges until the limit is reached, and then says which and how long', async () => {
    const limiter = await open(BOOKINGS);
    expect([1, 2, 3].map(() => limiter.acquire(booking).remaining)).toStrictEqual([2, 1, 0]);
    const denied = limiter.acquire(booking);
    expect(denied).toMatchObject({
      allowed: false,
      limit: 'bookings',
      remaining: 0,
      cause: 'limit-reached',
      receipt: undefined,
    });
    expect(denied.retryAfterMs).toBeGreaterThan(3_500_000);
    expect(denied.reason).toBe(`limit "bookings" of 3 reached (0 left); retry in ${denied.retryAfterMs} ms`);
  });

  it('counts apart what a limit counts apart', async () => {
    const limiter = await open(BOOKINGS);
    for (let call = 0; call < 3; call += 1) limiter.acquire(booking);
    expect(limiter.acquire({ ...booking, session: 'other' }).allowed).toBe(true);
  });

  it('has room without end where no limit matches', async () => {
    const limiter = await open(BOOKINGS);
    expect(limiter.acquire({ session: 's', tool: 'read' })).toMatchObject({ allowed: true, remaining: Infinity });
    expect(limiter.acquire({}).allowed).toBe(true);
  });

  it('denies a request that lacks a label of a limit that it matches, and says which', async () => {
    const limiter = await open(BOOKINGS, TOKENS);
    for (const ask of [limiter.peek, limiter.acquire]) {
      const denied = ask.call(limiter, booking);
      expect(denied).toMatchObject({
        allowed: false,
        limit: 'tokens',
        cause: 'missing-label',
        missingLabel: 'user',
        remaining: 0,
        retryAfterMs: undefined,
        reason: 'the request lacks the label "user", which limit "tokens" counts per; waiting does not help',
      });
      expect(JSON.parse(JSON.stringify(denied))).toMatchObject({ missingLabel: 'user' });
    }
    expect(() => limiter.acquire(booking).orThrow()).toThrow(expect.objectContaining({ missingLabel: 'user' }));
    expect(limiter.acquire({ user: 'u', tool: 'book_a' }).missingLabel).toBe('session');
    expect(limiter.acquire({ ...booking, user: 'u' }).missingLabel).toBeUndefined();
    expect((await limiter.counters().toArray()).map((counter) => counter.value)).toStrictEqual([1n, 1n]);
  });

  it('passes a limit over for want of a label only if the limit says so', async () => {
    const limiter = await open(BOOKINGS, { ...TOKENS, whenLabelMissing: 'skip' });
    expect(limiter.acquire(booking)).toMatchObject({ allowed: true, remaining: 2 });
  });

  it('counts requests that no limit applies to, and denies them if told to', async () => {
    const limiter = await open(BOOKINGS);
    expect(limiter.health().requestsUnmatched).toBe(0);
    expect(limiter.acquire({ session: 's', tool: 'read' }).allowed).toBe(true);
    limiter.peek({ session: 's', tool: 'read' });
    limiter.acquire(booking);
    expect(limiter.health().requestsUnmatched).toBe(1);
    for (const limits of [[], [BOOKINGS]]) {
      await using strict = await Limiter.open({ ...inMemory(...limits), counters: { unmatched: 'deny' } });
      for (const ask of [strict.peek, strict.acquire]) {
        expect(ask.call(strict, { session: 's', tool: 'read' })).toMatchObject({
          allowed: false,
          cause: 'unmatched',
          limit: undefined,
          reason: 'no limit applies to the request, and counters.unmatched is "deny"; waiting does not help',
        });
      }
      expect(strict.health().requestsUnmatched).toBe(1);
    }
  });

  it('denies what a full cell cannot count', async () => {
    const limiter = await open({ name: 'all', max: Number.MAX_SAFE_INTEGER, window: 'session' });
    const cost = Number.MAX_SAFE_INTEGER;
    limiter.refund(limiter.acquire({ cost }).orThrow().receipt);
    const answers = Array.from({ length: 5 }, () => limiter.acquire({ cost }));
    expect(answers.map((answer) => answer.cause)).toStrictEqual(Array(5).fill('counter-exhausted'));
    expect(answers[0]?.reason).toMatch(/^the counter of limit "all" has counted 2\^53 - 1 here.*; retry in \d+ ms$/);
  });

  it('charges all limits or none', async () => {
    const limiter = await open(BOOKINGS, TOKENS);
    expect(limiter.acquire({ ...booking, user: 'u', cost: 2 }).remaining).toBe(1);
    expect(limiter.acquire({ ...booking, user: 'u', cost: 2 })).toMatchObject({ limit: 'bookings', remaining: 1 });
    const tokens = (await limiter.counters().toArray()).find((counter) => counter.limit === 'tokens');
    expect(tokens).toMatchObject({ values: ['u'], value: 2n, windowMs: 3_600_000 });
  });

  it('knows a cost that can never be admitted', async () => {
    const limiter = await open(BOOKINGS);
    const denied = limiter.acquire({ ...booking, cost: 4 });
    expect(denied).toMatchObject({ cause: 'cost-over-max', retryAfterMs: undefined });
    expect(denied.reason).toBe('the cost is over limit "bookings" of 3; waiting does not help');
  });

  it('takes costs and counts up to 2^53 - 1', async () => {
    const limiter = await open({ name: 'all', max: Number.MAX_SAFE_INTEGER, window: 'session' });
    expect(limiter.acquire({ cost: Number.MAX_SAFE_INTEGER - 1 }).remaining).toBe(1);
    expect(limiter.acquire({ cost: 2 }).allowed).toBe(false);
    expect(limiter.acquire({ cost: 1 }).remaining).toBe(0);
    expect((await limiter.counters().toArray())[0]?.value).toBe(9_007_199_254_740_991n);
  });

  it('denies what needs a counter for which there is no room', async () => {
    const limiter = await Limiter.open({ ...inMemory(BOOKINGS), counters: { maxCounters: 1 } });
    await using _closing = limiter;
    limiter.acquire(booking);
    expect(limiter.acquire({ ...booking, session: 'other' }).cause).toBe('too-many-counters');
    expect(limiter.health()).toMatchObject({ countersRefused: 1, reasons: [expect.stringMatching(/maxCounters/)] });
    const tools = limiter.toolRateLimiter({ session: 'other' });
    expect(tools.tryCall('tool').reason).toMatch(/maxCounters/);
    tools.recordCall('tool');
    expect(tools.getStats().session).toStrictEqual({ tool: 1 });
  });

  it('denies labels that are too long or too many for the settings', async () => {
    const limiter = await open(BOOKINGS);
    expect(limiter.acquire({ ...booking, session: 'x'.repeat(600) }).cause).toBe('key-too-long');
    const many = Object.fromEntries(Array.from({ length: 17 }, (_, number) => [`label${number}`, 'x']));
    expect(limiter.acquire(many)).toMatchObject({ allowed: false, cause: 'too-many-labels', limit: undefined });
  });

  it('keeps texts of any script apart', async () => {
    const limiter = await open(BOOKINGS);
    const sessions = ['ä', 'a\u0308', '日本', '😀', '\ufffd', 'a\u2028b', '__proto__'];
    for (const session of sessions) limiter.acquire({ ...booking, session });
    const counters = await limiter.counters().toArray();
    expect(counters.map((counter) => counter.values[0]).sort()).toStrictEqual(sessions.sort());
  });

  it('shows itself in JSON with its reason', async () => {
    const limiter = await open(BOOKINGS);
    for (let call = 0; call < 3; call += 1) limiter.acquire(booking);
    expect(JSON.parse(JSON.stringify(limiter.acquire(booking)))).toMatchObject({
      allowed: false,
      reason: expect.stringContaining('bookings'),
    });
  });
});

describe('peek', () => {
  it('answers like acquire and charges nothing', async () => {
    const limiter = await open(BOOKINGS);
    const peeked = limiter.peek({ ...booking, cost: 3 });
    expect(peeked).toMatchObject({ allowed: true, remaining: 0 });
    expect('receipt' in peeked).toBe(false);
    expect(limiter.peek({ ...booking, cost: 4 }).allowed).toBe(false);
    expect(await limiter.counters().toArray()).toStrictEqual([]);
  });
});

describe('orThrow', () => {
  it('returns an allowed decision', async () => {
    const limiter = await open(BOOKINGS);
    const decision = limiter.acquire(booking).orThrow();
    const receipt: Receipt = decision.receipt;
    limiter.refund(receipt);
    expect(decision.remaining).toBe(2);
  });

  it('throws a denied one, with all that it says', async () => {
    const limiter = await open(BOOKINGS);
    const denied = limiter.acquire({ ...booking, cost: 4 });
    const thrown = thrownBy(() => denied.orThrow());
    expect(thrown).toBeInstanceOf(DeniedError);
    expect(thrown).toMatchObject({
      name: 'DeniedError',
      code: 'TALLYMESH_DENIED',
      message: 'the cost is over limit "bookings" of 3; waiting does not help',
      reason: denied.reason,
      cause: 'cost-over-max',
      limit: 'bookings',
      remaining: 3,
      retryAfterMs: undefined,
    });
    expect(
      thrownBy(() => limiter.acquire({ ...booking, cost: 3 }).orThrow() && limiter.acquire(booking).orThrow()),
    ).toMatchObject({ cause: 'limit-reached', remaining: 0, retryAfterMs: expect.any(Number) });
  });
});

describe('refund', () => {
  function receiptOf(limiter: Limiter): Receipt {
    return limiter.acquire(booking).orThrow().receipt;
  }

  async function refused(limiter: Limiter, receipt: string): Promise<unknown> {
    const before = await limiter.counters().toArray();
    const thrown = thrownBy(() => limiter.refund(receipt as Receipt));
    expect(thrown).toBeInstanceOf(RefundError);
    expect(await limiter.counters().toArray()).toStrictEqual(before);
    return (thrown as RefundError).code;
  }

  it('takes a charge back', async () => {
    const limiter = await open(BOOKINGS);
    limiter.refund(receiptOf(limiter));
    expect(limiter.peek({ ...booking, cost: 3 }).allowed).toBe(true);
  });

  it('takes back the admission whose receipt it is, however many others there were', async () => {
    const limiter = await open(BOOKINGS, TOKENS);
    const first = limiter.acquire({ user: 'u', cost: 10 });
    for (let call = 0; call < 5; call += 1) limiter.acquire(booking);
    const last = limiter.acquire({ user: 'u', cost: 200 });
    limiter.peek({ user: 'u' });
    limiter.refund(last.orThrow().receipt);
    expect(limiter.peek({ user: 'u', cost: 0 }).remaining).toBe(990);
    limiter.refund(first.orThrow().receipt);
    expect(limiter.peek({ user: 'u', cost: 0 }).remaining).toBe(1000);
  });

  it('knows a receipt that was kept in JSON, which is a text and never empty', async () => {
    const limiter = await open(BOOKINGS);
    const { receipt } = limiter.acquire(booking);
    expect(receipt).toBeTypeOf('string');
    expect(receipt).toBeTruthy();
    expect(JSON.stringify(receipt)).toBe(`"${receipt}"`);
    limiter.refund((JSON.parse(JSON.stringify({ receipt })) as { receipt: Receipt }).receipt);
    expect((await limiter.counters().toArray())[0]?.value).toBe(0n);
    expect(limiter.acquire({ ...booking, cost: 4 }).receipt).toBeUndefined();
  });

  it('takes it back once', async () => {
    const limiter = await open(BOOKINGS);
    const receipt = receiptOf(limiter);
    receiptOf(limiter);
    limiter.refund(receipt);
    expect(await refused(limiter, receipt)).toBe('USED');
  });

  it('refuses a receipt that 65,536 admissions have pushed out', async () => {
    const limiter = await open({ ...BOOKINGS, max: 1_000_000 });
    const [first, second] = [receiptOf(limiter), receiptOf(limiter)];
    for (let call = 0; call < 65_535; call += 1) limiter.acquire(booking);
    expect(await refused(limiter, first)).toBe('EXPIRED');
    limiter.refund(second);
  });

  it('refuses what another limiter gave out', async () => {
    const [limiter, other] = [await open(BOOKINGS), await open(BOOKINGS)];
    receiptOf(other);
    expect(await refused(other, receiptOf(limiter))).toBe('OTHER_LIMITER');
  });

  it('refuses what was given out before the limiter was opened again', async () => {
    const config = { node: { id: 'a', dataDir: temporaryDirectory() }, limits: [BOOKINGS] };
    const before = await Limiter.open(config);
    const receipt = receiptOf(before);
    await before.close();
    await using limiter = await Limiter.open(config);
    receiptOf(limiter);
    expect(await refused(limiter, receipt)).toBe('OTHER_LIFE');
  });

  it('refuses what another handle of the limiter gave out', async () => {
    const limiter = await open(BOOKINGS);
    const attached = Limiter.attach(limiter.id);
    receiptOf(limiter);
    const receipt = receiptOf(attached);
    expect(await refused(limiter, receipt)).toBe('OTHER_THREAD');
    attached.refund(receipt);
  });

  it('refuses what is made up', async () => {
    const limiter = await open(BOOKINGS);
    const receipt = receiptOf(limiter);
    const [life, handle] = receipt.split('-');
    const madeUp = [
      'x',
      '0',
      '--',
      'null',
      `${receipt}0`,
      `${receipt}-0`,
      ` ${receipt}`,
      `${life}-${handle}-1`,
      `${life}-${handle}-00`,
      `${life}-${handle}-+0`,
      `${life}-${handle}--1`,
      `${life}-4000000000-0`,
      `${life}-${handle}-18446744073709551615`,
      `${life}-${handle}-99999999999999999999999`,
      `${life?.toUpperCase()}Z-${handle}-0`,
      'é'.repeat(100),
    ];
    for (const text of madeUp) expect(await refused(limiter, text), text).toBe('UNKNOWN');
    limiter.refund(receipt);
  });
});

describe('a token', () => {
  it('takes a charge back once, in any thread', async () => {
    const limiter = await open(BOOKINGS);
    const { receipt } = limiter.acquire(booking).orThrow();
    const token = limiter.token(receipt);
    expect(() => limiter.refund(receipt)).toThrow(expect.objectContaining({ code: 'USED' }));
    Limiter.attach(limiter.id).refundToken(token);
    expect((await limiter.counters().toArray())[0]?.value).toBe(0n);
    expect(() => limiter.refundToken(token)).toThrow(expect.objectContaining({ name: 'RefundError', code: 'USED' }));
  });

  it('is refused by another node, which says whose it is', async () => {
    const limiter = await open(BOOKINGS);
    await using other = await Limiter.open({ ...inMemory(BOOKINGS), node: { id: 'other' } });
    await using namesake = await Limiter.open(inMemory(BOOKINGS));
    const token = limiter.token(limiter.acquire(booking).orThrow().receipt);
    const refused = thrownBy(() => other.refundToken(token));
    expect(refused).toMatchObject({ code: 'NOT_MINE', node: 'test', message: expect.stringContaining('is of node test') });
    expect(() => namesake.refundToken(token)).toThrow(expect.objectContaining({ code: 'OTHER_LIFE' }));
    expect(() => limiter.refundToken(`${token.slice(0, -4)}AAAA`)).toThrow(expect.objectContaining({ code: 'INVALID' }));
    limiter.refundToken(token);
  });
});

describe('reset', () => {
  const PER_TOOL: LimitConfig = { name: 'tools', per: ['session', 'tool'], max: 9, window: '1h' };
  const ALL: LimitConfig = { name: 'all', max: 9, window: '1h' };

  async function counts(limiter: Limiter): Promise<Record<string, bigint>> {
    return Object.fromEntries((await limiter.counters().toArray()).map(({ limit, value }) => [limit, value]));
  }

  it('resets the counters of a request, but none that counts for all', async () => {
    const limiter = await open(BOOKINGS, PER_TOOL, ALL);
    for (let call = 0; call < 3; call += 1) limiter.acquire(booking);
    expect(limiter.reset({ session: 'other' })).toBe(0);
    expect(limiter.reset({})).toBe(0);
    expect(limiter.reset(booking)).toBe(2);
    expect(await counts(limiter)).toStrictEqual({ bookings: 0n, tools: 0n, all: 3n });
    expect(limiter.acquire(booking).remaining).toBe(2);
  });

  it('resets the counter of one limit', async () => {
    const limiter = await open(BOOKINGS, PER_TOOL, ALL);
    limiter.acquire(booking);
    expect(limiter.reset({ limit: 'tools', labels: { tool: 'book_service', session: 's' } })).toBe(1);
    expect(await counts(limiter)).toStrictEqual({ bookings: 1n, tools: 0n, all: 1n });
    expect(limiter.reset({ limit: 'all', labels: {} })).toBe(1);
    expect(limiter.reset({ limit: 'bookings', labels: { session: 'other' } })).toBe(0);
    expect(await counts(limiter)).toStrictEqual({ bookings: 1n, tools: 0n, all: 0n });
  });

  it.each([
    [{ limit: 'booking', labels: { session: 's' } }, /no limit has the name "booking"/],
    [{ limit: 'tools', labels: { session: 's' } }, /"tools" counts per "tool"/],
    [{ limit: 'bookings', labels: {} }, /"bookings" counts per "session"/],
    [{ limit: 'bookings', labels: { session: 's', user: 'u' } }, /"bookings" does not count per "user"/],
    [{ limit: 'all', labels: { session: 's' } }, /"all" does not count per "session"/],
    [{ limit: '', labels: {} }, /limit is empty/],
    [{ limit: 7, labels: {} }, /limit is 7/],
    [{ limit: 'bookings', labels: { session: '' } }, /label session is empty/],
    [{ limit: 'bookings', labels: { session: 'a\0b' } }, /label session .*NUL/],
    [{ limit: 'bookings', labels: ['s'] }, /./],
    [{ limit: 'bookings', labels: null }, /label labels is null/],
  ])('refuses %j', async (what, message) => {
    const limiter = await open(BOOKINGS, PER_TOOL, ALL);
    limiter.acquire(booking);
    const thrown = thrownBy(() => limiter.reset(what as never));
    expect(thrown).toBeInstanceOf(InvalidInputError);
    expect((thrown as Error).message).toMatch(message);
    expect(await counts(limiter)).toStrictEqual({ bookings: 1n, tools: 1n, all: 1n });
  });
});

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (thrown) {
    return thrown;
  }
  throw new Error('it did not throw');
}

describe('a limiter on disk', () => {
  it('holds after a restart what was counted before', async () => {
    const dataDir = temporaryDirectory();
    const config = { node: { id: 'a', dataDir }, limits: [BOOKINGS] };
    {
      await using limiter = await Limiter.open(config);
      expect((await limiter.acquireDurable(booking)).allowed).toBe(true);
      limiter.toolRateLimiter({ session: 's' }).recordCall('book_service');
      await limiter.flush();
      expect(limiter.status()).toMatchObject({ health: { durable: true, reasons: [] }, counters: 2 });
      expect(limiter.health()).toMatchObject({
        state: 'running',
        durable: true,
        durability: 'durable',
        reasons: [],
        counters: 2,
      });
    }
    await using limiter = await Limiter.open(config);
    expect(limiter.acquire(booking).remaining).toBe(1);
    expect(limiter.toolRateLimiter({ session: 's' }).getStats()).toStrictEqual({ turn: {}, session: { book_service: 1 } });
  });

  it('shares one write among durable calls at one time', async () => {
    await using limiter = await Limiter.open({
      node: { id: 'a', dataDir: temporaryDirectory() },
      limits: [{ ...BOOKINGS, max: 1000 }],
    });
    const decisions = await Promise.all(Array.from({ length: 500 }, () => limiter.acquireDurable(booking)));
    expect(decisions.filter((decision) => decision.allowed)).toHaveLength(500);
  });

  it('is opened by a TOML file', async () => {
    const directory = temporaryDirectory();
    const file = join(directory, 'tallymesh.toml');
    writeFileSync(
      file,
      `[node]\nid = "a"\ndata_dir = ${JSON.stringify(join(directory, 'data'))}\n[[limit]]\nname = "all"\nmax = 1\nwindow = "1h"\n`,
    );
    await using limiter = await Limiter.open(file);
    expect(limiter.node).toBe('a');
    expect([limiter.acquire({}).allowed, limiter.acquire({}).limit]).toStrictEqual([true, 'all']);
  });

  it('says who holds its directory', async () => {
    const dataDir = temporaryDirectory();
    await using _holder = await Limiter.open({ node: { id: 'a', dataDir } });
    await expect(Limiter.open({ node: { id: 'a', dataDir } })).rejects.toMatchObject({
      name: 'OpenError',
      code: 'TALLYMESH_OPEN',
      message: expect.stringContaining(dataDir),
    });
  });
});

describe('close', () => {
  it('may be called twice, and makes everything else throw', async () => {
    const limiter = await Limiter.open(inMemory(BOOKINGS));
    const tools = limiter.toolRateLimiter({ session: 's' });
    tools.recordCall('tool');
    await limiter.close();
    await limiter.close();
    const calls = [
      () => limiter.acquire(booking),
      () => limiter.peek(booking),
      () => limiter.reset(booking),
      () => limiter.peers(),
      () => limiter.health(),
      () => limiter.status(),
      () => limiter.toolRateLimiter({ session: 's' }),
      () => tools.reset(),
    ];
    for (const call of calls) expect(call).toThrow(ClosedError);
    await expect(limiter.flush()).rejects.toThrow(ClosedError);
    await expect(limiter.counters().toArray()).rejects.toThrow(ClosedError);
    expect(() => Limiter.attach(limiter.id)).toThrow(ClosedError);
  });
});
