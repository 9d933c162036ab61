// A session's meter: finds the counters of a session's tools once, then decides in half of the time.
import assert from 'node:assert/strict';
import { Limiter } from 'tallymesh';

const limiter = await Limiter.open({ node: { id: 'a' }, storage: { inMemory: true } });

const limits = { search: { maxPerTurn: 60, maxPerSession: 100 }, book_service: { maxPerTurn: 1, maxPerSession: 3 } };
const session = limiter.toolRateLimiter({ session: 's42', limits });
let allowed = 0;
let answer = session.tryCall('search');
while (answer.allowed) {
  allowed += 1;
  if (allowed === 60) session.resetTurn();
  answer = session.tryCall('search');
}
console.log(`search: ${allowed} allowed, then denied: ${answer.reason}`);
assert.equal(allowed, 100);
assert(session.canCall('book_service').allowed);

await limiter.close();
