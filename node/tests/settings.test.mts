/** Every setting and every part of a limit, given in every wrong way: each refusal has its path in the object and what is allowed. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';

import { describe, expect, it } from 'vitest';
import { ConfigError, Limiter, OpenError, type Config } from 'tallymesh';

import { inMemory, temporaryDirectory } from './support.mjs';

const { LIMIT_PARTS, SETTINGS, fileNamesReplaced, snake } = createRequire(import.meta.url)(
  '../dist/settings.js',
) as typeof import('../lib/settings.js');
type Setting = (typeof SETTINGS)[string];

/** A setting or a part of a limit: where it is in the object, and a config in which it has another value or another name. */
interface Place {
  readonly path: string;
  readonly setting: Setting;
  readonly config: (value: unknown, name?: string) => unknown;
}

const LIMIT = { name: 'l', max: 1, window: '1h' };

const SETTING_PLACES = Object.entries(SETTINGS).map(([path, setting]): Place => {
  const [table = '', name = ''] = path.split('.');
  const config = (value: unknown, as = name): unknown => {
    const settings: Record<string, object> = { ...inMemory() } as never;
    // An object without a prototype, so that `__proto__` is a name as any other.
    const changed = Object.assign(Object.create(null) as Record<string, unknown>, settings[table]);
    delete changed[name];
    changed[as] = value;
    return { ...settings, [table]: changed };
  };
  return { path: `config.${path}`, setting, config };
});
const PART_PLACES = Object.entries(LIMIT_PARTS)
  .filter(([name]) => name !== 'when')
  .map(([name, setting]): Place => {
    const session = name === 'sessionTtl' ? { window: 'session' } : {};
    const config = (value: unknown, as = name): unknown => {
      const { [name]: _, ...limit } = { ...LIMIT, ...session } as Record<string, unknown>;
      return inMemory(LIMIT, { ...limit, ...(name !== 'name' && { name: 'm' }), [as]: value } as never);
    };
    return { path: `config.limits[1].${name}`, setting, config };
  });
const PLACES = [...SETTING_PLACES, ...PART_PLACES];

class Instance {}

/** Values of every type but the right one. */
const WRONG: [what: string, value: unknown, kinds?: Setting['kind'][]][] = [
  ['null', null],
  ['undefined', undefined],
  ['NaN', NaN],
  ['-1', -1, ['fraction']],
  ['1.5', 1.5, ['fraction']],
  ['Infinity', Infinity],
  ['2^53', 2 ** 53, ['fraction']],
  ['a bigint', 5n],
  ['a text', 'x', ['text', 'secret', 'word', 'duration']],
  ['a text of a number', '5', ['text', 'secret', 'word', 'duration']],
  ['a number', 60, ['count', 'fraction']],
  ['a flag', true, ['flag']],
  ['an array', [], ['texts']],
  ['an object', {}],
  ['a Map', new Map([['a', 1]])],
  ['an instance', new Instance()],
  ['a function', () => 1],
  ['a symbol', Symbol('s')],
];

/** Values of the right type that are not allowed. */
function outside({ kind, allowed }: Setting): unknown[] {
  const [least = 0, most = 0] = allowed.split(' to ').map((end) => Number.parseFloat(end));
  switch (kind) {
    case 'count':
      return [...(least > 0 ? [least - 1] : []), allowed.includes('2^53') ? 2 ** 53 : most + 1];
    case 'fraction':
      return [-0.1, 1.1];
    case 'duration':
      return ['0.5ms', 'daily', '367days', '1month', '', ...(least > 0 ? ['0s'] : [])];
    case 'word':
      return ['', 'maybe', allowed.toUpperCase()];
    case 'secret':
      return ['', 'x', '7f'.repeat(31), '00'.repeat(32)];
    case 'text':
    case 'texts':
    case 'flag':
      return [];
  }
}

async function refusal(config: unknown): Promise<Error & { code: string }> {
  try {
    await (await Limiter.open(config as Config)).close();
  } catch (thrown) {
    return thrown as Error & { code: string };
  }
  throw new Error('it was not refused');
}

/** The refusal, which speaks of the object: no name of the file, no line of it. What the user wrote is left out of that. */
async function refused(config: unknown, wrote = ''): Promise<string> {
  const error = await refusal(config);
  expect(error).toBeInstanceOf(ConfigError);
  expect(error).toMatchObject({ code: 'TALLYMESH_CONFIG', name: 'ConfigError' });
  const message = wrote === '' ? error.message : error.message.replaceAll(wrote, '');
  expect(message).not.toMatch(/[a-z0-9]_[a-z0-9]|toml|\bline\b|\bcolumn\b|invalid type|field/i);
  return error.message;
}

/** What is allowed, as messages say it of values of a wrong type. */
function allowedIn({ kind, allowed }: Setting): string {
  return kind === 'text' ? 'give a string' : kind === 'texts' ? 'give an array of strings' : allowed;
}

describe.each(PLACES)('$path', ({ path, setting, config }) => {
  const wrong = WRONG.filter(([, , kinds = []]) => !kinds.includes(setting.kind));

  it.each(wrong)('is refused that is %s', async (_what, value) => {
    const message = await refused(config(value));
    expect(message).toContain(`${path} is `);
    expect(message).toContain(allowedIn(setting));
  });

  it('is refused out of its range, with the range', async () => {
    for (const value of outside(setting)) {
      const message = await refused(config(value), String(value));
      expect(message).toMatch(new RegExp(`^${path.replace(/[[\].]/g, '\\$&')} (=|is) `));
      // A month has no length, which is said in place of the range, as is what is wrong with a key.
      if (setting.kind === 'secret') continue;
      if (setting.kind !== 'duration' || /^\d+days$|^0/.test(String(value))) {
        expect(message).toContain(allowedIn(setting).replace('"session", or ', ''));
      }
    }
  });

  it('is suggested where it is misspelt', async () => {
    const [name = '', ...above] = path.split('.').toReversed();
    const table = above.toReversed().join('.');
    // Not by a letter more at the end, which may be another setting.
    for (const wrote of [`${name.at(0)}${name}`, name.toUpperCase(), snake(name)].filter((wrote) => wrote !== name)) {
      const message = await refused(config(1, wrote), wrote);
      expect(message).toContain(`${table}.${wrote} is no setting: those of ${table} are `);
      expect(message).toMatch(new RegExp(`; is ${name} meant\\?$`));
    }
  });

  it('is refused whose getter throws, with what it threw', async () => {
    const thrown = new Error('no such secret');
    const throwing = config(1) as Record<string, Record<string, unknown>[]>;
    const [, table = '', index, name = ''] = /^config\.(\w+)(?:\[(\d)\])?\.(\w+)$/.exec(path) ?? [];
    const holder = (index === undefined ? throwing[table] : throwing[table]?.[Number(index)]) as object;
    Object.defineProperty(holder, name, {
      enumerable: true,
      get() {
        throw thrown;
      },
    });
    const error = await refusal(throwing);
    expect(error.message).toBe(`${path} cannot be read: it threw Error: no such secret`);
    expect(error).toMatchObject({ code: 'TALLYMESH_CONFIG', cause: thrown });
  });
});

const ofKind = (...kinds: Setting['kind'][]): Place[] => PLACES.filter(({ setting }) => kinds.includes(setting.kind));

describe('a value of a wrong type', () => {
  it.each(ofKind('duration'))('of $path is told the text that a number probably stands for', async ({ setting, config }) => {
    const milliseconds = setting.default?.endsWith('ms') === true;
    expect(await refused(config(60))).toMatch(milliseconds ? /is "60ms" meant\?$/ : /is "60s" meant\?$/);
    expect(await refused(config(60_000))).toMatch(milliseconds ? /is "60000ms" meant\?$/ : /is "60s" meant\?$/);
    expect(await refused(config('60'))).toMatch(milliseconds ? /is "60ms" meant\?$/ : /is "60s" meant\?$/);
  });

  it.each(ofKind('count', 'fraction'))('of $path is told the number that a text or a BigInt stands for', async ({ config }) => {
    expect(await refused(config('12'))).toMatch(/ is "12": .*; is 12 meant\?$/);
    expect(await refused(config(12n))).toMatch(/ is 12n: .*; is 12 meant\?$/);
  });
});

describe('a config', () => {
  it('is told where a setting belongs that is somewhere else', async () => {
    const rows: [unknown, string][] = [
      [{ node: { id: 'a' }, sessionTTL: 1 }, 'config.sessionTTL is no setting'],
      [{ node: { id: 'a' }, sessionTTL: 1 }, 'is config.limits[n].sessionTtl meant?'],
      [{ ...inMemory(), maxCounters: 1 }, 'is config.counters.maxCounters meant?'],
      [{ ...inMemory(), counters: { dataDir: 'd' } }, 'is config.node.dataDir meant?'],
      [{ ...inMemory(), limit: [LIMIT] }, 'is limits meant?'],
      [{ ...inMemory(), Gossip: {} }, 'is gossip meant?'],
    ];
    for (const [config, part] of rows) expect(await refused(config)).toContain(part);
    expect(await refused({ ...inMemory(), nonsense: 1 })).not.toContain('meant');
  });

  it.each(['node', 'gossip', 'storage', 'counters'])('is refused whose %s is no plain object', async (table) => {
    for (const [, value] of WRONG.filter(([what]) => what !== 'an object')) {
      expect(await refused({ ...inMemory(), [table]: value })).toMatch(
        new RegExp(`^config\\.${table} is .*: give an object of \\w+`),
      );
    }
    expect(await refused({ ...inMemory(), [table]: Object.create({ id: 'a' }) as object })).toContain('inherits');
  });

  it('is refused that cannot be read at all', async () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(await refused(proxy)).toMatch(/^config cannot be read: it threw TypeError: .*revoked/);
    expect(await refused({ ...inMemory(), gossip: proxy })).toMatch(/^config\.gossip cannot be read: it threw TypeError/);
    const bare = {
      get gossip() {
        throw Object.create(null) as Error;
      },
    };
    expect(await refused(bare)).toBe('config.gossip cannot be read: it threw an object');
  });

  it('may leave out what is optional, and may not have it undefined', async () => {
    for (const part of ['gossip', 'counters', 'limits']) {
      const message = await refused({ ...inMemory(), [part]: undefined });
      expect(message).toMatch(new RegExp(`^config\\.${part} is undefined: give an .*, or leave it out if it is optional$`));
    }
  });

  it('is refused without what must be there', async () => {
    expect(await refused({})).toContain('config.node is missing');
    expect(await refused({ node: {} })).toContain('config.node.id is missing');
    for (const part of ['name', 'max', 'window'] as const) {
      const { [part]: _, ...limit } = LIMIT;
      expect(await refused(inMemory(limit as never))).toContain(`config.limits[0].${part} is undefined: give a`);
    }
    const holes: unknown[] = [LIMIT];
    holes[2] = LIMIT;
    expect(await refused({ ...inMemory(), limits: holes })).toContain('config.limits[1] is undefined: give an object');
  });

  it('is refused whose settings contradict each other, with the paths of both', async () => {
    const rows: [Record<string, object>, ...string[]][] = [
      [
        { gossip: { silenceTimeout: '1s', digestInterval: '1s' } },
        'config.gossip.silenceTimeout',
        'config.gossip.digestInterval',
      ],
      [{ gossip: { listen: '0.0.0.0:1' } }, 'config.gossip.listen', 'config.gossip.insecure = true'],
      [{ node: { id: 'a', dataDir: 'd' } }, 'config.node.dataDir', 'config.storage.inMemory = true'],
      [{ storage: {} }, 'config.node.dataDir = nothing', 'config.storage.inMemory = true'],
      [
        { storage: { inMemory: true, durability: 'sync', persistEvery: '1s' } },
        'config.storage.persistEvery',
        'config.storage.durability',
      ],
      [
        { limits: [{ ...LIMIT, when: { a: 'x', b: 'x' } }] as never, counters: { maxLabels: 1 } },
        'config.limits[0].when',
        'config.counters.maxLabels',
      ],
      [
        { limits: [{ ...LIMIT, name: 'n'.repeat(16) }] as never, counters: { maxKeyBytes: 16 } },
        'config.limits[0].name',
        'config.counters.maxKeyBytes',
      ],
    ];
    for (const [tables, ...parts] of rows) {
      const message = await refused({ ...inMemory(), ...tables });
      for (const part of parts) expect(message).toContain(part);
    }
  });

  it('may have `__proto__` for a name in no table, and for a label', async () => {
    for (const at of ['config', 'config.gossip', 'config.limits[0]']) {
      const own = JSON.parse('{ "__proto__": { "a": 1 } }') as object;
      const config = {
        config: () => Object.assign(own, inMemory()),
        'config.gossip': () => ({ ...inMemory(), gossip: own }),
        'config.limits[0]': () => inMemory(Object.assign(own, LIMIT) as never),
      }[at];
      expect(await refused(config?.(), '__proto__')).toContain(`${at}.__proto__ is no setting`);
    }
    const when = JSON.parse('{ "__proto__": "x" }') as Record<string, string>;
    await using limiter = await Limiter.open(inMemory({ ...LIMIT, max: 0, when }));
    expect(limiter.peek(JSON.parse('{ "__proto__": "x" }')).allowed).toBe(false);
    expect(limiter.peek({ user: 'x' }).allowed).toBe(true);
  });

  it('may be frozen, without a prototype, or of another realm', async () => {
    const text = JSON.stringify({ ...inMemory(LIMIT), gossip: { urgentAt: 1, peers: ['127.0.0.1:1'], syncTimeout: '0s' } });
    const freeze = (_key: string, value: unknown) => Object.freeze(value);
    const bare = (_key: string, value: unknown) =>
      typeof value === 'object' && !Array.isArray(value) ? Object.assign(Object.create(null) as object, value) : value;
    for (const config of [JSON.parse(text, freeze), JSON.parse(text, bare), runInNewContext(`(${text})`)] as Config[]) {
      await using limiter = await Limiter.open(config);
      expect(limiter.acquire({}).allowed).toBe(true);
      expect(limiter.acquire({}).allowed).toBe(false);
    }
  });

  it('is read once', async () => {
    let reads = 0;
    const node = {
      get id() {
        reads += 1;
        return reads === 1 ? 'first' : 7;
      },
    };
    await using limiter = await Limiter.open({ ...inMemory(), node } as Config);
    expect([limiter.node, reads]).toStrictEqual(['first', 1]);
  });

  it('of a file is refused in the words of the file', async () => {
    const path = join(temporaryDirectory(), 'tallymesh.toml');
    writeFileSync(path, '[node]\nid = "a"\n[counters]\nmax_counters = "many"\n');
    const { message } = await refusal(path);
    for (const part of [path, 'line 4', 'counters.max_counters']) expect(message).toContain(part);
  });
});

/** What the library's errors and health say, as far as Node.js can see it, without what is filled in. */
function sentences(): { file: string; text: string }[] {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  // Those of these are of a file, of Rust's own types, or never reached from here.
  const others = [
    'core/src/limit/denial_reason.rs',
    'core/src/key.rs',
    'src/config/error.rs',
    'core/src/gossip/',
    'core/src/wire/',
  ];
  const files = ['core/src', 'src'].flatMap((part) =>
    readdirSync(join(root, part), { recursive: true, encoding: 'utf8' }).map((path) => `${part}/${path}`),
  );
  const seen = files.filter((file) => file.endsWith('.rs') && !others.some((other) => file.startsWith(other)));
  return seen.flatMap((file) => {
    const source = readFileSync(join(root, file), 'utf8').split('#[cfg(test)]')[0] ?? '';
    const [attributes, formats] = [/#\[error\(\s*"((?:[^"\\]|\\[^])*)"/g, /\bformat!\(\s*"((?:[^"\\]|\\[^])*)"/g];
    const found = [...source.matchAll(attributes), ...(file === 'src/status.rs' ? source.matchAll(formats) : [])];
    return found.map(([, text = '']) => ({ file, text: text.replace(/\{[^}]*\}|\\n?\s*/g, ' ') }));
  });
}

/** What the log says that Node.js shows on standard error: the texts of its lines, not the names of their fields. */
function logLines(): { file: string; text: string }[] {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const files = [
    'src/limiter.rs',
    'src/runtime/log.rs',
    'src/runtime/clock_watch.rs',
    'src/runtime/disk_thread.rs',
    'src/transport/tcp.rs',
  ];
  return files.flatMap((file) => {
    const source =
      readFileSync(join(root, file), 'utf8')
        .split('#[cfg(test)]')[0]
        ?.replace(/^ *\/\/.*$/gm, '') ?? '';
    const literals = [...source.matchAll(/"((?:[^"\\]|\\[^])*)"/g)].map(([, text = '']) => text.replace(/\{[^}]*\}/g, ''));
    const texts = literals.filter((text) => text.includes(' '));
    return texts.map((text) => ({ file, text }));
  });
}

describe('a sentence of the library', () => {
  it.each(logLines())('in the log, of $file, names no setting that only a file has: $text', ({ text }) => {
    expect(text).not.toMatch(/[a-z]_[a-z]/);
  });

  it('is found in the sources', () => {
    expect(sentences().length).toBeGreaterThan(30);
    expect(logLines().length).toBeGreaterThan(30);
  });

  it('has its settings named as in the object, and nothing else changed', () => {
    expect(fileNamesReplaced('raise counters.max_counters, or gossip.max_frame_bytes: see node.id')).toBe(
      'raise counters.maxCounters, or gossip.maxFrameBytes: see node.id',
    );
    for (const text of [
      '"counters.max_counters"',
      '/srv/counters.max_counters/db',
      'my.counters.max_counters',
      'max_counters',
    ]) {
      expect(fileNamesReplaced(text)).toBe(text);
    }
  });

  it.each(sentences())('of $file names no setting as a file has it, nor anything else: $text', ({ text }) => {
    expect(fileNamesReplaced(text)).not.toMatch(/[a-z]_[a-z]/);
  });

  it('about opening names no setting of a file', async () => {
    const dataDir = join(temporaryDirectory(), 'data');
    const config = { node: { id: 'a', dataDir } };
    await (await Limiter.open(config)).close();
    const file = join(temporaryDirectory(), 'file');
    writeFileSync(file, '');
    for (const [node, part] of [
      [{ id: 'b', dataDir }, 'node.id'],
      [{ id: 'a', dataDir: file }, 'another data directory'],
    ] as const) {
      const error = await refusal({ node });
      expect(error).toBeInstanceOf(OpenError);
      expect(error.message.replaceAll(node.dataDir, '')).not.toMatch(/[a-z]_[a-z]/);
      expect(error.message).toContain(part);
    }
  });
});
