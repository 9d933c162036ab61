// Tokens instead of calls: a request has a cost, under a limit for the user and one for all users together.
import assert from 'node:assert/strict';
import { Limiter } from 'tallymesh';

const limiter = await Limiter.open({
  node: { id: 'a' },
  storage: { inMemory: true },
  limits: [
    { name: 'tokens per user', per: ['user'], max: 10_000, window: 'session' },
    { name: 'tokens in total', max: 15_000, window: 'session' },
  ],
});

const prompts: [user: string, tokens: number, expected: boolean][] = [
  ['u7', 9_000, true],
  ['u7', 2_000, false], // 1,000 are left for this user; nothing was charged.
  ['u7', 1_000, true],
  ['u8', 6_000, false], // 5,000 are left in total.
  ['u8', 5_000, true],
];
for (const [user, cost, expected] of prompts) {
  const decision = limiter.acquire({ user, cost });
  assert.equal(decision.allowed, expected);
  console.log(`${user} ${cost}:`, decision.allowed ? 'allowed' : `denied: ${decision.reason}`);
}

await limiter.close();
