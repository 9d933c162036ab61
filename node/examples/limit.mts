// One limit: three bookings for each user, and the fourth is denied.
import assert from 'node:assert/strict';
import { Limiter } from 'tallymesh';

const limiter = await Limiter.open({
  node: { id: 'a' },
  storage: { inMemory: true },
  limits: [{ name: 'bookings per user', when: { tool: 'book_*' }, per: ['user'], max: 3, window: 'session' }],
});

const booking = { session: 's42', tool: 'book_service', user: 'u7' };
for (let call = 1; call <= 4; call++) {
  const decision = limiter.acquire(booking);
  console.log(call, decision.allowed ? 'allowed' : `denied: ${decision.reason}`);
}
assert(!limiter.acquire(booking).allowed);

// Another user has a count of their own, and the limit does not apply to another tool.
assert(limiter.acquire({ session: 's43', tool: 'book_service', user: 'u8' }).allowed);
assert(limiter.acquire({ session: 's42', tool: 'get_services', user: 'u7' }).allowed);

await limiter.close();
