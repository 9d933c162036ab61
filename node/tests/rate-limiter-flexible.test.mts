import * as flexible from 'rate-limiter-flexible';
import { BurstyRateLimiter, RateLimiterMemory, RateLimiterRes, RateLimiterUnion } from 'rate-limiter-flexible';
import { describe, expect, it } from 'vitest';
import { InvalidInputError, Limiter } from 'tallymesh';
import { RateLimiterTallymesh, type RateLimiterTallymeshOptions } from 'tallymesh/rate-limiter-flexible';

import { inMemory, open, until } from './support.mjs';

const HOUR = 3600;
/** No window of it ends within a test, but once in 20 days. */
const LONG = 20 * 24 * HOUR;

async function make(options: Partial<RateLimiterTallymeshOptions> = {}): Promise<RateLimiterTallymesh> {
  return new RateLimiterTallymesh({ limiter: await open(), points: 3, duration: HOUR, ...options });
}

async function rejection(promise: Promise<unknown>): Promise<RateLimiterRes> {
  const reason = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(reason).toBeInstanceOf(RateLimiterRes);
  return reason as RateLimiterRes;
}

describe('a limiter of rate-limiter-flexible', () => {
  it('is one', async () => {
    const { RateLimiterCompatibleAbstract = Object.getPrototypeOf(RateLimiterMemory) } = flexible;
    expect(await make()).toBeInstanceOf(RateLimiterCompatibleAbstract);
  });

  it('is tested with the version that is meant', () => {
    // It came after the oldest version.
    expect('RateLimiterCompatibleAbstract' in flexible).toBe(process.env['TALLYMESH_TEST_PEERS'] !== 'oldest');
  });

  it('answers as the one in memory does', async () => {
    const ours = await make();
    const theirs = new RateLimiterMemory({ points: 3, duration: HOUR });
    const steps: ((limiter: RateLimiterTallymesh | RateLimiterMemory) => Promise<unknown>)[] = [
      (limiter) => limiter.get('k'),
      (limiter) => limiter.consume('k'),
      (limiter) => limiter.consume('k', 2),
      (limiter) => limiter.consume('k'),
      (limiter) => limiter.get('k'),
      (limiter) => limiter.reward('k', 3),
      (limiter) => limiter.consume('k'),
      (limiter) => limiter.penalty('k', 5),
      (limiter) => limiter.consume('k'),
      (limiter) => limiter.consume(7),
      (limiter) => limiter.delete('k'),
      (limiter) => limiter.delete('k'),
      (limiter) => limiter.get('k'),
      (limiter) => limiter.consume('k', 4),
    ];
    const outcome = async (promise: Promise<unknown>) => {
      const [rejected, value] = await promise.then(
        (value) => [false, value] as const,
        (value: unknown) => [true, value] as const,
      );
      if (!(value instanceof RateLimiterRes)) return { rejected, value };
      const { remainingPoints, consumedPoints, isFirstInDuration } = value;
      expect(value.msBeforeNext).toBeGreaterThan(0);
      expect(value.msBeforeNext).toBeLessThanOrEqual(HOUR * 1000);
      return { rejected, remainingPoints, consumedPoints, isFirstInDuration };
    };
    for (const [place, step] of steps.entries()) {
      expect([place, await outcome(step(ours))]).toStrictEqual([place, await outcome(step(theirs))]);
    }
  });

  it('gives back what was consumed and no more, and says how much', async () => {
    const limiter = await make();
    expect(await limiter.reward('k', 5)).toMatchObject({ rewardedPoints: 0, consumedPoints: 0, remainingPoints: 3 });
    await limiter.consume('k', 2);
    expect(await limiter.reward('k', 100)).toMatchObject({ rewardedPoints: 2, consumedPoints: 0, remainingPoints: 3 });
    let admitted = 0;
    while (admitted < 200) {
      const consumed = await limiter.consume('k').then(
        () => true,
        () => false,
      );
      if (!consumed) break;
      admitted += 1;
    }
    expect(admitted).toBe(3);
  });

  it('blocks a key for as long as it is told', async () => {
    const limiter = await make();
    await limiter.consume('k');
    expect(await limiter.block('k', 10)).toMatchObject({ remainingPoints: 0, consumedPoints: 4 });
    const rejected = await rejection(limiter.consume('k'));
    expect(rejected.msBeforeNext).toBeGreaterThan(9_000);
    expect(rejected.msBeforeNext).toBeLessThanOrEqual(11_000);
    expect(await limiter.get('k')).toMatchObject({ remainingPoints: 0, consumedPoints: 4 });
    await expect(limiter.consume('other')).resolves.toBeInstanceOf(RateLimiterRes);
    expect(await limiter.delete('k')).toBe(true);
    expect((await limiter.consume('k')).consumedPoints).toBe(1);
  });

  it('adds blocks at once up to the longest, not to their sum', async () => {
    const limiter = await make();
    for (const seconds of [100, 7, 1000, 100]) await limiter.block('k', seconds);
    const { msBeforeNext } = await rejection(limiter.consume('k'));
    expect(msBeforeNext).toBeGreaterThan(998_000);
    expect(msBeforeNext).toBeLessThanOrEqual(1_001_000);
    expect(await limiter.delete('k')).toBe(true);
    expect(await limiter.get('k')).toBeNull();
  });

  it('lets a key start from 0 after its block', async () => {
    const limiter = await make({ blockDuration: 0.2 });
    for (let call = 0; call < 3; call += 1) await limiter.consume('k');
    expect(await rejection(limiter.consume('k'))).toMatchObject({ remainingPoints: 0, consumedPoints: 4 });
    await until('the block is over', async () => (await limiter.get('k')) === null);
    expect(await limiter.consume('k')).toMatchObject({ consumedPoints: 1, isFirstInDuration: true });
  });

  it('blocks where the one in memory does, and not again', async () => {
    const limiters = [
      await make({ duration: LONG, blockDuration: 10 }),
      new RateLimiterMemory({ points: 3, duration: LONG, blockDuration: 10 }),
    ] as const;
    const blocked = async (key: string, points?: number) => {
      const waits = [];
      for (const limiter of limiters) waits.push((await rejection(limiter.consume(key, points))).msBeforeNext <= 11_000);
      expect(waits[0]).toBe(waits[1]);
      return waits[0];
    };
    for (const limiter of limiters) await limiter.penalty('fined', 4);
    expect(await blocked('fined')).toBe(false);
    for (const limiter of limiters) await limiter.consume('greedy', 3);
    expect([await blocked('greedy'), await blocked('greedy')]).toStrictEqual([true, true]);
    expect(await blocked('too many at once', 9)).toBe(true);
  });

  it('blocks from `blockOnConsumed` on, if that is more than `points`', async () => {
    const limiter = await make({ blockDuration: 10, blockOnConsumed: 5 });
    await limiter.consume('k', 3);
    expect((await rejection(limiter.consume('k'))).msBeforeNext).toBeGreaterThan(0);
    expect(await limiter.get('k')).toMatchObject({ consumedPoints: 4 });
    expect(await rejection(limiter.consume('k'))).toMatchObject({ consumedPoints: 5 });
    expect((await limiter.get('k'))?.msBeforeNext).toBeLessThanOrEqual(11_000);
  });

  it('changes nothing by a penalty or a reward while a key is blocked, and ends the block by a set', async () => {
    const limiter = await make();
    await limiter.block('k', 60);
    expect(await limiter.penalty('k', 2)).toMatchObject({ remainingPoints: 0, consumedPoints: 4 });
    expect(await limiter.reward('k', 9)).toMatchObject({ rewardedPoints: 0, remainingPoints: 0 });
    await rejection(limiter.consume('k'));
    expect(await limiter.set('k', 1)).toMatchObject({ consumedPoints: 1, remainingPoints: 2 });
    expect(await limiter.consume('k')).toMatchObject({ consumedPoints: 2 });
  });

  it('refuses a duration for one key, unless it is that of all', async () => {
    const limiter = await make();
    for (const ask of ['consume', 'penalty', 'reward'] as const) {
      await expect(limiter[ask]('k', 1, { customDuration: 5 })).rejects.toThrow(
        /^customDuration is 5, .*: make another limiter/,
      );
      await expect(limiter[ask]('k', 0, { customDuration: HOUR })).resolves.toBeInstanceOf(RateLimiterRes);
    }
  });

  it('refuses each option that it does not have, by its name', async () => {
    const limiter = await open();
    const options = (more: object) => ({ limiter, points: 3, duration: HOUR, ...more }) as RateLimiterTallymeshOptions;
    const theirs = { insuranceLimiter: new RateLimiterMemory({ points: 1, duration: 1 }), inMemoryBlockOnConsumed: 5 };
    for (const [option, value] of Object.entries({ ...theirs, inMemoryBlockDuration: 5, storeClient: {}, tableName: 't' })) {
      const make = () => new RateLimiterTallymesh(options({ [option]: value }));
      expect(make).toThrow(InvalidInputError);
      expect(make).toThrow(new RegExp(`^${option} is no option of RateLimiterTallymesh: `));
    }
    expect(() => new RateLimiterTallymesh(options({ blokDuration: 5 }))).toThrow(/; is blockDuration meant\?$/);
    expect(() => new RateLimiterTallymesh(options({ somethingElse: 5 }))).toThrow(/those are limiter, points, .*MinDelayMs$/);
    expect(() => new RateLimiterTallymesh(options({ blockOnConsumed: 2 }))).toThrow(/blockOnConsumed is 2: .* from 3 to/);
  });

  it('has what the package reads of a limiter', async () => {
    const limiter = await make({ blockDuration: 2, keyPrefix: 'p' });
    const theirs = new RateLimiterMemory({ points: 3, duration: HOUR, blockDuration: 2, keyPrefix: 'p' });
    for (const name of ['points', 'duration', 'msDuration', 'blockDuration', 'msBlockDuration', 'keyPrefix'] as const) {
      expect(limiter[name]).toBe(theirs[name]);
    }
    for (const name of ['execEvenly', 'execEvenlyMinDelayMs'] as const) expect(limiter[name]).toBe(theirs[name]);
    expect([limiter.getKey(7), limiter.parseKey('p:7')]).toStrictEqual([theirs.getKey(7), '7']);
    const queue = new flexible.RateLimiterQueue(limiter as never);
    expect([await queue.removeTokens(2), await queue.getTokensRemaining()]).toStrictEqual([1, 1]);
  });

  it('sets points', async () => {
    const limiter = await make();
    await limiter.consume('k', 3);
    expect(await limiter.set('k', 1)).toMatchObject({ consumedPoints: 1, remainingPoints: 2 });
    expect(await limiter.set('k', 2, HOUR)).toMatchObject({ consumedPoints: 2, remainingPoints: 1 });
    await expect(limiter.set('k', 1, 5)).rejects.toThrow(/secDuration is 5: give the limiter's duration of 3600/);
  });

  it('never forgets within a duration of 0', async () => {
    const limiter = await make({ duration: 0 });
    expect((await limiter.consume('k')).msBeforeNext).toBe(-1);
    expect(await limiter.get('k')).toMatchObject({ consumedPoints: 1, msBeforeNext: -1 });
  });

  it('begins anew with each window', async () => {
    const limiter = await make({ duration: 0.05 });
    await limiter.consume('k', 3);
    await until('the window is over', async () => (await limiter.get('k')) === null);
    await limiter.consume('k', 3);
  });

  it('spreads calls evenly when asked to', async () => {
    const limiter = await make({ points: 100_000, execEvenly: true, execEvenlyMinDelayMs: 30 });
    const start = performance.now();
    expect(await limiter.consume('k')).toMatchObject({ isFirstInDuration: true });
    const atOnce = performance.now() - start;
    expect(await limiter.consume('k')).toMatchObject({ consumedPoints: 2, isFirstInDuration: false });
    expect(performance.now() - start - atOnce).toBeGreaterThan(29);
  });

  it('counts over all instances', async () => {
    await using a = await Limiter.open({
      ...inMemory(),
      node: { id: 'a' },
      gossip: { listen: '127.0.0.1:0', interval: '5ms' },
    });
    await using b = await Limiter.open({ ...inMemory(), node: { id: 'b' }, gossip: { peers: [a.address ?? ''] } });
    await until(
      'they are connected',
      () => b.peers().some((peer) => peer.connected) && a.peers().some((peer) => peer.connected),
    );
    const here = new RateLimiterTallymesh({ limiter: a, points: 3, duration: HOUR });
    const there = new RateLimiterTallymesh({ limiter: b, points: 3, duration: HOUR });
    await here.consume('k', 3);
    await until('the other knows', async () => (await there.get('k'))?.consumedPoints === 3);
    await rejection(there.consume('k'));
    await here.block('l', 60);
    await until('the other knows of the block', async () => (await there.get('l')) !== null);
    await rejection(there.consume('l'));
  });

  it('blocks for as long as it was told, whatever `counters.ttl` says', async () => {
    await using limiter = await Limiter.open({ ...inMemory(), counters: { ttl: '2s' } });
    const blocking = new RateLimiterTallymesh({ limiter, points: 1, duration: HOUR });
    const { msBeforeNext } = await blocking.block('k', 12);
    expect(msBeforeNext).toBeGreaterThan(11_000);
    const marks = (await limiter.counters().toArray()).filter(({ limit }) => limit === 'rate-limiter-flexible block');
    expect(marks.length).toBeGreaterThan(0);
    for (const { values, expiresAt } of marks) {
      const [level = 0, index = 0] = values.slice(2).map(Number);
      expect(expiresAt).toBeGreaterThanOrEqual((index + 1) * 2 ** level * 1000);
    }
  });

  it("works within the package's own combinations", async () => {
    const limiter = await open();
    const second = new RateLimiterTallymesh({ limiter, keyPrefix: 'second', points: 1, duration: HOUR });
    const hour = new RateLimiterTallymesh({ limiter, keyPrefix: 'hour', points: 3, duration: HOUR });
    const union = new RateLimiterUnion(second, hour);
    expect(Object.keys(await union.consume('k'))).toStrictEqual(['second', 'hour']);
    await expect(union.consume('k')).rejects.toHaveProperty('second');
    const bursty = new BurstyRateLimiter(second, hour);
    await expect(bursty.consume('k')).resolves.toBeInstanceOf(RateLimiterRes);
  });

  it('refuses what it cannot use', async () => {
    const limiter = await make();
    for (const key of ['', 'a\0b', '\ud800', null as never, {} as never])
      await expect(limiter.consume(key)).rejects.toThrow(InvalidInputError);
    for (const points of [-1, 0.5, NaN, Infinity, 2 ** 53, '1' as never]) {
      await expect(limiter.consume('k', points)).rejects.toThrow(InvalidInputError);
      await expect(limiter.set('k', points)).rejects.toThrow(InvalidInputError);
    }
    for (const seconds of [0, -1, NaN, Infinity, '1' as never])
      await expect(limiter.block('k', seconds)).rejects.toThrow(InvalidInputError);
    await expect(limiter.consume('k', 1, { customDuration: 5 })).rejects.toThrow(/customDuration cannot be kept/);
    await expect(make({ points: -1 })).rejects.toThrow(InvalidInputError);
    await expect(make({ duration: 1e-9 })).rejects.toThrow(/duration is 1e-9/);
    await expect(make({ blockDuration: -1 })).rejects.toThrow(/blockDuration/);
    await expect(make({ limiter: 5 as never })).rejects.toThrow(/the limiter is 5/);
  });
});
