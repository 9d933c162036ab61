// Two nodes under one limit. Here they are in one process; usually each is in an instance of your server.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { Limiter, type Config } from 'tallymesh';

function node(id: string, peers: string[]): Config {
  return {
    node: { id },
    storage: { inMemory: true },
    // Port 0 is any free port; in production each node names its own, and the others in `peers`.
    gossip: { listen: '127.0.0.1:0', peers },
    limits: [{ name: 'bookings per user', per: ['user'], max: 3, window: 'session' }],
  };
}

const booking = { session: 's42', tool: 'book_service', user: 'u7' };
const a = await Limiter.open(node('a', []));
assert(a.acquire(booking).allowed);
assert(a.acquire(booking).allowed);

// A node that starts hears what the others know before its first decision.
assert(a.address !== undefined);
const b = await Limiter.open(node('b', [a.address]));
assert(b.acquire(booking).allowed);
assert(!b.acquire(booking).allowed);
console.log('b allowed the third call and denied the fourth');

while (a.peek(booking).allowed) await pause(1);
assert(!a.acquire(booking).allowed);
console.log('a heard of it and denies too');

await a.close();
await b.close();
