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

const a = await Limiter.open(node('a', []));
const b = await Limiter.open(node('b', [a.address ?? '']));

const booking = { session: 's42', tool: 'book_service', user: 'u7' };
for (let call = 1; call <= 3; call++) assert(a.acquire(booking).allowed);
console.log('a allowed three calls');

// Each decides by itself, at once; what a counted is on its way to b for some milliseconds.
while (b.peek(booking).allowed) await pause(1);
assert(!b.acquire(booking).allowed);
console.log('b heard of them and denied the fourth');

await a.close();
await b.close();
