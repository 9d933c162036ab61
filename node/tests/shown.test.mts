/**
 * What `JSON.stringify`, `structuredClone` and `console.log` make of everything public: of each export, and of what its methods return. An
 * export without a row fails.
 */
import { inspect } from 'node:util';
import * as threads from 'node:worker_threads';

import { describe, expect, it, onTestFinished } from 'vitest';
import * as main from 'tallymesh';
import * as express from 'tallymesh/express-rate-limit';
import * as flexible from 'tallymesh/rate-limiter-flexible';

import { inMemory, open } from './support.mjs';

const LIMITS = [
  { name: 'calls', per: ['session'], max: 1, window: 'session' },
  { name: 'bookings', per: ['user'], when: { tool: 'book' }, max: 5, window: '1h' },
] as const;
/** What Node.js adds to the exports of a CommonJS module; the second since 23. */
const MARKERS = ['__esModule', 'module.exports'];
const TOOLS = { book: { maxPerTurn: 1, maxPerSession: 3 } };
const UNCLONEABLE = 'DataCloneError';
/** An object that is more than its data. Before Node.js 22.10, its clone has the public fields. */
const live = (data: object): unknown => ('markAsUncloneable' in threads ? UNCLONEABLE : data);

/** What is shown of a value. */
interface Row {
  readonly value: unknown;
  /** What `JSON.stringify` shows, parsed; undefined where that is nothing. */
  readonly json: unknown;
  /** What a structured clone has, or that there is none. */
  readonly clone: unknown;
  /** What `console.log` shows, each somewhere. */
  readonly log: (string | RegExp)[];
}

const RECEIPT = expect.stringMatching(/^[0-9a-f]{16}-\d+-\d+$/) as string;
const TIME = expect.any(Number) as number;

/** The value of a promise, thrown or not. */
async function thrownBy(ask: () => unknown): Promise<unknown> {
  try {
    await ask();
  } catch (thrown) {
    return thrown;
  }
  throw new Error('it threw nothing');
}

/** An error: its JSON has its code and fields, a structured clone only message and stack. */
function errorRow(value: unknown, fields: object, ...log: string[]): Row {
  const { name, message, code } = value as main.TallymeshError;
  const shown = JSON.parse(JSON.stringify({ name, code, message, ...fields })) as object;
  return {
    value,
    json: shown,
    clone: expect.objectContaining({ message }),
    log: [`${name}: ${message}`, `code: '${code}'`, ...log],
  };
}

const { ClosedError, CounterError, DurabilityError, OpenError, PanicError, PeerPackageError } = main;
type Constructor = new (message: string) => main.TallymeshError;
const made = (of: unknown) => new (of as Constructor)('what is wrong: what to do');

/** The rows by export; several where it has several forms, or returns something else that is public. */
const ROWS: Record<string, () => Promise<Record<string, Row>>> = {
  Limiter: async () => {
    const value = await open(...LIMITS);
    const { node, id } = value;
    value.acquire({ session: 's', tool: 'book', user: 'u' });
    const health = { ...value.status().health, counters: 2, countersRefused: 0, requestsUnmatched: 0 };
    const status = { replica: expect.stringMatching(/^test/), counters: 2, health: value.status().health, peers: [] };
    return {
      'a limiter': { value, json: { node, id }, clone: live({ node, id }), log: ['Limiter {', "node: 'test'", `id: ${id}`] },
      health: {
        value: value.health(),
        json: expect.objectContaining(health),
        clone: expect.objectContaining(health),
        log: ["state: 'running'", "durability: 'in_memory'", 'countersRefused: 0'],
      },
      status: {
        value: value.status(),
        json: expect.objectContaining(status),
        clone: expect.objectContaining(status),
        log: ["replica: 'test", 'rejections: {', 'peers: []'],
      },
      'a token': {
        value: value.token(value.peek({ session: 't' }) && value.acquire({ session: 't' }).receipt!),
        json: expect.any(String),
        clone: expect.any(String),
        log: [],
      },
    };
  },
  LazyLimiter: async () => {
    const [unopened, opening, closed] = [0, 1, 2].map(() => main.Limiter.lazy(inMemory()));
    const opened = main.Limiter.lazy(inMemory());
    await opened.open();
    const refused = main.Limiter.lazy({ node: { id: 'a b' } });
    const denied = opening!.acquire({});
    const reason = expect.stringContaining('"a b" is not allowed') as string;
    await thrownBy(() => refused.open());
    await closed!.close();
    const row = (value: unknown, data: object, ...log: string[]): Row => ({
      value,
      json: data,
      clone: live({}),
      log: ['LazyLimiter {', ...log],
    });
    onTestFinished(async () => void (await Promise.all([unopened, opening, opened].map((each) => each!.close()))));
    return {
      unopened: row(unopened, { state: 'unopened' }, "state: 'unopened'"),
      opening: row(opening, { state: 'opening' }, "state: 'opening'"),
      open: row(opened, { state: 'open', node: 'test' }, "state: 'open', node: 'test'"),
      failed: row(refused, { state: 'failed', reason }, "state: 'failed'", '"a b" is not allowed'),
      closed: row(closed, { state: 'closed' }, "state: 'closed'"),
      'its denial': {
        value: denied,
        json: { allowed: false, remaining: 0, cause: 'not-open', reason: expect.stringContaining('limiter.open()') },
        clone: expect.objectContaining({ allowed: false, cause: 'not-open' }),
        log: ["cause: 'not-open'"],
      },
    };
  },
  peers: async () => {
    const config = { ...inMemory(), gossip: { peers: ['127.0.0.1:1'], syncTimeout: '0s' } };
    await using limiter = await main.Limiter.open(config);
    const peer = expect.objectContaining({ address: '127.0.0.1:1', connected: false, lag: 0, differentLimits: [] });
    return {
      'the peers': {
        value: limiter.peers(),
        json: [peer],
        clone: [peer],
        log: ["address: '127.0.0.1:1'", 'connected: false', 'differentLimits: []'],
      },
    };
  },
  Decision: async () => {
    const limiter = await open(...LIMITS);
    const allowed = { allowed: true, remaining: 0, receipt: RECEIPT };
    const unmatched = await open();
    const reason = 'limit "calls" of 1 reached (0 left); retry in 3600250 ms';
    const denied = { allowed: false, remaining: 0, limit: 'calls', cause: 'limit-reached', retryAfterMs: TIME };
    return {
      allowed: {
        value: limiter.acquire({ session: 's' }),
        json: allowed,
        clone: allowed,
        log: ['Decision {', 'allowed: true', 'remaining: 0', /receipt: '\w+-\d+-\d+'/],
      },
      denied: {
        value: limiter.acquire({ session: 's' }),
        json: { ...denied, reason: expect.stringContaining(reason.slice(0, 30)) },
        clone: { ...denied, reason: expect.stringContaining(reason.slice(0, 30)) },
        log: ['allowed: false', "cause: 'limit-reached'", /reason: 'limit "calls" of 1 reached/],
      },
      'without a label': {
        value: limiter.acquire({ tool: 'x' }),
        json: expect.objectContaining({
          cause: 'missing-label',
          missingLabel: 'session',
          reason: expect.stringContaining('lacks'),
        }),
        clone: expect.objectContaining({ cause: 'missing-label', missingLabel: 'session' }),
        log: ["missingLabel: 'session'"],
      },
      // JSON has no Infinity.
      'without a limit': {
        value: unmatched.acquire({}),
        json: { allowed: true, receipt: RECEIPT },
        clone: { allowed: true, remaining: Infinity, receipt: RECEIPT },
        log: ['remaining: Infinity'],
      },
    };
  },
  Peek: async () => {
    const limiter = await open(...LIMITS);
    const peek = { allowed: true, remaining: 0 };
    return { 'a peek': { value: limiter.peek({ session: 's' }), json: peek, clone: peek, log: ['Peek {', 'remaining: 0'] } };
  },
  Operator: async () => {
    const limiter = await open(...LIMITS);
    const value = limiter.operator;
    return {
      'an operator': { value, json: { node: 'test' }, clone: live({ node: 'test' }), log: ["Operator { node: 'test' }"] },
    };
  },
  CounterListing: async () => {
    const limiter = await open(...LIMITS);
    limiter.acquire({ session: 's' });
    const counter = { limit: 'calls', values: ['s'], expiresAt: TIME };
    const log = ["limit: 'calls'", "values: [ 's' ]", 'value: 1n', 'credit: 0n'];
    return {
      'a listing': {
        value: limiter.counters(),
        json: { node: 'test' },
        clone: live({ node: 'test' }),
        log: ["CounterListing { node: 'test' }"],
      },
      'its counters': {
        value: await limiter.counters().toArray(),
        json: [{ ...counter, value: '1', credit: '0' }],
        clone: [{ ...counter, value: 1n, credit: 0n }],
        log,
      },
      'one of its counters': {
        value: (await limiter.counters().pages().next()).value?.[0],
        json: { ...counter, value: '1', credit: '0' },
        clone: { ...counter, value: 1n, credit: 0n },
        log,
      },
    };
  },
  ToolRateLimiter: async () => {
    const limiter = await open();
    const memory = new main.ToolRateLimiter(TOOLS, 'uncounted');
    const shared = limiter.toolRateLimiters({ limits: TOOLS })('s', { turn: '7' });
    const answers = [memory, shared].map((tools) => tools.tryCall('book'));
    const [allowed, denied] = [{ allowed: true }, { allowed: false, reason: 'book max per turn (1) reached' }];
    const stats = { turn: { book: 1 }, session: { book: 1 } };
    const log = ['ToolRateLimiter {', 'book: { maxPerTurn: 1, maxPerSession: 3 }', 'turn: { book: 1 }'];
    return {
      // What it counts by is not data: no clone would count.
      'in memory': { value: memory, json: { limits: TOOLS, otherTools: 'uncounted', stats }, clone: live({}), log },
      shared: {
        value: shared,
        json: { session: 's', turn: '7', limits: TOOLS, otherTools: { maxPerTurn: 5, maxPerSession: 50 }, stats },
        clone: live({}),
        log: [...log, "session: 's'"],
      },
      'an answer': { value: answers[0], json: allowed, clone: allowed, log: ['{ allowed: true }'] },
      'a denial': { value: memory.tryCall('book'), json: denied, clone: denied, log: ['allowed: false', 'book max per turn'] },
      'its counts': { value: shared.getStats(), json: stats, clone: stats, log: ['session: { book: 1 }'] },
    };
  },
  toolRateLimiters: async () => {
    const value = main.toolRateLimiters(await open());
    return { 'a maker': { value, json: undefined, clone: UNCLONEABLE, log: ['[Function'] } };
  },
  DEFAULT_TOOL_RATE_LIMITS: async () => {
    const value = main.DEFAULT_TOOL_RATE_LIMITS;
    return { 'the limits': { value, json: value, clone: value, log: ['book_service: { maxPerTurn: 1, maxPerSession: 3 }'] } };
  },
  TallymeshStore: async () => {
    const value = new express.TallymeshStore({ limiter: await open(), prefix: 'api' });
    const data = { localKeys: false, prefix: 'api' };
    const row = { value, json: data, clone: live(data), log: ['TallymeshStore {', "prefix: 'api'", 'windowMs: undefined'] };
    const used = new express.TallymeshStore({ limiter: await open(), prefix: 'api' });
    used.init({ windowMs: 1000 });
    const hits = { totalHits: 1, resetTime: expect.any(Date) };
    return {
      'a store': row,
      'in use': { value: used, json: { ...data, windowMs: 1000 }, clone: live(data), log: ['windowMs: 1000'] },
      'its answer': {
        value: await used.increment('k'),
        json: { ...hits, resetTime: expect.any(String) },
        clone: hits,
        log: ['totalHits: 1'],
      },
    };
  },
  RateLimiterTallymesh: async () => {
    const value = new flexible.RateLimiterTallymesh({ limiter: await open(), points: 3, duration: 60 });
    const options = { points: 3, duration: 60, blockDuration: 0, blockOnConsumed: 0, keyPrefix: 'rlflx', execEvenly: false };
    const answer = { remainingPoints: 2, consumedPoints: 1, msBeforeNext: TIME, isFirstInDuration: true };
    return {
      'an adapter': {
        value,
        json: { ...options, execEvenlyMinDelayMs: 20_000 },
        clone: live(expect.objectContaining({ points: 3, duration: 60 })),
        log: ['RateLimiterTallymesh {', 'points: 3', "keyPrefix: 'rlflx'"],
      },
      // A class of that package, whose clone has the names that it gives its fields.
      'its answer': {
        value: await value.consume('k'),
        json: answer,
        clone: expect.objectContaining({ _remainingPoints: 2, _consumedPoints: 1 }),
        log: [/emainingPoints: 2/],
      },
    };
  },
  RateLimiterRewardRes: async () => {
    const limiter = new flexible.RateLimiterTallymesh({ limiter: await open(), points: 3, duration: 60 });
    await limiter.consume('k', 2);
    const json = { remainingPoints: 2, consumedPoints: 1, msBeforeNext: TIME, isFirstInDuration: false, rewardedPoints: 1 };
    const value = await limiter.reward('k', 1);
    expect(JSON.parse(String(value))).toStrictEqual(json);
    const clone = expect.objectContaining({ _remainingPoints: 2, rewardedPoints: 1 });
    return { 'a reward': { value, json, clone, log: ['RateLimiterRewardRes {', 'remainingPoints: 2', 'rewardedPoints: 1'] } };
  },
  TallymeshError: async () => {
    class Own extends (main.ConfigError as unknown as new (message: string) => main.ConfigError) {
      readonly setting = 'window';
    }
    return { "a subclass of a user's": errorRow(new Own('wrong'), { setting: 'window' }, "setting: 'window'") };
  },
  InvalidInputError: async () => {
    const limiter = await open();
    return { thrown: errorRow(await thrownBy(() => limiter.acquire({ session: '' })), {}) };
  },
  ConfigError: async () => ({
    thrown: errorRow(await thrownBy(() => main.Limiter.open(inMemory({ ...LIMITS[0], window: 60 as never }))), {}),
  }),
  generateNodeKey: async () => ({
    key: { value: main.generateNodeKey(), json: expect.any(String), clone: expect.any(String), log: [] },
  }),
  publicKeyOf: async () => ({
    key: { value: main.publicKeyOf(main.generateNodeKey()), json: expect.any(String), clone: expect.any(String), log: [] },
  }),
  ClosedError: async () => ({
    thrown: errorRow(await thrownBy(() => main.Limiter.attach(1)), {}),
    made: errorRow(made(ClosedError), {}),
  }),
  CounterError: async () => ({ made: errorRow(made(CounterError), {}) }),
  DurabilityError: async () => ({ made: errorRow(made(DurabilityError), {}) }),
  OpenError: async () => ({ made: errorRow(made(OpenError), {}) }),
  PanicError: async () => ({ made: errorRow(made(PanicError), {}) }),
  PeerPackageError: async () => ({ made: errorRow(made(PeerPackageError), {}) }),
  RefundError: async () => {
    const limiter = await open();
    const value = new (main.RefundError as unknown as new (...of: string[]) => main.RefundError)('NOT_MINE', 'of b', 'b');
    return {
      thrown: errorRow(await thrownBy(() => limiter.refund('x' as main.Receipt)), {}),
      "of another node's": errorRow(value, { node: 'b' }, "node: 'b'"),
    };
  },
  DeniedError: async () => {
    const limiter = await open({ ...LIMITS[0], max: 0 });
    const value = (await thrownBy(() => limiter.acquire({ session: 's' }).orThrow())) as main.DeniedError;
    const { reason, cause, limit, remaining, retryAfterMs } = value;
    expect(value).toMatchObject({ cause: 'cost-over-max', limit: 'calls', remaining: 0 });
    return {
      thrown: errorRow(value, { reason, cause, limit, remaining, retryAfterMs }, "cause: 'cost-over-max'", "limit: 'calls'"),
    };
  },
};

describe('every export', () => {
  it('has a row', () => {
    const exported = [main, express, flexible]
      .flatMap((module) => Object.keys(module))
      .filter((name) => !MARKERS.includes(name));
    expect(exported.length).toBeGreaterThan(15);
    expect(exported.filter((name) => !Object.hasOwn(ROWS, name))).toStrictEqual([]);
  });
});

describe('every class', () => {
  const classes = [main, express, flexible].flatMap((module) =>
    Object.entries(module).filter(([, value]) => /^class\b/.test(String(value))),
  );

  it.each(classes)('%s is known to instanceof in every realm and copy of the package', (name, value) => {
    expect(Object.hasOwn(value, Symbol.hasInstance)).toBe(true);
    const { prototype } = value as unknown as { prototype: object };
    expect(Object.hasOwn(prototype, Symbol.for(`tallymesh.${name}`))).toBe(true);
  });
});

describe.each(Object.keys(ROWS))('%s', (name) => {
  it('is whole as JSON, as a structured clone and in the log', async () => {
    for (const [what, { value, json, clone, log }] of Object.entries((await ROWS[name]?.()) ?? {})) {
      const text = JSON.stringify(value) as string | undefined;
      expect(text === undefined ? undefined : JSON.parse(text), `${what} as JSON`).toEqual(json);
      expect(text, `${what} as JSON`).not.toBe('{}');
      if (clone === UNCLONEABLE) {
        expect(() => structuredClone(value), what).toThrow(expect.objectContaining({ name: UNCLONEABLE }));
      } else {
        expect(structuredClone(value), `a clone of ${what}`).toEqual(clone);
      }
      const shown = inspect(value, { depth: 5, breakLength: Infinity });
      expect(shown, `${what} in the log`).not.toMatch(/^\w* ?\{\}$/);
      for (const part of log) expect(shown, `${what} in the log`).toMatch(part);
    }
  });
});
