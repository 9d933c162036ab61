import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { temporaryDirectory } from './support.mjs';

const directory = fileURLToPath(new URL('..', import.meta.url));

/** The settings of a node that writes nothing by itself while a test runs. */
function settings(dataDir: string): string {
  return JSON.stringify({
    node: { id: 'a', dataDir },
    storage: { persistEvery: '1m' },
    limits: [{ name: 'calls', max: 3, window: 'session' }],
  });
}

/** A program that opens a limiter, is admitted or not, says so, and ends by `ending`. */
function program(dataDir: string, ending: string): string {
  return `
    import { writeSync } from 'node:fs';
    import { Worker } from 'node:worker_threads';
    import { Limiter } from 'tallymesh';
    const config = ${settings(dataDir)};
    const limiter = await Limiter.open(config);
    writeSync(1, limiter.acquire({}).allowed ? 'admitted' : 'denied');
    ${ending}`;
}

function args(text: string): string[] {
  return ['--input-type=module', '--eval', text];
}

function run(text: string) {
  return spawnSync(process.execPath, args(text), { cwd: directory, encoding: 'utf8', timeout: 20_000 });
}

/** How many of eight lives on one directory are admitted. */
function admitted(ending: string, check: (result: ReturnType<typeof run>) => void): number {
  const dataDir = temporaryDirectory();
  const results = Array.from({ length: 8 }, () => run(program(dataDir, ending)));
  for (const result of results) check(result);
  return results.filter((result) => result.stdout.startsWith('admitted')).length;
}

describe('what a process has counted is written when it ends', { timeout: 120_000 }, () => {
  it('because its work is done', () => {
    expect(admitted('', (result) => expect(result).toMatchObject({ status: 0, signal: null, stderr: '' }))).toBe(3);
  });

  it('by process.exit', () => {
    const ending = 'setTimeout(() => process.exit(7), 1);';
    expect(admitted(ending, (result) => expect(result).toMatchObject({ status: 7, stderr: '' }))).toBe(3);
  });

  it('by process.exit in a listener for its end, which is still answered', () => {
    const ending = "process.on('exit', () => { limiter.peek({}); process.exit(5); });";
    expect(admitted(ending, (result) => expect(result).toMatchObject({ status: 5, stderr: '' }))).toBe(3);
  });

  it.for(["throw new Error('oops');", "setTimeout(() => { throw new Error('oops'); });", "Promise.reject(new Error('oops'));"])(
    'by an exception that nothing catches: %s',
    (ending) => {
      const check = (result: ReturnType<typeof run>): void => {
        expect(result.status).toBe(1);
        expect(result.stderr).toContain('oops');
      };
      expect(admitted(ending, check)).toBe(3);
    },
  );

  it('by a listener for the end that counts itself', () => {
    const dataDir = temporaryDirectory();
    run(program(dataDir, "process.on('exit', () => limiter.acquire({}));"));
    expect(run(program(dataDir, 'process.stdout.write(String((await limiter.counters().toArray())[0].value));')).stdout).toBe(
      'admitted3',
    );
  });

  it('while a worker uses it, or has opened its own', () => {
    const attached = `
      const worker = new Worker(
        "const { Limiter } = require('tallymesh'); const { workerData, parentPort } = require('node:worker_threads');" +
        "Limiter.attach(workerData); parentPort.postMessage(0); setInterval(() => {}, 1000);",
        { eval: true, execArgv: [], workerData: limiter.id });
      worker.on('message', () => process.exit(0));`;
    expect(admitted(attached, (result) => expect(result).toMatchObject({ status: 0, stderr: '' }))).toBe(3);

    const dataDir = temporaryDirectory();
    const own = `
      import { writeSync } from 'node:fs';
      import { Worker } from 'node:worker_threads';
      const worker = new Worker(
        "const { Limiter } = require('tallymesh'); const { workerData, parentPort } = require('node:worker_threads');" +
        "Limiter.open(workerData).then((limiter) => { parentPort.postMessage(limiter.acquire({}).allowed); setInterval(() => {}, 1000); });",
        { eval: true, execArgv: [], workerData: ${settings(dataDir)} });
      worker.on('message', (allowed) => { writeSync(1, allowed ? 'admitted' : 'denied'); END });`;
    const endings = ['process.exit(0);', 'worker.terminate();', "throw new Error('oops');"];
    const results = Array.from({ length: 8 }, (_, life) => run(own.replace('END', endings[life % 3] ?? '')));
    expect(results.filter((result) => result.stdout === 'admitted')).toHaveLength(3);
    expect(results.filter((result) => result.stdout === 'denied')).toHaveLength(5);
  });
});

describe('SIGTERM', { timeout: 120_000 }, () => {
  /** Starts it, sends SIGTERM once it has said that it waits, and resolves to how it ended and all that it said. */
  async function terminate(dataDir: string, ending: string): Promise<{ code: unknown; signal: unknown; said: string }> {
    const waiting = `${ending} writeSync(1, ' waiting'); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, args(program(dataDir, waiting)), {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.endsWith(' waiting')) child.kill('SIGTERM');
    });
    const [code, signal] = (await ended) as [unknown, unknown];
    return { code, signal, said };
  }

  it('ends a process that does not listen for it, when all is written', async () => {
    const dataDir = temporaryDirectory();
    for (let life = 0; life < 4; life += 1) {
      const { code, signal, said } = await terminate(dataDir, '');
      expect([code, signal, said]).toStrictEqual([null, 'SIGTERM', life < 3 ? 'admitted waiting' : 'denied waiting']);
    }
  });

  it('is left to a program that listens for it', async () => {
    const listeners = [
      "process.on('SIGTERM', () => { limiter.acquire({}); limiter.close().then(() => process.exit(9)); });",
      "process.once('SIGTERM', () => { limiter.acquire({}); setTimeout(() => process.exit(9), 50); });",
      "process.prependOnceListener('SIGTERM', () => { limiter.acquire({}); setTimeout(() => process.exit(9), 50); });",
      // As libraries do that end the process where nothing else listens.
      `const listener = () => {
         if (process.listeners('SIGTERM').length !== 1) return;
         limiter.acquire({});
         process.exit(9);
       };
       process.on('SIGTERM', listener);`,
    ];
    for (const listener of listeners) {
      const dataDir = temporaryDirectory();
      const { code, signal } = await terminate(dataDir, listener);
      expect([code, signal], listener).toStrictEqual([9, null]);
      expect(run(program(dataDir, 'process.stdout.write(String((await limiter.counters().toArray())[0].value));')).stdout).toBe(
        'admitted3',
      );
    }
  });

  it('is ours again when the last listener is gone', async () => {
    const dataDir = temporaryDirectory();
    const ending = "const listener = () => {}; process.on('SIGTERM', listener); process.off('SIGTERM', listener);";
    for (let life = 0; life < 4; life += 1) {
      const { signal, said } = await terminate(dataDir, ending);
      expect([signal, said]).toStrictEqual(['SIGTERM', life < 3 ? 'admitted waiting' : 'denied waiting']);
    }
  });

  it('and every listener of ours is gone once all is closed', () => {
    const counts =
      "writeSync(1, String(['SIGTERM', 'newListener', 'removeListener'].map((name) => process.listenerCount(name))));";
    const ending = `${counts} await limiter.close(); await limiter.close(); ${counts}`;
    expect(run(program(temporaryDirectory(), ending)).stdout).toMatch(/^admitted1,(\d+),(\d+)0,/);
  });
});

describe('a directory that is open', () => {
  const twice = "try { await Limiter.open(config); } catch (error) { writeSync(1, error.name + ' ' + error.message); }";

  it('is not opened again in the same process, not even by a worker', () => {
    const told = 'open in this process already: close it first, or attach';
    const here = run(program(temporaryDirectory(), twice)).stdout;
    expect(here).toContain('OpenError');
    expect(here).toContain(told);
    const worker = `
      new Worker(
        "const { Limiter } = require('tallymesh'); const { workerData, parentPort } = require('node:worker_threads');" +
        "Limiter.open(workerData).catch((error) => parentPort.postMessage(error.message));",
        { eval: true, execArgv: [], workerData: config }).on('message', (message) => writeSync(1, message));`;
    expect(run(program(temporaryDirectory(), worker)).stdout).toContain(told);
  });

  it('is held by another process for a child', () => {
    const child = `
      const { spawnSync } = await import('node:child_process');
      const text = "import { Limiter } from 'tallymesh'; await Limiter.open(" + JSON.stringify(config) + ").catch((e) => console.log(e.message));";
      writeSync(1, spawnSync(process.execPath, ['--input-type=module', '--eval', text], { encoding: 'utf8' }).stdout + process.pid);`;
    const said = run(program(temporaryDirectory(), child)).stdout;
    expect(said).toMatch(/held by another process \(process (\d+)\)[^]*\n\1$/);
  });
});
