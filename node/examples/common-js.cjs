// A limiter at the top of a CommonJS module, which cannot wait: it is opened when it is first used.
const assert = require('node:assert/strict');
const { Limiter } = require('tallymesh');

const limits = [{ name: 'bookings', when: { tool: 'book_*' }, per: ['session'], max: 2, window: 'session' }];
const limiter = Limiter.lazy({ node: { id: 'a' }, storage: { inMemory: true }, limits });
const toolRateLimiterOf = limiter.toolRateLimiters({ limits: { search: { maxPerTurn: 1, maxPerSession: 10 } } });
assert.equal(limiter.state, 'unopened');

/** A tool in this module. */
const book = (session) => limiter.acquire({ session, tool: 'book_service' });

async function main() {
  // What decides at once cannot wait, so it is denied, and says what to do.
  const denied = book('s1');
  console.log(`before it is open: ${denied.reason}`);
  assert.equal(denied.cause, 'not-open');
  assert(!toolRateLimiterOf('s1').tryCall('search').allowed);
  // What returns a promise waits.
  assert((await limiter.acquireDurable({ session: 's1', tool: 'book_service' })).allowed);

  await limiter.open(); // where the program starts to listen, so that none is denied for that reason
  const answers = [book('s1'), book('s1'), book('s2')].map((decision) => decision.allowed);
  console.log(`once it is open: ${answers.join(', ')}`);
  assert.deepEqual(answers, [true, false, true]);
  assert.deepEqual(toolRateLimiterOf('s1').tryCall('search'), { allowed: true });
  await limiter.close();
}

void main();
