import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  CounterError,
  DEFAULT_TOOL_RATE_LIMITS,
  InvalidInputError,
  Limiter,
  ToolRateLimiter,
  type ToolRateLimits,
} from 'tallymesh';

import { inMemory, open } from './support.mjs';

/** The same behaviour, wherever the session's calls are counted. */
const PLACES = {
  'in memory': async (limits?: ToolRateLimits) => new ToolRateLimiter(limits),
  'with a store': async (limits?: ToolRateLimits) => {
    const limiter = await open();
    return limiter.toolRateLimiter(limits === undefined ? { session: 's' } : { session: 's', limits });
  },
};

describe.each(Object.entries(PLACES))('a ToolRateLimiter %s', (_place, make) => {
  let limiter: ToolRateLimiter;

  beforeEach(async () => {
    limiter = await make({ book: { maxPerTurn: 1, maxPerSession: 3 }, read: { maxPerTurn: 2, maxPerSession: 50 } });
  });

  function callTimes(tool: string, times: number): void {
    for (let call = 0; call < times; call += 1) limiter.recordCall(tool);
  }

  it('is a ToolRateLimiter', () => {
    expect(limiter).toBeInstanceOf(ToolRateLimiter);
  });

  it('allows a tool that was not called', () => {
    expect(limiter.canCall('book')).toStrictEqual({ allowed: true });
  });

  it('denies past the limit of a turn, and says so', () => {
    callTimes('read', 2);
    expect(limiter.canCall('read')).toStrictEqual({ allowed: false, reason: 'read max per turn (2) reached' });
  });

  it('denies past the limit of a session, and says so', () => {
    for (let turn = 0; turn < 3; turn += 1) {
      limiter.resetTurn();
      expect(limiter.canCall('book').allowed).toBe(true);
      limiter.recordCall('book');
    }
    limiter.resetTurn();
    expect(limiter.canCall('book')).toStrictEqual({ allowed: false, reason: 'book max per session (3) reached' });
  });

  it('names the turn first when both limits are reached', () => {
    callTimes('book', 3);
    expect(limiter.canCall('book').reason).toBe('book max per turn (1) reached');
  });

  it('allows tools that are not named 5 times in a turn and 50 times in a session', () => {
    for (let call = 0; call < 50; call += 1) {
      if (call % 5 === 0) limiter.resetTurn();
      expect(limiter.tryCall('unnamed').allowed).toBe(true);
      if (call === 4) expect(limiter.tryCall('unnamed').reason).toBe('unnamed max per turn (5) reached');
    }
    limiter.resetTurn();
    expect(limiter.tryCall('unnamed').reason).toBe('unnamed max per session (50) reached');
  });

  it('counts nothing in canCall', () => {
    for (let call = 0; call < 10; call += 1) expect(limiter.canCall('book').allowed).toBe(true);
    expect(limiter.getStats()).toStrictEqual({ turn: {}, session: {} });
  });

  it('counts in recordCall whether it was allowed or not', () => {
    callTimes('book', 5);
    expect(limiter.getStats()).toStrictEqual({ turn: { book: 5 }, session: { book: 5 } });
  });

  it('keeps the counts of the session when a turn starts', () => {
    callTimes('read', 2);
    limiter.resetTurn();
    limiter.recordCall('book');
    expect(limiter.getStats()).toStrictEqual({ turn: { book: 1 }, session: { read: 2, book: 1 } });
  });

  it('resets everything', () => {
    callTimes('book', 3);
    limiter.reset();
    expect(limiter.getStats()).toStrictEqual({ turn: {}, session: {} });
    expect(limiter.canCall('book').allowed).toBe(true);
  });

  it('counts each tool for itself', () => {
    callTimes('book', 3);
    expect(limiter.canCall('read').allowed).toBe(true);
  });

  it('asks and counts in one step with tryCall', () => {
    expect(limiter.tryCall('book')).toStrictEqual({ allowed: true });
    expect(limiter.tryCall('book')).toStrictEqual({ allowed: false, reason: 'book max per turn (1) reached' });
    expect(limiter.getStats()).toStrictEqual({ turn: { book: 1 }, session: { book: 1 } });
  });

  it('counts nothing in a tryCall that the session denies', () => {
    callTimes('book', 3);
    limiter.resetTurn();
    expect(limiter.tryCall('book').reason).toBe('book max per session (3) reached');
    expect(limiter.getStats()).toStrictEqual({ turn: {}, session: { book: 3 } });
  });

  it('treats names that every object has as names', () => {
    for (const tool of ['__proto__', 'constructor', 'toString']) {
      expect(limiter.tryCall(tool).allowed).toBe(true);
      expect(Object.entries(limiter.getStats().session)).toContainEqual([tool, 1]);
    }
  });

  it('can forbid a tool', async () => {
    const strict = await make({ never: { maxPerTurn: 0, maxPerSession: 0 }, rarely: { maxPerTurn: 1, maxPerSession: 0 } });
    expect(strict.tryCall('never').reason).toBe('never max per turn (0) reached');
    expect(strict.tryCall('rarely').reason).toBe('rarely max per session (0) reached');
  });

  it('has the default limits where none are given', async () => {
    const usual = await make();
    expect(usual.tryCall('book_service').allowed).toBe(true);
    expect(usual.tryCall('book_service').reason).toBe('book_service max per turn (1) reached');
    for (const [tool, { maxPerTurn }] of Object.entries(DEFAULT_TOOL_RATE_LIMITS)) {
      usual.reset();
      for (let call = 0; call < maxPerTurn; call += 1) expect(usual.tryCall(tool).allowed).toBe(true);
      expect(usual.tryCall(tool).allowed).toBe(false);
    }
  });

  it.each([undefined, null, 7, {}, '', 'a\0b', '\ud800', 'x'.repeat(8193)])('refuses the tool name %j', (name) => {
    for (const ask of ['canCall', 'recordCall', 'tryCall'] as const) {
      expect(() => limiter[ask](name as string)).toThrow(InvalidInputError);
    }
  });

  it.each([-1, 0.5, NaN, Infinity, 2 ** 53, '5', undefined, null, 5n])('refuses the limit %s', async (max) => {
    const limits = { tool: { maxPerTurn: max, maxPerSession: 5 } } as ToolRateLimits;
    await expect(make(limits)).rejects.toThrow(/limits\.tool\.maxPerTurn is .*: give a whole number from 0 to 2\^53 - 1/);
  });

  it.each([7, 'limits', [], { tool: 5 }, { tool: null }])('refuses the limits %j', async (limits) => {
    await expect(make(limits as never)).rejects.toThrow(InvalidInputError);
  });
});

it('has the default limits of the class that it replaces', () => {
  expect(DEFAULT_TOOL_RATE_LIMITS).toStrictEqual({
    update_onboarding_state: { maxPerTurn: 1, maxPerSession: 10 },
    get_market_research: { maxPerTurn: 2, maxPerSession: 5 },
    get_services: { maxPerTurn: 3, maxPerSession: 20 },
    check_availability: { maxPerTurn: 5, maxPerSession: 50 },
    get_business_info: { maxPerTurn: 2, maxPerSession: 10 },
    upsert_services: { maxPerTurn: 1, maxPerSession: 5 },
    update_storefront: { maxPerTurn: 1, maxPerSession: 3 },
    upsert_package: { maxPerTurn: 2, maxPerSession: 10 },
    book_service: { maxPerTurn: 1, maxPerSession: 3 },
    create_booking: { maxPerTurn: 1, maxPerSession: 5 },
  });
});

describe('session counts in a store', () => {
  const limits = { book: { maxPerTurn: 10, maxPerSession: 3 } };

  it('are shared by all limiters of the session, turn counts are not', async () => {
    const limiter = await open();
    const [one, other] = [limiter.toolRateLimiter({ session: 's', limits }), limiter.toolRateLimiter({ session: 's', limits })];
    one.recordCall('book');
    other.recordCall('book');
    expect(one.getStats()).toStrictEqual({ turn: { book: 1 }, session: { book: 2 } });
    expect(other.tryCall('book').allowed).toBe(true);
    expect(one.tryCall('book').reason).toBe('book max per session (3) reached');
  });

  it('are apart for each session', async () => {
    const limiter = await open();
    for (let call = 0; call < 3; call += 1) limiter.toolRateLimiter({ session: 'a', limits }).recordCall('book');
    expect(limiter.toolRateLimiter({ session: 'b', limits }).tryCall('book').allowed).toBe(true);
    expect(limiter.toolRateLimiter({ session: 'a', limits }).tryCall('book').allowed).toBe(false);
  });

  it('are unmoved by limits in the config', async () => {
    const limiter = await open({ name: 'all', max: 0, window: 'session' });
    expect(limiter.toolRateLimiter({ session: 's' }).tryCall('book_service').allowed).toBe(true);
  });

  it('share no counter with a limit of the config', async () => {
    const limiter = await open({ name: 'tool calls per session', max: 5, window: 'session' });
    expect(() => limiter.toolRateLimiter({ session: 's' })).toThrow(/"tool calls per session", which is taken/);
  });
});

describe('a ToolRateLimiter with a store that cannot count', () => {
  const limits = { book: { maxPerTurn: 1, maxPerSession: 3 } };

  /** How many of 100 calls run, each in a turn of its own. */
  function calls(tools: ToolRateLimiter, tool: string): number {
    return Array.from({ length: 100 }).filter(() => {
      tools.resetTurn();
      if (!tools.canCall(tool).allowed) return false;
      tools.recordCall(tool);
      return true;
    }).length;
  }

  async function small(): Promise<Limiter> {
    const limiter = await Limiter.open({ ...inMemory(), counters: { maxCounters: 1 } });
    onTestFinished(async () => void (await limiter.close()));
    return limiter;
  }

  it('is not made for a session whose calls no key has room for', async () => {
    const limiter = await open();
    const make = (session: string) => limiter.toolRateLimiter({ session, limits });
    expect(() => make('j'.repeat(600))).toThrow(CounterError);
    expect(() => make('j'.repeat(600))).toThrow(/the key has \d+ bytes, counters.maxKeyBytes allows 512/);
    // Bytes count, not characters, and those of the longest tool too.
    expect(() => make('\u00e9'.repeat(240))).toThrow(CounterError);
    expect(() => limiter.toolRateLimiter({ session: 'j'.repeat(400), limits: { ['t'.repeat(100)]: limits.book } })).toThrow(
      CounterError,
    );
    expect(calls(make('j'.repeat(400)), 'book')).toBe(3);
  });

  it('denies a tool whose name is too long to count', async () => {
    const tools = (await open()).toolRateLimiter({ session: 's', limits });
    const long = 't'.repeat(600);
    expect(tools.canCall(long)).toMatchObject({ allowed: false, reason: expect.stringContaining('counters.maxKeyBytes') });
    expect(tools.tryCall(long).allowed).toBe(false);
    tools.recordCall(long);
    expect(tools.getStats()).toStrictEqual({ turn: { [long]: 1 }, session: { [long]: 1 } });
    expect(calls(tools, long)).toBe(0);
  });

  it('denies a tool for which there is no place left, and says that waiting does not help', async () => {
    const tools = (await small()).toolRateLimiter({ session: 's', limits });
    tools.recordCall('other');
    expect(tools.canCall('book')).toMatchObject({ allowed: false, reason: expect.stringContaining('waiting does not help') });
    expect(tools.tryCall('book').allowed).toBe(false);
    expect(calls(tools, 'book')).toBe(0);
  });

  it('keeps the place of a tool that it said yes to', async () => {
    const limiter = await small();
    const tools = limiter.toolRateLimiter({ session: 's', limits });
    const others = limiter.toolRateLimiter({ session: 'other', limits });
    expect(tools.canCall('book').allowed).toBe(true);
    expect(others.canCall('book').allowed).toBe(false);
    others.recordCall('book');
    tools.recordCall('book');
    expect(tools.getStats().session).toStrictEqual({ book: 1 });
    // What could not be counted in the store is counted in the object.
    expect(others.getStats()).toStrictEqual({ turn: { book: 1 }, session: { book: 1 } });
  });
});

describe('a maker of tool rate limiters', () => {
  const limits = { book: { maxPerTurn: 1, maxPerSession: 3 } };

  /** For how many hours each counter of a name is kept from now on. */
  async function hours(limiter: Limiter, name: string): Promise<number[]> {
    const counters = (await limiter.counters().toArray()).filter(({ limit }) => limit === name);
    return counters.map(({ expiresAt }) => (expiresAt - Date.now()) / 3_600_000);
  }

  it('keeps the counts of a session, and of a turn with an id, for as long as it is told', async () => {
    const limiter = await open();
    const of = limiter.toolRateLimiters({ limits, ttl: '10h', turnTtl: '2h' });
    const tools = of('s', { turn: '1' });
    tools.recordCall('book');
    tools.undoCall(tools.tryCall('other'));
    for (const left of await hours(limiter, 'tool calls per session')) {
      expect(left).toBeGreaterThan(9);
      // They are kept up to a sixteenth longer.
      expect(left).toBeLessThan(11);
    }
    for (const left of await hours(limiter, 'tool calls per turn')) expect(left).toBeLessThan(2.2);
    expect((await hours(limiter, 'tool calls per turn')).length).toBe(2);
  });

  it('keeps its limits, whatever becomes of the object that it was given', async () => {
    const own = { book: { maxPerTurn: 1, maxPerSession: 3 } };
    const of = (await open()).toolRateLimiters({ limits: own });
    own.book.maxPerTurn = 9;
    of('s').recordCall('book');
    expect(of('s').canCall('book').reason).toBe('book max per turn (1) reached');
  });

  it('shares the counts of a session with a limiter that was made for it alone', async () => {
    const limiter = await open();
    limiter.toolRateLimiter({ session: 's', limits }).recordCall('book');
    expect(limiter.toolRateLimiters({ limits })('s').getStats()).toStrictEqual({ turn: {}, session: { book: 1 } });
  });

  it('limits other tools as it is told', async () => {
    const of = (await open()).toolRateLimiters({ limits, otherTools: { maxPerTurn: 0, maxPerSession: 0 } });
    expect(of('s').canCall('other').reason).toBe('other max per turn (0) reached');
    expect(of('s').canCall('book').allowed).toBe(true);
  });

  it('has turns of tools that the limits do not name, however many', async () => {
    const tools = (await open()).toolRateLimiters({ limits })('s');
    for (let turn = 0; turn < 1000; turn += 1) {
      tools.resetTurn();
      expect(tools.tryCall('other').allowed).toBe(turn < 50);
    }
  });
});
