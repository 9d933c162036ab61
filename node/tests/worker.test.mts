import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

import { describe, expect, it } from 'vitest';
import { Limiter, type Receipt } from 'tallymesh';

import { inMemory, open, temporaryDirectory } from './support.mjs';

const directory = fileURLToPath(new URL('..', import.meta.url));

const LIMIT = { name: 'calls', per: ['session'], max: 1000, window: 'session' } as const;

const IMPORTS = `
  const { Limiter } = require('tallymesh');
  const { parentPort, workerData } = require('node:worker_threads');`;

/** Runs a program in a worker, and resolves to what it posts. */
async function inWorker(program: string, workerData: unknown): Promise<unknown> {
  const worker = new Worker(`${IMPORTS} (async () => { ${program} })()`, { eval: true, workerData });
  const posted = once(worker, 'message');
  const ended = once(worker, 'exit');
  const [answer] = (await Promise.race([posted, ended.then(([code]) => [new Error(`ended with ${code}`)])])) as [unknown];
  if (answer instanceof Error) throw answer;
  expect(await ended).toStrictEqual([0]);
  return answer;
}

describe('worker threads', () => {
  it('share one limiter, and admit no more than it allows', async () => {
    const limiter = await open(LIMIT);
    const program = `
      const limiter = Limiter.attach(workerData);
      const tools = limiter.toolRateLimiter({ session: 's', limits: { tool: { maxPerTurn: 1e9, maxPerSession: 1000 } } });
      let calls = 0, acquired = 0;
      for (let call = 0; call < 600; call += 1) {
        if (limiter.acquire({ session: 's' }).allowed) acquired += 1;
        if (tools.tryCall('tool').allowed) calls += 1;
      }
      parentPort.postMessage([calls, acquired]);`;
    const counts = (await Promise.all([1, 2, 3, 4].map(() => inWorker(program, limiter.id)))) as [number, number][];
    expect(counts.reduce((sum, [calls]) => sum + calls, 0)).toBe(1000);
    expect(counts.reduce((sum, [, acquired]) => sum + acquired, 0)).toBe(1000);
    expect(limiter.acquire({ session: 's' }).allowed).toBe(false);
  });

  it('may open one of their own, which ends with them', async () => {
    const config = { node: { id: 'a', dataDir: temporaryDirectory() }, limits: [LIMIT] };
    const program = `
      const limiter = await Limiter.open(workerData);
      parentPort.postMessage(limiter.acquire({ session: 's' }).remaining);
      await limiter.flush();`;
    expect(await inWorker(program, config)).toBe(999);

    // The worker never closed it: its directory is free all the same, as soon as its threads have ended.
    const opened = await openAtLast(config);
    expect(opened.acquire({ session: 's' }).remaining).toBe(998);
    await opened.close();
  });

  it('refund their own receipts only', async () => {
    const limiter = await open(LIMIT);
    const here = limiter.acquire({ session: 's' }).orThrow().receipt;
    const program = `
      const limiter = Limiter.attach(workerData.id);
      const { receipt } = limiter.acquire({ session: 's' }), own = limiter.acquire({ session: 's' }).receipt;
      limiter.refund(own);
      try { limiter.refund(workerData.here); } catch (error) { parentPort.postMessage([error.name, error.code, receipt]); }`;
    const [name, code, there] = (await inWorker(program, { id: limiter.id, here })) as [string, string, Receipt];
    expect([name, code]).toStrictEqual(['RefundError', 'OTHER_THREAD']);
    expect(() => limiter.refund(there)).toThrow(expect.objectContaining({ code: 'OTHER_THREAD' }));
    limiter.refund(here);
    expect((await limiter.counters().toArray())[0]?.value).toBe(1n);
  });

  it('are told when the limiter is closed', async () => {
    const limiter = await Limiter.open({ node: { id: 'a' }, storage: { inMemory: true }, limits: [LIMIT] });
    const program = `
      const limiter = Limiter.attach(workerData.id);
      const state = new Int32Array(workerData.state);
      limiter.acquire({ session: 's' });
      Atomics.store(state, 0, 1); Atomics.notify(state, 0);
      Atomics.wait(state, 0, 1);
      try { limiter.acquire({ session: 's' }); } catch (error) { parentPort.postMessage(error.code); }`;
    const state = new SharedArrayBuffer(4);
    const attached = new Int32Array(state);
    const answer = inWorker(program, { id: limiter.id, state });
    const waiting = Atomics.waitAsync(attached, 0, 0);
    if (waiting.async) await waiting.value;
    await limiter.close();
    Atomics.store(attached, 0, 2);
    Atomics.notify(attached, 0);
    expect(await answer).toBe('TALLYMESH_CLOSED');
  });

  it('are handed decisions, errors and configs whole, and of an error its text', async () => {
    const program = `
      const { config, wrong } = workerData;
      const limiter = await Limiter.open(config);
      const error = await Limiter.open(wrong).catch((error) => error);
      limiter.acquire({ session: 's' });
      const denial = limiter.acquire({ session: 's' });
      const thrown = (() => { try { denial.orThrow(); } catch (error) { return error; } })();
      const allowed = limiter.acquire({ session: 't' });
      const [counters, status] = [await limiter.counters().toArray(), limiter.status()];
      parentPort.postMessage({
        error, json: error.toJSON(), thrown: thrown.toJSON(), denial, allowed, config, counters, status,
      });
      await limiter.close();`;
    const config = inMemory({ ...LIMIT, max: 1 });
    const wrong = inMemory({ ...LIMIT, window: 60 as never });
    const posted = (await inWorker(program, { config, wrong })) as Record<string, Record<string, unknown>>;
    const window = expect.stringContaining('config.limits[0].window is 60') as string;
    expect(posted['error']).toBeInstanceOf(Error);
    expect(posted['error']).toMatchObject({ message: window, stack: expect.stringMatching(/^ConfigError: config.limits/) });
    // A structured clone keeps neither class nor fields of an error: its JSON is sent for that.
    expect(posted['error']).not.toHaveProperty('code');
    expect(posted['json']).toStrictEqual({ name: 'ConfigError', code: 'TALLYMESH_CONFIG', message: window });
    const denied = { reason: expect.stringContaining('limit "calls" of 1 reached'), cause: 'limit-reached', limit: 'calls' };
    expect(posted['thrown']).toMatchObject({ name: 'DeniedError', code: 'TALLYMESH_DENIED', ...denied });
    expect(posted['denial']).toMatchObject({ allowed: false, remaining: 0, ...denied });
    expect(posted['allowed']).toMatchObject({ allowed: true, receipt: expect.stringMatching(/^\w+-\d+-\d+$/) });
    expect(posted['config']).toStrictEqual(config);
    expect(posted['counters']).toMatchObject([{ limit: 'calls', value: 1n }, { value: 1n }]);
    expect(posted['status']).toMatchObject({ health: { state: 'running' }, counters: 2 });
  });

  it('load the package at one time, many of them, each with a limiter of its own', async () => {
    const program = `
      const limiter = await Limiter.open(workerData);
      const first = limiter.acquire({ session: 's' }), second = limiter.acquire({ session: 's' });
      const error = await Limiter.open({ ...workerData, gosip: {} }).catch((error) => error);
      await limiter.close();
      parentPort.postMessage([first.allowed, second.allowed, error.code]);`;
    const config = inMemory({ ...LIMIT, max: 1 });
    const answers = await Promise.all(Array.from({ length: 8 }, () => inWorker(program, config)));
    for (const answer of answers) expect(answer).toStrictEqual([true, false, 'TALLYMESH_CONFIG']);
  });

  it.each([
    ['the main thread ends the process', 'process.exit(0)', 'parentPort.ref()'],
    ['the worker ends itself', '', "parentPort.once('message', () => process.exit(0))"],
    ['both are done', '', ''],
    ['the worker is terminated', 'worker.terminate()', 'parentPort.ref()'],
  ])('have what they have counted written when %s, as the main thread has', (_what, inMain, inWorker) => {
    const [dataDir, workers] = [temporaryDirectory(), temporaryDirectory()];
    const settings = (directory: string) =>
      JSON.stringify({
        node: { id: 'a', dataDir: directory },
        storage: { persistEvery: '1m' },
        limits: [{ ...LIMIT, max: 1 }],
      });
    const worker = `
      ${IMPORTS}
      (async () => {
        const limiter = await Limiter.open(${settings(workers)});
        ${inWorker};
        parentPort.postMessage(limiter.acquire({ session: 's' }).allowed);
      })();`;
    const program = `
      const { Worker } = require('node:worker_threads');
      const { Limiter } = require('tallymesh');
      (async () => {
        const limiter = await Limiter.open(${settings(dataDir)});
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
        worker.once('message', (allowed) => {
          process.stdout.write(JSON.stringify([limiter.acquire({ session: 's' }).allowed, allowed]), () => {
            worker.postMessage('end');
            ${inMain};
          });
        });
      })();`;
    const run = () => spawnSync(process.execPath, ['--eval', program], { cwd: directory, encoding: 'utf8', timeout: 20_000 });
    for (const admitted of [true, false]) {
      expect(run()).toMatchObject({ status: 0, stderr: '', stdout: JSON.stringify([admitted, admitted]) });
    }
  });

  it('can be ended in the middle of things', async () => {
    const limiter = await open(LIMIT);
    const program = `
      ${IMPORTS}
      const limiter = Limiter.attach(workerData);
      parentPort.postMessage('running');
      for (;;) {
        limiter.acquire({ session: 's' });
        limiter.flush().catch(() => {});
        limiter.toolRateLimiter({ session: 's' }).tryCall('t');
      }`;
    const workers = [1, 2, 3].map(() => new Worker(program, { eval: true, workerData: limiter.id }));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    await Promise.all(workers.map((worker) => worker.terminate()));
    expect(limiter.peek({ session: 'other' }).allowed).toBe(true);
  });
});

async function openAtLast(config: Parameters<typeof Limiter.open>[0]): Promise<Limiter> {
  const end = Date.now() + 20_000;
  for (;;) {
    try {
      return await Limiter.open(config);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}
