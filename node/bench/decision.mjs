// Nanoseconds per call, beside an empty native call and an increment in a Map, all in one run.
import { createRequire } from 'node:module';

import { Limiter, ToolRateLimiter } from 'tallymesh';

const { native } = createRequire(import.meta.url)('../dist/native.js');

const SESSIONS = 10_000;
const CALLS = 100_000;
const ROUNDS = 9;
const TOOLS = ['get_services', 'check_availability', 'book_service', 'get_business_info'];
const ROOMY = Object.fromEntries(TOOLS.map((tool) => [tool, { maxPerTurn: 1e12, maxPerSession: 1e12 }]));

const limiter = await Limiter.open({
  node: { id: 'bench' },
  storage: { inMemory: true },
  counters: { maxCounters: 10_000_000 },
  limits: [
    { name: 'calls per session', per: ['session', 'tool'], max: 1e12, window: 'session' },
    { name: 'no booking', when: { tool: 'denied' }, per: ['session'], max: 0, window: 'session' },
  ],
});

const sessions = Array.from({ length: SESSIONS }, (_, number) => `session-${(number * 2654435761) % 2 ** 32}`);
const shared = sessions.slice(0, 1000).map((session) => limiter.toolRateLimiter({ session, limits: ROOMY }));
const alone = sessions.slice(0, 1000).map(() => new ToolRateLimiter(ROOMY));
const counts = new Map();

/** One call of each kind: the number of the call, and what it asks. */
const kinds = {
  'empty native call': () => native.lastRemaining(),
  // What a request brings is new text, which has to be hashed: here the session and the tool.
  'Map increment': (call) => {
    const key = `${sessions[call % SESSIONS]}:${TOOLS[call % 4]}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  },
  'Map increment, by a text at hand': (call) => {
    const key = sessions[call % SESSIONS];
    counts.set(key, (counts.get(key) ?? 0) + 1);
  },
  'tryCall, with the store': (call) => shared[call % 1000].tryCall(TOOLS[call % 4]),
  'canCall, with the store': (call) => shared[call % 1000].canCall(TOOLS[call % 4]),
  'recordCall, with the store': (call) => shared[call % 1000].recordCall(TOOLS[call % 4]),
  'tryCall, in memory': (call) => alone[call % 1000].tryCall(TOOLS[call % 4]),
  'limiter.acquire, session and tool': (call) => limiter.acquire({ session: sessions[call % SESSIONS], tool: TOOLS[call % 4] }),
  'limiter.acquire, with user and cost': (call) =>
    limiter.acquire({ session: sessions[call % SESSIONS], tool: TOOLS[call % 4], user: 'user-7', cost: 3 }),
  'limiter.acquire, denied': (call) => limiter.acquire({ session: sessions[call % SESSIONS], tool: 'denied' }),
  'limiter.peek': (call) => limiter.peek({ session: sessions[call % SESSIONS], tool: TOOLS[call % 4] }),
};

function nanoseconds(run) {
  const start = process.hrtime.bigint();
  for (let call = 0; call < CALLS; call += 1) run(call);
  return Number(process.hrtime.bigint() - start) / CALLS;
}

// Kinds take turns, so that whatever else the machine does meets them all; the median of the rounds counts.
const times = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, []]));
for (let round = 0; round <= ROUNDS; round += 1) {
  for (const [kind, run] of Object.entries(kinds)) {
    globalThis.gc?.();
    const time = nanoseconds(run);
    if (round > 0) times[kind].push(time); // The first warms up.
  }
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const base = median(times['Map increment']);
console.log(`${'ns per call, median of 9'.padEnd(38)}${'ns'.padStart(6)}${'/ Map'.padStart(8)}`);
for (const [kind, values] of Object.entries(times)) {
  const time = median(values);
  console.log(`${kind.padEnd(38)}${time.toFixed(0).padStart(6)}${(time / base).toFixed(2).padStart(8)}`);
}
await limiter.close();
