import { describe, expect, it } from 'vitest';
import { ClosedError, InvalidInputError, Limiter, type CountedReport } from 'tallymesh';

import { open } from './support.mjs';

const PER_SESSION = { name: 'calls', per: ['session'], max: 9, window: 'session' } as const;

async function withCounts(): Promise<Limiter> {
  const limiter = await open(PER_SESSION);
  for (const [session, cost] of [
    ['s1', 1],
    ['s2', 5],
    ['t1', 3],
  ] as const)
    limiter.acquire({ session, cost }).orThrow();
  return limiter;
}

const sessions = (counters: readonly CountedReport[]): string[] => counters.map(({ labels }) => labels['session'] ?? '');

describe('counters by pattern', () => {
  it('are listed in order, with their limit', async () => {
    const limiter = await withCounts();
    const { counters, found, visited, next } = limiter.page();
    expect([sessions(counters), found, visited, next]).toStrictEqual([['s2', 't1', 's1'], 3, 3, undefined]);
    expect(counters[0]).toMatchObject({ limit: 'calls', values: ['s2'], value: 5n, max: 9, generation: 0, cells: 1 });
    expect(counters[0]?.lastUse).toBeGreaterThan(0);
    expect(JSON.parse(JSON.stringify(counters[0]))).toMatchObject({ value: '5', labels: { session: 's2' } });
    expect(sessions(limiter.page({ labels: { session: 's*' }, sort: 'name' }).counters)).toStrictEqual(['s1', 's2']);
    expect(sessions(limiter.page({ limit: 'ca*', max: 1, sort: 'value' }).counters)).toStrictEqual(['s2']);
    expect(limiter.page({ limit: 'other' }).counters).toStrictEqual([]);
  });

  it('are explained, cell by cell', async () => {
    const limiter = await withCounts();
    const { counters, crossings } = limiter.explain({ labels: { session: 's2' } });
    expect(crossings).toStrictEqual([]);
    expect(counters.map(({ byReplica }) => byReplica)).toMatchObject([
      [{ replica: limiter.status().replica, p: 5, n: 0, broughtBy: [], updatesByOthers: 0 }],
    ]);
  });

  it('are reset, and all of them only where that is said', async () => {
    const limiter = await withCounts();
    expect(limiter.resetSelected({ labels: { session: 's?' } })).toBe(2);
    expect(limiter.page({ sort: 'value', max: 1 }).counters[0]?.value).toBe(3n);
    expect(() => limiter.resetSelected({})).toThrow(InvalidInputError);
    expect(limiter.resetSelected({ limit: '*' })).toBe(3);
  });

  it('cannot be asked for by what is no pattern, number or place, or of a closed limiter', async () => {
    const limiter = await withCounts();
    expect(() => limiter.page({ max: 1001 })).toThrow('max is 1001: give a whole number from 1 to 1000');
    expect(() => limiter.page({ sort: 'size' as 'used' })).toThrow(InvalidInputError);
    expect(() => limiter.page({ after: 'here' })).toThrow(InvalidInputError);
    expect(() => limiter.explain({ limit: 7 as never })).toThrow(InvalidInputError);
    await limiter.close();
    expect(() => limiter.page()).toThrow(ClosedError);
  });
});
