import { setTimeout as pause } from 'node:timers/promises';

import { RateLimiterRes } from 'rate-limiter-flexible';
import { describe, expect, it } from 'vitest';
import { ConfigError, Limiter } from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';
import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';

import { inMemory, open } from './support.mjs';

const KEYS = Array.from({ length: 100 }, (_, key) => `k${key}`);
const WINDOW_MS = 97;

/** What a call came to: admitted, or told to wait for so many milliseconds. */
type Answer = true | number;

/** Uses all keys up, waits for each exactly as it was told, and asks once; returns how many were denied then. */
async function deniedAgain(rounds: number, ask: (key: string) => Answer | Promise<Answer>): Promise<number> {
  let denied = 0;
  for (let round = 0; round < rounds; round += 1) {
    const due: { key: string; moment: number }[] = [];
    for (const key of KEYS) {
      let answer = await ask(key);
      while (answer === true) answer = await ask(key);
      due.push({ key, moment: performance.now() + answer });
    }
    due.sort((one, other) => one.moment - other.moment);
    for (const { key, moment } of due) {
      const early = moment - performance.now() - 2;
      if (early > 0) await pause(early);
      while (performance.now() < moment);
      if ((await ask(key)) !== true) denied += 1;
    }
  }
  return denied;
}

function flexible(limiter: Limiter, blockDuration: number): (key: string) => Promise<Answer> {
  const limit = new RateLimiterTallymesh({ limiter, points: 1, duration: WINDOW_MS / 1000, blockDuration });
  return (key) =>
    limit.consume(key).then(
      () => true as const,
      (rejected: RateLimiterRes) => rejected.msBeforeNext,
    );
}

describe('who waits as told is admitted: of a thousand waits none is denied again', () => {
  it.each(['97ms', 'session'])('a limiter, window %s', async (window) => {
    const ttl = window === 'session' ? { sessionTtl: '97ms' } : {};
    const limiter = await open({ name: 'once', per: ['key'], max: 1, window, ...ttl });
    const ask = (key: string): Answer => {
      const { allowed, retryAfterMs } = limiter.acquire({ key });
      if (allowed) return true;
      expect(Number.isSafeInteger(retryAfterMs)).toBe(true);
      return retryAfterMs as number;
    };
    expect(await deniedAgain(10, ask)).toBe(0);
  });

  it('express-rate-limit', async () => {
    const store = new TallymeshStore({ limiter: await open() });
    store.init({ windowMs: WINDOW_MS });
    const ask = async (key: string): Promise<Answer> => {
      const { totalHits, resetTime } = await store.increment(key);
      return totalHits === 1 || (resetTime as Date).getTime() - Date.now();
    };
    expect(await deniedAgain(10, ask)).toBe(0);
  });

  it('rate-limiter-flexible', async () => {
    expect(await deniedAgain(10, flexible(await open(), 0))).toBe(0);
  });

  it('blocks of rate-limiter-flexible, which are up to a whole second', async () => {
    expect(await deniedAgain(3, flexible(await open(), 0.05))).toBe(0);
  });
});

describe('lengths of time', () => {
  it.each(['1month', '2 months', '1M', '1y', '1year', '2yrs'])('refuse %s, with what to write instead', async (text) => {
    const configs = [
      inMemory({ name: 'l', max: 1, window: text }),
      inMemory({ name: 'l', max: 1, window: 'session', sessionTtl: text }),
      { ...inMemory(), counters: { ttl: text } },
    ];
    for (const config of configs) {
      const refused = await Limiter.open(config).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(ConfigError);
      expect(String(refused)).toContain(text);
      expect(String(refused)).toContain('30d');
    }
  });
});

describe('a clock that is right', () => {
  it('is not behind', async () => {
    const limiter = await open();
    expect(limiter.health()).toMatchObject({ clockBehindMs: 0, reasons: [] });
  });
});
