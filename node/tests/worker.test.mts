import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

import { describe, expect, it } from 'vitest';
import { Limiter, type Receipt } from 'tallymesh';

import { open, temporaryDirectory } from './support.mjs';

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
