import { describe, expect, it } from 'vitest';
import { ClosedError, Limiter, type CounterReport } from 'tallymesh';

import { inMemory, open } from './support.mjs';

const PER_SESSION = { name: 'calls', per: ['session'], max: 9, window: 'session' } as const;

async function withCounters(count: number): Promise<Limiter> {
  const limiter = await open(PER_SESSION);
  for (let session = 0; session < count; session += 1) limiter.acquire({ session: `s${session}` });
  return limiter;
}

describe('the listing of counters', () => {
  it('has each counter once, and leaves the event loop free between its pages', async () => {
    const limiter = await withCounters(100_000);
    let turns = 0;
    let listing = true;
    const turn = (): void => {
      turns += 1;
      if (listing) setImmediate(turn);
    };
    setImmediate(turn);
    const sessions = new Set<string>();
    let pages = 0;
    for await (const page of limiter.counters().pages()) {
      pages += 1;
      expect(page.length).toBeLessThanOrEqual(256);
      for (const { values } of page) sessions.add(values[0] ?? '');
    }
    listing = false;
    expect([sessions.size, pages]).toStrictEqual([100_000, Math.ceil(100_000 / 256)]);
    expect(turns).toBeGreaterThanOrEqual(pages - 1);
  });

  it('is one counter after the other, or an array of all', async () => {
    const limiter = await withCounters(600);
    const listed: CounterReport[] = [];
    for await (const counter of limiter.counters()) listed.push(counter);
    expect(listed.length).toBe(600);
    expect(await limiter.counters().toArray()).toStrictEqual(listed);
    expect(await (await open()).counters().toArray()).toStrictEqual([]);
  });

  it('may be left early, and listed again, and by several at once', async () => {
    const counters = (await withCounters(600)).counters();
    for await (const counter of counters) {
      expect(counter.value).toBe(1n);
      break;
    }
    const both = await Promise.all([counters.toArray(), counters.toArray()]);
    expect(both.map((all) => all.length)).toStrictEqual([600, 600]);
  });

  it('ends with an error when the limiter is closed, before or meanwhile', async () => {
    const limiter = await withCounters(600);
    const listing = limiter.counters();
    const pages = listing.pages();
    expect((await pages.next()).done).toBe(false);
    await limiter.close();
    await expect(pages.next()).rejects.toThrow(ClosedError);
    await expect(listing.toArray()).rejects.toThrow(ClosedError);
  });
});

it('the calls of a closed limiter do not reach one that was opened after it', async () => {
  const limit = { name: 'once', max: 1, window: '1h' } as const;
  const closed = await Limiter.open(inMemory(limit));
  await closed.close();
  const limiter = await open(limit);
  expect(() => closed.acquire({})).toThrow(ClosedError);
  await expect(closed.counters().toArray()).rejects.toThrow(ClosedError);
  expect(await limiter.counters().toArray()).toStrictEqual([]);
});
