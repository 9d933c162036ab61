import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';
import { Limiter, PanicError, TallymeshError } from 'tallymesh';

import { open, temporaryDirectory } from './support.mjs';

const require = createRequire(import.meta.url);
const { native } = require('../dist/native.js') as { native: typeof import('../native/index.js') };
const { call, settled } = require('../dist/errors.js') as typeof import('../lib/errors.js');

/** Runs a program in a process of its own, in the package's directory. */
function run(program: string, type: 'module' | 'commonjs' = 'module', ...flags: string[]) {
  const directory = fileURLToPath(new URL('..', import.meta.url));
  const args = [...flags, `--input-type=${type}`, '--eval', program];
  return spawnSync(process.execPath, args, { cwd: directory, encoding: 'utf8', timeout: 20_000 });
}

describe('the package', () => {
  const use =
    "Limiter.open({ node: { id: 'a' }, storage: { inMemory: true } }).then((limiter) => limiter.close()).then(() => console.log('done'))";

  it('can be imported', () => {
    expect(run(`import { Limiter } from 'tallymesh'; ${use}`)).toMatchObject({ status: 0, stdout: 'done\n', stderr: '' });
  });

  it('can be required', () => {
    expect(run(`const { Limiter } = require('tallymesh'); ${use}`, 'commonjs')).toMatchObject({
      status: 0,
      stdout: 'done\n',
      stderr: '',
    });
  });

  it('is the same whether imported or required', async () => {
    for (const part of ['tallymesh', 'tallymesh/express-rate-limit', 'tallymesh/rate-limiter-flexible']) {
      const imported = (await import(part)) as Record<string, unknown>;
      const required = require(part) as Record<string, unknown>;
      expect(Object.keys(required).length).toBeGreaterThan(0);
      for (const name of Object.keys(required)) expect(imported[name]).toBe(required[name]);
    }
  });
});

describe('a process that forgets to close', () => {
  it('ends by itself, and has lost no more than the last moment', () => {
    const config = JSON.stringify({
      node: { id: 'a', dataDir: temporaryDirectory() },
      limits: [{ name: 'calls', max: 1000, window: 'session' }],
    });
    const counts = `
      import { Limiter } from 'tallymesh';
      import { setTimeout } from 'node:timers/promises';
      const limiter = await Limiter.open(${config});
      for (let call = 0; call < 100; call += 1) limiter.acquire({});
      await limiter.flush();
      limiter.acquire({});`;
    expect(run(counts)).toMatchObject({ status: 0, signal: null, stderr: '' });

    const reads = `
      import { Limiter } from 'tallymesh';
      const limiter = await Limiter.open(${config});
      console.log(Number((await limiter.counters().toArray())[0].value));`;
    const after = run(reads);
    expect(after).toMatchObject({ status: 0, stderr: '' });
    expect(Number(after.stdout)).toBeGreaterThanOrEqual(100);
  });
});

describe('a panic', () => {
  it('is an error with a code, and the limiter goes on', async () => {
    const limiter = await open({ name: 'all', max: 2, window: 'session' });
    for (let time = 0; time < 3; time += 1) {
      let thrown: unknown;
      try {
        call(() => native.provokePanic());
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(PanicError);
      expect(thrown).toMatchObject({ code: 'TALLYMESH_PANIC', message: expect.stringContaining('provoked') });
    }
    expect(limiter.acquire({}).allowed).toBe(true);
  });

  it('on another thread rejects the promise', async () => {
    await expect(settled(() => native.provokePanicElsewhere())).rejects.toMatchObject({
      code: 'TALLYMESH_PANIC',
      message: expect.stringContaining('provoked elsewhere'),
    });
  });
});

describe('an error', () => {
  it('has a code, a name and its class', async () => {
    const error = await Limiter.open('/nowhere.toml').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TallymeshError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'TALLYMESH_CONFIG', name: 'ConfigError' });
  });
});

describe('100,000 calls', () => {
  it('leave memory as it was', () => {
    const program = `
      import { Limiter } from 'tallymesh';
      const limiter = await Limiter.open({
        node: { id: 'a' }, storage: { inMemory: true },
        limits: [{ name: 'calls', per: ['session'], max: 1e12, window: 'session' }],
      });
      async function calls() {
        for (let call = 0; call < 100_000; call += 1) {
          const session = 's' + (call % 100);
          limiter.acquire({ session, tool: 'tool', user: 'u' });
          limiter.peek({ session, tool: 'tool' });
          // An object for each call, which the next collection lets go of, in the native half as well.
          limiter.toolRateLimiter({ session }).tryCall('tool');
          try { limiter.acquire({ session: '' }); } catch {}
          if (call % 1000 === 0) { await limiter.counters().toArray(); limiter.peers(); limiter.health(); }
        }
      }
      async function memory() {
        for (let turn = 0; turn < 5; turn += 1) { gc(); await new Promise(setImmediate); }
        return process.memoryUsage().rss / 2 ** 20;
      }
      await calls();
      const before = await memory();
      await calls();
      const after = await memory();
      console.log(after - before);
      await limiter.close();`;
    const result = run(program, 'module', '--expose-gc');
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(Number(result.stdout)).toBeLessThan(16);
  });
});
