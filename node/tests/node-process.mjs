// A node in a process of its own, for tests that need two or that kill one: does what its parent asks.
import { Limiter } from 'tallymesh';

const limiter = await Limiter.open(JSON.parse(process.argv[2]));
const tools = new Map();

function toolsOf(session) {
  if (!tools.has(session)) {
    const limits = { book_service: { maxPerTurn: 100, maxPerSession: 3 }, other: { maxPerTurn: 1000, maxPerSession: 1000 } };
    tools.set(session, limiter.toolRateLimiter({ session, limits }));
  }
  return tools.get(session);
}

const answers = {
  acquire: (request) => limiter.acquire(request),
  acquireDurable: (request) => limiter.acquireDurable(request),
  tryCall: ({ session, tool }) => toolsOf(session).tryCall(tool),
  stats: ({ session }) => toolsOf(session).getStats(),
  peers: () => limiter.peers(),
  close: () => limiter.close(),
};

process.on('message', async ({ id, kind, request }) => {
  try {
    const answer = await answers[kind](request);
    if (process.connected) process.send({ id, answer });
  } catch (error) {
    process.send({ id, error: String(error) });
  }
});
process.send({ id: -1 });
