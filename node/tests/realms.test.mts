/**
 * Errors and objects that come from elsewhere in the process: another realm, as a test runner makes one for each file, or another copy of
 * the package, as two dependencies of a program may bring.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileFunction, createContext, runInContext, type Context } from 'node:vm';

import { describe, expect, it, onTestFinished } from 'vitest';
import * as ours from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';
import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';

import { inMemory, open, temporaryDirectory } from './support.mjs';

const directory = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
const { call } = require('../dist/errors.js') as typeof import('../lib/errors.js');

type Package = typeof ours;
type Native = typeof import('../native/index.js');

const LIMIT = { name: 'calls', max: 1, window: 'session' } as const;
const WRONG = { ...inMemory(), limits: [{ ...LIMIT, window: 60 as never }] };

/** Loads a CommonJS module and what it requires by a path into a realm of its own; the binary and other packages as they are. */
function loadInto(context: Context, file: string, loaded = new Map<string, object>()): object {
  const known = loaded.get(file);
  if (known !== undefined) return known;
  const module = { exports: {} };
  loaded.set(file, module.exports);
  const outside = createRequire(file);
  const inside = (id: string): unknown =>
    id.startsWith('.') && !id.endsWith('.node') ? loadInto(context, resolve(dirname(file), id), loaded) : outside(id);
  const parameters = ['exports', 'require', 'module', '__filename', '__dirname'];
  const run = compileFunction(readFileSync(file, 'utf8'), parameters, { parsingContext: context, filename: file });
  run(module.exports, inside, module, file, dirname(file));
  return module.exports;
}

/** The package in another realm. */
function inRealm(): { context: Context; theirs: Package; errors: { call: typeof call }; native: Native } {
  const context = createContext({ process, Buffer });
  const loaded = new Map<string, object>();
  const load = (name: string) => loadInto(context, join(directory, 'dist', name), loaded);
  const theirs = load('index.js') as Package;
  const { native } = load('native.js') as { native: Native };
  return { context, theirs, errors: load('errors.js') as { call: typeof call }, native };
}

async function thrownBy(ask: () => unknown): Promise<Error & { code: string }> {
  try {
    await ask();
  } catch (thrown) {
    return thrown as Error & { code: string };
  }
  throw new Error('it threw nothing');
}

describe('an error in another realm', () => {
  const { context, theirs, errors, native } = inRealm();
  const isError = runInContext('(thrown) => thrown instanceof Error', context) as (thrown: unknown) => boolean;

  it.each<[string, () => unknown, keyof Package, string, RegExp]>([
    ['a wrong type', () => theirs.Limiter.open(WRONG), 'ConfigError', 'TALLYMESH_CONFIG', /limits\[0\].window is 60.*"60s"/],
    [
      'a wrong value',
      () => theirs.Limiter.open({ ...inMemory(), limits: [{ ...LIMIT, window: 'daily' }] }),
      'ConfigError',
      'TALLYMESH_CONFIG',
      /limits\[0\].window = "daily"/,
    ],
    ['a file', () => theirs.Limiter.open('/nowhere.toml'), 'ConfigError', 'TALLYMESH_CONFIG', /nowhere/],
    [
      'an opening',
      () => theirs.Limiter.open({ node: { id: 'a', dataDir: '/dev/null/d' } }),
      'OpenError',
      'TALLYMESH_OPEN',
      /null/,
    ],
    ['an id', () => theirs.Limiter.attach(1), 'ClosedError', 'TALLYMESH_CLOSED', /closed/],
    ['an argument', () => new theirs.ToolRateLimiter().canCall(''), 'InvalidInputError', 'TALLYMESH_INVALID_INPUT', /empty/],
    ['a panic', () => errors.call(() => native.provokePanic()), 'PanicError', 'TALLYMESH_PANIC', /report it: provoked/],
    // What the native half throws without a code of ours: that is a bug.
    [
      'a call with wrong arguments',
      () => errors.call(() => native.counterOpen('x' as never, 1 as never, {} as never, 0)),
      'PanicError',
      'TALLYMESH_PANIC',
      /a bug in tallymesh, please report it: /,
    ],
  ])('of %s keeps class, code and message, here and there', async (_what, ask, name, code, message) => {
    const error = await thrownBy(ask);
    for (const { [name]: is, TallymeshError } of [theirs, ours]) {
      expect(error).toBeInstanceOf(is);
      expect(error).toBeInstanceOf(TallymeshError);
    }
    for (const other of ['DurabilityError', 'RefundError'] as const) expect(error).not.toBeInstanceOf(ours[other]);
    expect(error).toMatchObject({ name, code });
    expect(error.message).toMatch(message);
    expect(String(error)).toBe(`${name}: ${error.message}`);
    expect([isError(error), error instanceof Error]).toStrictEqual([true, false]);
  });

  it('of a refund, a denial and a closed limiter', async () => {
    const limiter = await theirs.Limiter.open(inMemory(LIMIT));
    expect(limiter).toBeInstanceOf(ours.Limiter);
    const allowed = limiter.acquire({});
    expect(allowed).toBeInstanceOf(ours.Decision);
    expect(await thrownBy(() => limiter.refund('x' as ours.Receipt))).toMatchObject({ name: 'RefundError', code: 'UNKNOWN' });
    const denied = await thrownBy(() => limiter.acquire({}).orThrow());
    expect(denied).toBeInstanceOf(ours.DeniedError);
    expect(denied).toMatchObject({ code: 'TALLYMESH_DENIED', limit: 'calls', cause: 'limit-reached' });
    limiter.refund(allowed.receipt as ours.Receipt);
    await limiter.close();
    const closed = await thrownBy(() => limiter.acquire({}));
    expect(closed).toBeInstanceOf(ours.ClosedError);
    expect(await thrownBy(() => limiter.flush())).toBeInstanceOf(theirs.ClosedError);
    // The drop-in denies by what the error is.
    expect(limiter.toolRateLimiters()('s').tryCall('t')).toMatchObject({ allowed: false, reason: closed.message });
  });

  it('of a promise of the native half', async () => {
    await expect(native.provokePanicElsewhere()).rejects.toThrow(/TALLYMESH_PANIC.*provoked elsewhere/);
    const { settled } = errors as unknown as typeof import('../lib/errors.js');
    expect(await thrownBy(() => settled(() => native.provokePanicElsewhere()))).toMatchObject({ code: 'TALLYMESH_PANIC' });
  });

  it('works with limiters of this one, since both have one native half', async () => {
    const limiter = await open(LIMIT);
    const tools = theirs.toolRateLimiters(limiter, { limits: { t: { maxPerTurn: 1, maxPerSession: 1 } } });
    expect([tools('s').tryCall('t').allowed, tools('s').tryCall('t').allowed]).toStrictEqual([true, false]);
    expect(limiter.toolRateLimiters()('s').getStats().session).toStrictEqual({});
    const attached = theirs.Limiter.attach(limiter.id);
    expect([attached.acquire({}).allowed, limiter.acquire({}).allowed]).toStrictEqual([true, false]);
  });
});

describe('a class', () => {
  class Own extends ours.ConfigError {}
  class OwnLimiter extends ours.ToolRateLimiter {}

  it('is no class below or beside it', () => {
    const config = new (ours.ConfigError as new (message: string) => ours.ConfigError)('x');
    expect(config).toBeInstanceOf(ours.TallymeshError);
    for (const other of [ours.OpenError, ours.Limiter, ours.Decision, Own]) expect(config).not.toBeInstanceOf(other);
    for (const value of [undefined, null, 7, 'x', {}, () => 1, new Error('x'), Object.create(null)]) {
      for (const of of [ours.TallymeshError, ours.ConfigError, ours.Limiter, ours.Peek])
        expect(value instanceof of).toBe(false);
    }
  });

  it("of a user's extends one of ours as usual", () => {
    const own = new (Own as new (message: string) => Own)('mine');
    expect(own).toBeInstanceOf(Own);
    expect(own).toBeInstanceOf(ours.ConfigError);
    expect(own).toBeInstanceOf(inRealm().theirs.ConfigError);
    expect([own.name, String(own), own.code]).toStrictEqual(['Own', 'Own: mine', 'TALLYMESH_CONFIG']);
    expect(new OwnLimiter()).toBeInstanceOf(ours.ToolRateLimiter);
    expect(new ours.ToolRateLimiter()).not.toBeInstanceOf(OwnLimiter);
  });

  it('is said to be what it is: a decision is a peek, a peek no decision', async () => {
    const limiter = await open(LIMIT);
    const [decision, peek] = [limiter.acquire({}), limiter.peek({})];
    expect([decision instanceof ours.Peek, decision instanceof ours.Decision]).toStrictEqual([true, true]);
    expect([peek instanceof ours.Peek, peek instanceof ours.Decision]).toStrictEqual([true, false]);
  });
});

/** Another copy of the package: with a binary of its own, or with the same. */
function copy(binary: 'own' | 'same'): { path: string; theirs: Package & { TallymeshStore: typeof TallymeshStore } } {
  const path = join(temporaryDirectory(), 'node_modules/tallymesh');
  mkdirSync(path, { recursive: true });
  for (const part of ['dist', 'package.json']) cpSync(join(directory, part), join(path, part), { recursive: true });
  if (binary === 'own') cpSync(join(directory, 'native'), join(path, 'native'), { recursive: true });
  else symlinkSync(join(directory, 'native'), join(path, 'native'), 'junction');
  symlinkSync(join(directory, 'node_modules/rate-limiter-flexible'), join(path, '../rate-limiter-flexible'), 'junction');
  const parts = ['', '/express-rate-limit', '/rate-limiter-flexible'].map(
    (part) => createRequire(join(path, '../../program.js'))(`tallymesh${part}`) as object,
  );
  return { path, theirs: Object.assign({}, ...parts) as ReturnType<typeof copy>['theirs'] };
}

describe.each(['own', 'same'] as const)('another copy of the package, with its %s binary', (binary) => {
  const OTHER = /^the limiter is of another copy of the package tallymesh.*import both from one copy/;

  it('has other classes, which are the same to instanceof', async () => {
    const { theirs } = copy(binary);
    expect(theirs.ConfigError).not.toBe(ours.ConfigError);
    const error = await thrownBy(() => theirs.Limiter.open(WRONG));
    expect(error).toBeInstanceOf(ours.ConfigError);
    expect(error).toBeInstanceOf(ours.TallymeshError);
    expect(error).not.toBeInstanceOf(ours.OpenError);
    expect(await thrownBy(() => ours.Limiter.open(WRONG))).toBeInstanceOf(theirs.ConfigError);
  });

  it('takes a limiter of this one, or refuses it by what it is', async () => {
    const { theirs } = copy(binary);
    const limiters = [await open(LIMIT), await theirs.Limiter.open(inMemory(LIMIT))] as const;
    onTestFinished(async () => void (await limiters[1].close()));
    const uses = [
      () => new theirs.TallymeshStore({ limiter: limiters[0] }),
      () => theirs.toolRateLimiters(limiters[0]),
      () => new TallymeshStore({ limiter: limiters[1] }),
      () => new RateLimiterTallymesh({ limiter: limiters[1], points: 1, duration: 1 }),
      () => ours.toolRateLimiters(limiters[1]),
      () => new TallymeshStore({ limiter: Promise.resolve(limiters[1]) }).shutdown(),
    ];
    for (const use of uses) {
      if (binary === 'same') {
        expect(await use()).not.toBeInstanceOf(Error);
        continue;
      }
      const error = await thrownBy(use);
      expect(error).toBeInstanceOf(ours.InvalidInputError);
      expect(error.message).toMatch(OTHER);
    }
  });

  it('neither takes the receipts of this one nor attaches to its limiters by mistake', async () => {
    const { theirs } = copy(binary);
    const [mine, other] = [await open(LIMIT), await theirs.Limiter.open(inMemory(LIMIT))];
    onTestFinished(async () => void (await other.close()));
    const { receipt } = mine.acquire({});
    const code = binary === 'own' ? 'OTHER_LIFE' : 'OTHER_LIMITER';
    const error = await thrownBy(() => other.refund(receipt as ours.Receipt));
    expect(error).toBeInstanceOf(ours.RefundError);
    expect(error.code).toBe(code);
    expect(mine.id).not.toBe(other.id);
    if (binary === 'own') {
      expect(await thrownBy(() => theirs.Limiter.attach(mine.id))).toBeInstanceOf(ours.ClosedError);
    } else {
      expect(theirs.Limiter.attach(mine.id).acquire({}).allowed).toBe(false);
    }
  });

  it('is told that the directory is open in this process', async () => {
    const { theirs } = copy(binary);
    const config = { node: { id: 'a', dataDir: join(temporaryDirectory(), 'data') } };
    await using _held = await ours.Limiter.open(config);
    const error = await thrownBy(() => theirs.Limiter.open(config));
    expect(error).toBeInstanceOf(ours.OpenError);
    expect(error.message).toMatch(
      binary === 'own' ? /number of this one: another copy of tallymesh/ : /open in this process already/,
    );
  });

  it.each(['SIGTERM', 'exit'])('writes what it has counted at the end by %s, as this one does', (ending) => {
    const { path } = copy(binary);
    const directories = [join(temporaryDirectory(), 'a'), join(temporaryDirectory(), 'b')];
    const program = `
      const { Limiter } = require(${JSON.stringify(directory)}), copied = require(${JSON.stringify(path)});
      const config = (dataDir) => ({
        node: { id: 'a', dataDir }, storage: { persistEvery: '1m' }, limits: [${JSON.stringify(LIMIT)}],
      });
      (async () => {
        const [dataDir, other] = ${JSON.stringify(directories)};
        const limiters = [await Limiter.open(config(dataDir)), await copied.Limiter.open(config(other))];
        process.stdout.write(JSON.stringify(limiters.map((limiter) => limiter.acquire({}).allowed)), () => {
          ${ending === 'exit' ? 'process.exit(0)' : "process.kill(process.pid, 'SIGTERM')"};
        });
        setInterval(() => {}, 1000);
      })();`;
    const run = () => spawnSync(process.execPath, ['--eval', program], { encoding: 'utf8', timeout: 20_000 });
    const [first, second] = [run(), run()];
    expect(first.signal).toBe(ending === 'exit' ? null : 'SIGTERM');
    expect([first.stdout, second.stdout]).toStrictEqual(['[true,true]', '[false,false]']);
  });
});
