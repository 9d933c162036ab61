import { rateLimit } from 'express-rate-limit';
import { Limiter, type Config, type Decision, type DenialCause, type LimiterSource, type ToolRateLimits } from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';
import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';

const config: Config = {
  node: { id: 'a' },
  storage: { inMemory: true },
  limits: [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }],
};

export async function main(): Promise<void> {
  const limiter = await Limiter.open(config);
  const answers: Decision[] = [1, 2].map(() => limiter.acquire({ session: 's1' }));
  const second = answers[1];
  if (second && !second.allowed) console.log(`denied the second call: ${second.cause satisfies DenialCause | undefined}`);
  rateLimit({ windowMs: 60_000, limit: 100, store: new TallymeshStore({ limiter, prefix: 'api' }) });
  new RateLimiterTallymesh({ limiter, keyPrefix: 'login', points: 5, duration: 60 });
  const limits: ToolRateLimits = { book: { maxPerTurn: 1, maxPerSession: 1 } };
  limiter.toolRateLimiter({ session: 's1', limits });
  await limiter.close();

  const lazy = Limiter.lazy(config);
  const source: LimiterSource = lazy;
  new TallymeshStore({ limiter: source });
  const denied: Promise<Decision> = lazy.withLabels({ session: 's2' }, async () => lazy.acquire({ tool: 'book' }));
  if (!(await denied).allowed) await lazy.close();
}

// @ts-expect-error: the types are found, and are not `any`
export const bad: Config = { nodes: { id: 'a' } };
