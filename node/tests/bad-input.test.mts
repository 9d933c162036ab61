import { runInNewContext } from 'node:vm';

import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidInputError, Limiter, TallymeshError, type Config, type Receipt } from 'tallymesh';

import { inMemory, open } from './support.mjs';

const BAD_TEXTS: [string, unknown][] = [
  ['undefined', undefined],
  ['null', null],
  ['a number', 7],
  ['a bigint', 7n],
  ['a boolean', true],
  ['an object', {}],
  ['an array', ['s']],
  ['a function', () => 's'],
  ['a symbol', Symbol('s')],
  ['an empty text', ''],
  ['a huge text', 'x'.repeat(100_000_000)],
  ['a lone high surrogate', 'a\ud800b'],
  ['a lone low surrogate', '\udc00'],
  ['a NUL', 'a\0b'],
  ['a NUL that looks like another label', 's\0tool\0other'],
  ['only NULs', '\0\0'],
];

const BAD_COUNTS: [string, unknown][] = [
  ['negative', -1],
  ['NaN', NaN],
  ['infinite', Infinity],
  ['infinitely negative', -Infinity],
  ['a fraction', 1.5],
  ['over 2^53 - 1', 2 ** 53],
  ['a text', '1'],
  ['a bigint', 1n],
  ['null', null],
  ['an object', {}],
];

describe('a request', () => {
  const limits = { name: 'all', per: ['session'], max: 5, window: 'session' } as const;

  it.each(BAD_TEXTS)('with %s for a label is refused, and nothing is counted', async (_what, value) => {
    const limiter = await open(limits);
    const request = { tool: 't', session: value as string };
    for (const ask of [() => limiter.acquire(request), () => limiter.peek(request), () => limiter.reset(request)]) {
      expect(ask).toThrow(InvalidInputError);
      expect(ask).toThrow(/^label session .*: (give|leave)/);
    }
    await expect(limiter.acquireDurable(request)).rejects.toThrow(InvalidInputError);
    expect(await limiter.counters().toArray()).toStrictEqual([]);
  });

  it.each(BAD_COUNTS)('with a cost that is %s is refused', async (_what, cost) => {
    const limiter = await open(limits);
    expect(() => limiter.acquire({ session: 's', cost: cost as number })).toThrow(
      /^cost is .*whole number from 0 to 2\^53 - 1/s,
    );
  });

  class Call {
    session = 's';
  }

  it.each([
    ['a Map', new Map([['session', 's']])],
    ['a Set', new Set(['session'])],
    ['a URLSearchParams', new URLSearchParams('session=s')],
    ['an instance of a class', new Call()],
    ['an object that inherits', Object.create({ session: 's' }) as object],
    ['a Date', new Date()],
  ])('that is %s is refused', async (_what, request) => {
    const limiter = await open(limits);
    const asks = [
      () => limiter.acquire(request as never),
      () => limiter.peek(request as never),
      () => limiter.reset(request as never),
    ];
    for (const ask of asks) {
      expect(ask).toThrow(InvalidInputError);
      expect(ask).toThrow(/the request is an object.*: give a plain object/);
    }
    expect(() => limiter.reset({ limit: 'all', labels: request as never })).toThrow(InvalidInputError);
  });

  it('that is an object without a prototype, or of another realm, is an object', async () => {
    const limiter = await open(limits);
    const bare = Object.assign(Object.create(null) as object, { session: 's' });
    expect(limiter.acquire(bare).remaining).toBe(4);
    expect(limiter.acquire(runInNewContext('({ session: "s" })') as { session: string }).remaining).toBe(3);
  });

  it.each([undefined, null, 7, 'text', [], () => 1])('that is %s is refused', async (request) => {
    const limiter = await open(limits);
    expect(() => limiter.acquire(request as never)).toThrow(InvalidInputError);
  });

  it.each(['', 'a\0b', '\ud800'])('with the name %j for a label is refused', async (name) => {
    const limiter = await open(limits);
    expect(() => limiter.acquire({ session: 's', [name]: 'x' })).toThrow(/the name of a label/);
  });

  it('with thousands of labels is refused', async () => {
    const limiter = await open(limits);
    const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, number) => [`label${number}`, 'x']));
    expect(() => limiter.acquire(many)).toThrow(/has 100000 labels: give at most 1024/);
  });
});

describe('a receipt', () => {
  it.each([...BAD_COUNTS, ['undefined', undefined], ['unknown', 12345]])('that is %s is refused', async (_what, receipt) => {
    const limiter = await open();
    expect(() => limiter.refund(receipt as Receipt)).toThrow(TallymeshError);
  });
});

describe('a session', () => {
  it.each(BAD_TEXTS)('that is %s is refused', async (_what, session) => {
    const limiter = await open();
    expect(() => limiter.toolRateLimiter({ session: session as string })).toThrow(/^session .*: (give|leave)/);
  });

  it.each([
    ['options', new Map([['session', 's']])],
    ['limits', { session: 's', limits: new Map([['book', { maxPerTurn: 0, maxPerSession: 0 }]]) }],
    ['a limit', { session: 's', limits: { book: new Map([['maxPerTurn', 0]]) } }],
  ])('with a Map for %s is refused', async (_what, options) => {
    const limiter = await open();
    expect(() => limiter.toolRateLimiter(options as never)).toThrow(/is an object of class Map: give a plain object/);
  });

  it.each([undefined, null, 's', 7])('in options that are %s is refused', async (options) => {
    const limiter = await open();
    expect(() => limiter.toolRateLimiter(options as never)).toThrow(InvalidInputError);
  });
});

describe('an id', () => {
  it.each([...BAD_COUNTS, ['undefined', undefined], ['unknown', 4_000_000_000], ['too high', 2 ** 40]])(
    'that is %s is refused',
    (_what, id) => {
      expect(() => Limiter.attach(id as number)).toThrow(TallymeshError);
    },
  );
});

describe('a config', () => {
  const bad: [string, unknown, RegExp][] = [
    ['undefined', undefined, /the config is undefined: give an object/],
    ['null', null, /the config is null/],
    ['a number', 7, /the config is 7/],
    ['an array', [], /the config is an array/],
    ['an empty path', '', /the path of the config is empty/],
    ['a path that does not exist', '/nowhere/tallymesh.toml', /\/nowhere\/tallymesh.toml.*No such file/],
    ['without a node', {}, /config.node is missing: give/],
    ['with an empty id', { ...inMemory(), node: { id: '' } }, /node.id = "".*1 to 64 ASCII letters/],
    [
      'with a window that is none',
      inMemory({ name: 'l', max: 1, window: 'daily' }),
      /config.limits\[0\].window = "daily" \(of the limit "l"\) .*"session" or a duration/,
    ],
    ['with a NUL in the id', { ...inMemory(), node: { id: 'a\0b' } }, /config.node.id is .*NUL/],
    ['with half a surrogate pair', { ...inMemory(), node: { id: '\ud800' } }, /config.node.id is .*well-formed/],
    [
      'without a place for its data',
      { node: { id: 'a' } },
      /^config.node.dataDir = nothing is not allowed: .*config.storage.inMemory/,
    ],
    ['with a key that means nothing', { ...inMemory(), gosip: {} }, /config.gosip is no setting.*is gossip meant/],
    [
      'with a value of the wrong type',
      { ...inMemory(), gossip: { peers: 'a:1' } },
      /^config.gossip.peers is "a:1": give an array/,
    ],
    ['with an unknown durability', { ...inMemory(), storage: { durability: 'some' } }, /"relaxed" or "sync"/],
    ['with a bad interval', { ...inMemory(), gossip: { interval: '5 parsecs' } }, /gossip.interval/],
    [
      'with NaN',
      { ...inMemory(), counters: { maxCounters: NaN } },
      /config.counters.maxCounters is NaN: give a whole number from 1 to/,
    ],
    ['with a bigint', { ...inMemory(), counters: { maxCounters: 5n } }, /config.counters.maxCounters is 5n.*is 5 meant/],
    ['with undefined', { ...inMemory(), gossip: { listen: undefined } }, /config.gossip.listen is undefined.*leave it out/],
    ['that is open to the world', { ...inMemory(), gossip: { listen: '0.0.0.0:0' } }, /insecure/],
    ['with a nameless limit', inMemory({ name: '', max: 1, window: '1h' }), /name/],
    ['with a limit below 0', inMemory({ name: 'l', max: -1, window: '1h' }), /max/],
    ['with half a limit', inMemory({ name: 'l', max: 0.5, window: '1h' }), /max|invalid type/],
    ['with a limit over 2^53 - 1', inMemory({ name: 'l', max: 2 ** 53, window: '1h' }), /0 to 2\^53 - 1/],
    ['with a window of nothing', inMemory({ name: 'l', max: 1, window: '0s' }), /window/],
    [
      'with labels that no request carries',
      inMemory({ name: 'l', per: [''], max: 1, window: '1h' }),
      /config.limits\[0\].per = "" \(of the limit "l"\) is not allowed/,
    ],
    ['with a limit per cost', inMemory({ name: 'l', per: ['cost'], max: 1, window: '1h' }), /per = "cost".*no label/],
    ['with a label twice', inMemory({ name: 'l', per: ['user', 'user'], max: 1, window: '1h' }), /"user", twice/],
    ['with a pattern for the cost', inMemory({ name: 'l', when: { cost: '5' }, max: 1, window: '1h' }), /when = "cost"/],
    ['with a pattern that nothing matches', inMemory({ name: 'l', when: { tool: '' }, max: 1, window: '1h' }), /can match/],
    [
      'with a Map for patterns',
      inMemory({ name: 'l', when: new Map([['tool', 'x']]) as never, max: 1, window: '1h' }),
      /when is an object of class Map: give a plain object/,
    ],
    ['that is a Map', new Map([['node', { id: 'a' }]]), /the config is an object of class Map/],
    [
      'with a Map for a table',
      { ...inMemory(), counters: new Map([['maxCounters', 1]]) },
      /config.counters is an object of class Map/,
    ],
    ['with a Set of limits', { ...inMemory(), limits: new Set() }, /is an object of class Set: give/],
    [
      'with an unknown word for missing labels',
      inMemory({ name: 'l', whenLabelMissing: 'ignore' as never, max: 1, window: '1h' }),
      /whenLabelMissing = "ignore" .*is not allowed: "deny" or "skip"/,
    ],
    ['with an unknown word for the unmatched', { ...inMemory(), counters: { unmatched: 'warn' } }, /"allow" or "deny"/],
    [
      'with a bad pattern',
      inMemory({ name: 'l', when: 'tool' as never, max: 1, window: '1h' }),
      /when is "tool": give an object/,
    ],
  ];

  it.each(bad)('%s is refused', async (_what, config, message) => {
    const refusal = Limiter.open(config as Config);
    await expect(refusal).rejects.toThrow(message);
    await expect(refusal).rejects.toSatisfy((error) => error instanceof ConfigError || error instanceof InvalidInputError);
  });
});
