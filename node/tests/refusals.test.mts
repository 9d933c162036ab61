/** Every refusal names the value, where it was given, and what is allowed: of each constructor, adapter and option. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';
import {
  ConfigError,
  InvalidInputError,
  Limiter,
  RefundError,
  TallymeshError,
  ToolRateLimiter,
  type LimitConfig,
} from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';
import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';

import { inMemory, open, temporaryDirectory } from './support.mjs';

type Refused = new (...args: never[]) => TallymeshError;

/** What is refused; the value as it is shown and the rest of what the message must say. */
type Row<Ask> = [what: string, ask: Ask, ...parts: string[]];

const LIMIT = { name: 'l', max: 1, window: '1h' };
const COUNT = 'give a whole number from 0 to 2^53 - 1';

async function refusal(ask: () => unknown): Promise<unknown> {
  try {
    await ask();
  } catch (thrown) {
    return thrown;
  }
  throw new Error('it was not refused');
}

async function expectRefused(ask: () => unknown, refused: Refused, code: string, parts: string[]): Promise<void> {
  const error = await refusal(ask);
  expect(error).toBeInstanceOf(refused);
  expect(error).toMatchObject({ code });
  for (const part of parts) expect((error as Error).message).toContain(part);
}

/** In memory, with these tables besides. */
const settings = (tables: object) => ({ ...inMemory(), ...tables });
/** One limit that differs from a good one in this. */
const limit = (change: object) => settings({ limits: [LIMIT, { ...LIMIT, name: 'm', ...change }] });

describe('a config', () => {
  const rows: Row<unknown>[] = [
    [
      'a table that is none',
      settings({ gosip: {} }),
      'config.gosip is no',
      'node, gossip, operator, storage, counters, limits',
      'is gossip meant?',
    ],
    ['a setting that is none', settings({ gossip: { fan: 1 } }), 'config.gossip.fan is no', 'fanout', 'maxFrameBytes'],
    [
      'a setting as the file has it',
      settings({ gossip: { max_frame_bytes: 1 } }),
      'config.gossip.max_frame_bytes',
      'is maxFrameBytes meant?',
    ],
    ['limits as the file has them', settings({ limit: [LIMIT] }), 'config.limit is no setting', 'is limits meant?'],
    ['a table that is a text', settings({ gossip: 'x' }), 'config.gossip is "x"', 'give an object of cluster, listen'],
    ['an id of two words', settings({ node: { id: 'a b' } }), 'config.node.id = "a b"', '1 to 64 ASCII letters'],
    ['an id that is a number', settings({ node: { id: 7 } }), 'config.node.id is 7', 'give a string', 'is "7" meant?'],
    ['no id', settings({ node: {} }), 'config.node.id is missing', 'give the node'],
    ['a host that is none', settings({ node: { id: '@host' } }), 'config.node.id = "@host"', '1 to 64 ASCII letters'],
    [
      'a directory in memory',
      settings({ node: { id: 'a', dataDir: 'd' } }),
      'config.node.dataDir = "d"',
      'only without config.storage.inMemory',
    ],
    ['a port alone', settings({ gossip: { listen: '7946' } }), 'config.gossip.listen = "7946"', '"127.0.0.1:7946"'],
    ['an open address', settings({ gossip: { listen: '0.0.0.0:1' } }), 'config.gossip.listen = "0.0.0.0:1"', 'insecure = true'],
    ['peers that are a text', settings({ gossip: { peers: 'h:1' } }), 'config.gossip.peers is "h:1"', 'is ["h:1"] meant?'],
    ['a peer without a port', settings({ gossip: { peers: ['h:1', 'h'] } }), 'config.gossip.peers = "h"', 'host:port'],
    ['a peer that is a number', settings({ gossip: { peers: [1] } }), 'config.gossip.peers[0] is 1', 'give a string'],
    [
      'a flag that is a text',
      settings({ gossip: { insecure: 'yes' } }),
      'config.gossip.insecure is "yes"',
      'give true or false',
    ],
    [
      'a duration that is a number',
      settings({ gossip: { interval: 50 } }),
      'config.gossip.interval is 50',
      '1ms to 1m',
      'is "50ms" meant?',
    ],
    ['a duration of no unit', settings({ gossip: { interval: '50' } }), 'config.gossip.interval = "50"', 'is "50ms" meant?'],
    [
      'a duration out of range',
      settings({ counters: { futureMax: '9days' } }),
      'config.counters.futureMax = 9days',
      '100ms to 1day',
    ],
    ['a fraction out of range', settings({ gossip: { urgentAt: 1.5 } }), 'config.gossip.urgentAt = 1.5', '0 to 1'],
    ['a count out of range', settings({ gossip: { fanout: 0 } }), 'config.gossip.fanout = 0', '1 to 1024'],
    ['a count below 0', settings({ gossip: { fanout: -1 } }), 'config.gossip.fanout is -1', 'from 1 to 1024'],
    ['a count with a fraction', settings({ gossip: { fanout: 1.5 } }), 'config.gossip.fanout is 1.5', 'from 1 to 1024'],
    [
      'a count that is NaN',
      settings({ counters: { maxLabels: NaN } }),
      'config.counters.maxLabels is NaN',
      'a whole number from 1 to 1024',
    ],
    [
      'a word that is none',
      settings({ counters: { whenFull: 'maybe' } }),
      'config.counters.whenFull = "maybe"',
      '"deny" or "allow"',
    ],
    ['null', settings({ gossip: { listen: null } }), 'config.gossip.listen is null', 'leave it out'],
    ['a function', settings({ gossip: { listen: () => 1 } }), 'config.gossip.listen is a function', 'give a string'],
    ['a NUL', settings({ gossip: { listen: '\0' } }), 'config.gossip.listen is "\\u0000"', 'without NUL'],
    [
      'a setting and its opposite',
      { node: { id: 'a', dataDir: 'd' }, storage: { durability: 'sync', persistEvery: '1s' } },
      'config.storage.persistEvery',
      'relaxed',
    ],
    ['limits that are an object', settings({ limits: LIMIT }), 'config.limits is an object', 'give an array'],
    ['a limit that is a text', settings({ limits: [LIMIT, 'm'] }), 'config.limits[1] is "m"', 'give an object'],
    [
      'an unknown part of a limit',
      limit({ maximum: 3 }),
      'config.limits[1].maximum',
      'name, when, per, max, window, sessionTtl',
    ],
    ['a name that is a number', limit({ name: 7 }), 'config.limits[1].name is 7', 'give a string'],
    ['no name', limit({ name: '' }), 'config.limits[1].name = ""', '1 to 128 bytes'],
    [
      'one name twice',
      limit({ name: 'l' }),
      'config.limits[1].name is "l"',
      'as that of config.limits[0]',
      'a name of its own',
    ],
    ['max that is a text', limit({ max: '3' }), 'config.limits[1].max is "3"', COUNT],
    ['max that is a bigint', limit({ max: 3n }), 'config.limits[1].max is 3n'],
    ['max below 0', limit({ max: -1 }), 'config.limits[1].max is -1', COUNT],
    ['max with a fraction', limit({ max: 0.5 }), 'config.limits[1].max is 0.5', COUNT],
    ['max over 2^53 - 1', limit({ max: 2 ** 53 }), 'config.limits[1].max is 9007199254740992', COUNT],
    ['a window that is a number', limit({ window: 60 }), 'config.limits[1].window is 60', '"session"', 'is "60s" meant?'],
    [
      'a window that is none',
      limit({ window: 'daily' }),
      'config.limits[1].window = "daily" (of the limit "m")',
      '"session" or a duration',
    ],
    ['a window of nothing', limit({ window: '0s' }), 'config.limits[1].window = 0s', '1ms to 366 days'],
    [
      'a ttl without sessions',
      limit({ sessionTtl: '1h' }),
      'config.limits[1].sessionTtl = "1h"',
      'only with window = "session"',
    ],
    [
      'a ttl that is a number',
      limit({ window: 'session', sessionTtl: 5 }),
      'config.limits[1].sessionTtl is 5',
      'give a string',
    ],
    ['a ttl that is none', limit({ window: 'session', sessionTtl: 'x' }), 'config.limits[1].sessionTtl = "x"', 'a duration'],
    ['per that is a text', limit({ per: 'user' }), 'config.limits[1].per is "user"', 'give an array'],
    ['per with a number', limit({ per: ['user', 7] }), 'config.limits[1].per[1] is 7', 'give a string'],
    [
      'too many labels',
      limit({ per: Array.from({ length: 33 }, (_, n) => `l${n}`) }),
      'config.limits[1].per = 33 labels',
      'at most 32',
    ],
    ['when that is a text', limit({ when: 'tool' }), 'config.limits[1].when is "tool"', 'give an object'],
    ['a pattern that is a number', limit({ when: { tool: 7 } }), 'config.limits[1].when.tool is 7', 'give a string'],
  ];

  it.each(rows)('with %s is refused', async (_what, config, ...parts) => {
    await expectRefused(() => Limiter.open(config as never), ConfigError, 'TALLYMESH_CONFIG', parts);
  });

  it.each([undefined, null, 7, true, [], () => 1, Symbol('s')])('that is %s is refused', async (config) => {
    const parts = ['the config is ', 'give an object'];
    await expectRefused(() => Limiter.open(config as never), InvalidInputError, 'TALLYMESH_INVALID_INPUT', parts);
  });

  it('keeps what is in quotes as the user wrote it', async () => {
    const named = { ...LIMIT, name: 'gossip.max_frame_bytes', window: 'no_window' };
    const parts = ['config.limits[0].window = "no_window" (of the limit "gossip.max_frame_bytes")'];
    await expectRefused(() => Limiter.open(inMemory(named)), ConfigError, 'TALLYMESH_CONFIG', parts);
  });

  it('of a file is refused with its path and line', async () => {
    const path = join(temporaryDirectory(), 'tallymesh.toml');
    writeFileSync(path, '[node]\nid = "a"\n[gossip]\nfanout = "many"\n[storage]\nin_memory = true\n');
    const parts = [path, 'line 4', 'gossip.fanout', '"many"', '1 to 1024'];
    await expectRefused(() => Limiter.open(path), ConfigError, 'TALLYMESH_CONFIG', parts);
    const missing = join(temporaryDirectory(), 'none.toml');
    await expectRefused(() => Limiter.open(missing), ConfigError, 'TALLYMESH_CONFIG', [missing, 'No such file']);
  });
});

describe('an argument', () => {
  const limits = [{ name: 'l', per: ['session'], max: 5, window: 'session' }] satisfies LimitConfig[];
  type Ask = (limiter: Limiter) => unknown;
  const tools =
    (limits: unknown): Ask =>
    (limiter) =>
      limiter.toolRateLimiter({ session: 's', limits: limits as never });
  const store =
    (options: object): Ask =>
    (limiter) =>
      new TallymeshStore({ limiter, ...options });
  const stored =
    (use: (store: TallymeshStore) => unknown): Ask =>
    (limiter) =>
      use(new TallymeshStore({ limiter }));
  const flexible =
    (options: object): Ask =>
    (limiter) =>
      new RateLimiterTallymesh({ limiter, points: 1, duration: 1, ...options });
  const flex =
    (use: (limiter: RateLimiterTallymesh) => unknown): Ask =>
    (limiter) =>
      use(new RateLimiterTallymesh({ limiter, points: 1, duration: 1 }));
  const maker =
    (options: object): Ask =>
    (limiter) =>
      limiter.toolRateLimiters(options);
  const bad = (value: unknown) => value as never;

  const rows: Row<Ask>[] = [
    ['a request', (limiter) => limiter.acquire(bad('s')), 'the request is "s"', 'give an object'],
    ['a request to peek', (limiter) => limiter.peek(bad(null)), 'the request is null', 'give an object'],
    ['a durable request', (limiter) => limiter.acquireDurable(bad([])), 'the request is an array', 'give an object'],
    ['a label', (limiter) => limiter.acquire({ session: bad(7) }), 'label session is 7', 'give a string', 'is "7" meant?'],
    ["a label of one's own", (limiter) => limiter.acquire({ colour: bad({}) }), 'label colour is an object', 'give a string'],
    ['an empty label', (limiter) => limiter.acquire({ tool: '' }), 'label tool is empty', 'at least one character'],
    ['a long label', (limiter) => limiter.acquire({ tool: 'x'.repeat(8193) }), 'label tool has 8193', 'at most 8192'],
    ["a label's name", (limiter) => limiter.acquire({ '': 'x' }), 'the name of a label is empty', 'at least one'],
    ['a cost', (limiter) => limiter.acquire({ cost: -1 }), 'cost is -1', COUNT],
    ['a cost that is a text', (limiter) => limiter.peek({ cost: bad('1') }), 'cost is "1"', COUNT, 'is 1 meant?'],
    ['a cost of Infinity', (limiter) => limiter.acquireDurable({ cost: Infinity }), 'cost is Infinity', COUNT],
    ['a reset', (limiter) => limiter.reset(bad(7)), 'the request is 7', 'give an object'],
    ['a limit to reset', (limiter) => limiter.reset({ limit: bad(7), labels: {} }), 'limit is 7', 'give a string'],
    ['an unknown limit', (limiter) => limiter.reset({ limit: 'x', labels: {} }), '"x"', '"l"'],
    ['a label missing', (limiter) => limiter.reset({ limit: 'l', labels: {} }), 'limit "l"', '"session"', 'give its value'],
    [
      'a label too many',
      (limiter) => limiter.reset({ limit: 'l', labels: { session: 's', tool: 't' } }),
      'limit "l"',
      '"tool"',
      'leave it out',
    ],
    [
      'a label of a reset',
      (limiter) => limiter.reset({ limit: 'l', labels: { session: bad(1) } }),
      'label session is 1',
      'give a',
    ],
    ['a receipt', (limiter) => limiter.refund(bad(7)), 'the receipt is 7', 'give a string'],
    ['a receipt for a token', (limiter) => limiter.token(bad(undefined)), 'the receipt is undefined', 'give a string'],
    ['a token', (limiter) => limiter.refundToken(bad({})), 'the token is an object', 'give a string'],
    ['an id', () => Limiter.attach(bad('1')), 'the id of a limiter is "1"', COUNT],
    ['options of the drop-in', (limiter) => limiter.toolRateLimiter(bad('s')), 'toolRateLimiter is "s"', 'give an object'],
    ['a session', (limiter) => limiter.toolRateLimiter({ session: bad(7) }), 'session is 7', 'give a string'],
    ['limits of tools', tools([]), 'limits is an array', 'give an object'],
    ['a limit of a tool', tools({ t: 3 }), 'limits.t is 3', 'give an object'],
    ["a turn's maximum", tools({ t: { maxPerTurn: -1, maxPerSession: 1 } }), 'limits.t.maxPerTurn is -1', COUNT],
    ["a session's maximum", tools({ t: { maxPerTurn: 1 } }), 'limits.t.maxPerSession is undefined', COUNT],
    [
      'a part of a limit',
      tools({ t: { maxPerTurn: 1, maxPerSession: 1, maxPerDay: 1 } }),
      'maxPerDay is no option of limits.t',
      'those',
    ],
    ['limits in memory', () => new ToolRateLimiter(bad(7)), 'limits is 7', 'give an object'],
    ['a tool', () => new ToolRateLimiter().tryCall(bad(7)), 'the name of the tool is 7', 'give a string'],
    ['a tool to ask for', () => new ToolRateLimiter().canCall(''), 'the name of the tool is empty', 'at least one'],
    ['a tool to count', () => new ToolRateLimiter().recordCall(bad(null)), 'the name of the tool is null', 'give a string'],
    ['options of the store', () => new TallymeshStore(bad(undefined)), 'TallymeshStore is undefined', 'give an object'],
    ["the store's limiter", store({ limiter: {} }), 'the limiter is an object', 'Limiter.open()'],
    ["the store's prefix", store({ prefix: 7 }), 'prefix is 7', 'give a string'],
    ["the middleware's options", stored((store) => store.init(bad(7))), 'the options of rateLimit is 7', 'give an object'],
    ['windowMs', stored((store) => store.init({ windowMs: 0 })), 'windowMs is 0', '1 to those of 366 days'],
    ['windowMs that is a text', stored((store) => store.init({ windowMs: bad('1s') })), 'windowMs is "1s"', '366 days'],
    ['windowMs without end', stored((store) => store.init({ windowMs: Infinity })), 'windowMs is Infinity', '366 days'],
    ['a key of the store', stored((store) => store.increment(bad(7))), 'the key is 7', 'give a string'],
    ['a key to look at', stored((store) => store.get('')), 'the key is empty', 'at least one'],
    ['a key to give back', stored((store) => store.decrement(bad(null))), 'the key is null', 'give a string'],
    ['a key to reset', stored((store) => store.resetKey('a\0')), 'the key is "a\\u0000"', 'leave the NUL out'],
    ['options of the adapter', () => new RateLimiterTallymesh(bad(7)), 'RateLimiterTallymesh is 7', 'give an object'],
    ["the adapter's limiter", flexible({ limiter: null }), 'the limiter is null', 'Limiter.open()'],
    [
      'options of a maker',
      (limiter) => limiter.toolRateLimiters(bad('x')),
      'the options of toolRateLimiters is "x"',
      'give an object',
    ],
    ['an option of a maker', maker({ limts: {} }), 'limts is no option of toolRateLimiters', 'is limits meant?'],
    ['another option of a maker', maker({ session: 's' }), 'session is no option', 'limits, otherTools, ttl, turnTtl'],
    [
      'an option of the drop-in',
      (limiter) => limiter.toolRateLimiter(bad({ session: 's', turnTTL: '1h' })),
      'turnTTL is no option',
      'ttl',
    ],
    ['limits of a maker', maker({ limits: { book: 3 } }), 'limits.book is 3', 'give an object'],
    ['a ttl', maker({ ttl: 60 }), 'ttl is 60', 'such as "24h"', 'is "60s" meant?'],
    ['a ttl that is none', maker({ ttl: 'a day' }), 'ttl is "a day"', 'from 1 ms to 366 days'],
    ['a ttl in months', maker({ turnTtl: '1month' }), 'turnTtl is "1month"', 'from 1 ms to 366 days'],
    ['a ttl of nothing', maker({ turnTtl: '0s' }), 'turnTtl is "0s"', 'from 1 ms to 366 days'],
    ['a session that is none', (limiter) => limiter.toolRateLimiters()(bad(7)), 'session is 7', 'give a string'],
    ['a turn that is none', (limiter) => limiter.toolRateLimiters()('s', bad({ turn: 7 })), 'turn is 7', 'give a string'],
    ['a turn by itself', (limiter) => limiter.toolRateLimiters()('s', bad('7')), 'the turn is "7"', 'give an object'],
    [
      'an option of a turn',
      (limiter) => limiter.toolRateLimiters()('s', bad({ trun: '7' })),
      'trun is no option',
      'is turn meant?',
    ],
    ['limits of other tools', maker({ otherTools: { maxPerTurn: 1 } }), 'otherTools.maxPerSession is undefined', COUNT],
    ['a word for other tools', maker({ otherTools: 'allow' }), 'otherTools is "allow"', 'give an object'],
    ['points', flexible({ points: 1.5 }), 'points is 1.5', COUNT],
    ['duration', flexible({ duration: '1s' }), 'duration is "1s"', 'seconds from 0.001'],
    ['blockDuration', flexible({ blockDuration: -1 }), 'blockDuration is -1', 'seconds from 0.001'],
    ['keyPrefix', flexible({ keyPrefix: 7 }), 'keyPrefix is 7', 'give a string'],
    ['execEvenly', flexible({ execEvenly: 'yes' }), 'execEvenly is "yes"', 'true or false'],
    ['execEvenlyMinDelayMs', flexible({ execEvenlyMinDelayMs: -1 }), 'execEvenlyMinDelayMs is -1', COUNT],
    ['points to consume', flex((limiter) => limiter.consume('k', -1)), 'pointsToConsume is -1', COUNT],
    ['a key to consume', flex((limiter) => limiter.consume(bad({}))), 'the key is an object', 'give a string'],
    [
      'a duration for one key',
      flex((limiter) => limiter.consume('k', 1, { customDuration: 5 })),
      'customDuration is 5',
      'another',
    ],
    ['points of a penalty', flex((limiter) => limiter.penalty('k', NaN)), 'points is NaN', COUNT],
    ['points of a reward', flex((limiter) => limiter.reward('k', bad('1'))), 'points is "1"', COUNT],
    ['points to set', flex((limiter) => limiter.set('k', -1)), 'points is -1', COUNT],
    ['another duration', flex((limiter) => limiter.set('k', 1, 5)), 'secDuration is 5', 'duration of 1'],
    ['a duration that is a text', flex((limiter) => limiter.set('k', 1, bad('1'))), 'secDuration is "1"', 'duration of 1'],
    ['a time to block', flex((limiter) => limiter.block('k', 0)), 'secDuration is 0', 'seconds from 0.001'],
    ['a key to ask for', flex((limiter) => limiter.get('')), 'the key is empty', 'at least one'],
    ['a key to forget', flex((limiter) => limiter.delete(bad(null))), 'the key is null', 'give a string'],
  ];

  it.each(rows)('%s is refused', async (_what, ask, ...parts) => {
    const limiter = await open(...limits);
    await expectRefused(() => ask(limiter), InvalidInputError, 'TALLYMESH_INVALID_INPUT', parts);
    expect(await limiter.counters().toArray()).toStrictEqual([]);
  });

  it('that the config has taken is refused', async () => {
    const names = ['tool calls per session', 'express-rate-limit', 'rate-limiter-flexible'];
    const limiter = await open(...names.map((name) => ({ ...LIMIT, name })));
    const asks = [
      () => limiter.toolRateLimiter({ session: 's' }),
      () => new TallymeshStore({ limiter }),
      () => new RateLimiterTallymesh({ limiter, points: 1, duration: 1 }),
    ];
    for (const [place, ask] of asks.entries()) {
      const parts = [`"${names[place]}"`, 'give it another'];
      await expectRefused(ask, InvalidInputError, 'TALLYMESH_INVALID_INPUT', parts);
    }
  });

  it('that is no receipt or token of this limiter is refused by its kind', async () => {
    const limiter = await open(...limits);
    await expectRefused(() => limiter.refund('made up' as never), RefundError, 'UNKNOWN', ['receipt']);
    await expectRefused(() => limiter.token('made up' as never), RefundError, 'UNKNOWN', ['receipt']);
    await expectRefused(() => limiter.refundToken('made up'), RefundError, 'INVALID', ['token']);
  });
});
