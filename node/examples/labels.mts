// A middleware says whose request it is, and a tool in another module knows, without an argument for it.
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { Limiter } from 'tallymesh';

// In a module of its own: limiter.mts.
const limiter = Limiter.lazy({
  node: { id: 'a' },
  storage: { inMemory: true },
  counters: { unmatched: 'deny' },
  limits: [{ name: 'bookings', when: { tool: 'book_*' }, per: ['session', 'user'], max: 2, window: 'session' }],
});

// In another: tools.mts. It knows of no request, no session and no user.
async function bookService(): Promise<string> {
  await Promise.resolve(); // what an agent does before
  const decision = limiter.acquire({ tool: 'book_service' });
  return decision.allowed ? `booked for ${limiter.labels().user}` : (decision.reason ?? 'denied');
}

// In the server: server.mts.
const app = express();
app.use((request, _response, next) => {
  const [session, user] = [request.get('x-session'), request.get('x-user')];
  if (session === undefined || user === undefined) return next();
  limiter.withLabels({ session, user }, next);
});
app.post('/book', async (_request, response) => void response.send(await bookService()));

await limiter.open();
const server = app.listen(0, '127.0.0.1');
await new Promise((listening) => server.once('listening', listening));
const { port } = server.address() as AddressInfo;
async function book(headers: Record<string, string>): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/book`, { method: 'POST', headers })).text();
}

// At once, so that the requests of two users are handled in turns.
const users = ['u1', 'u2', 'u1', 'u2', 'u1', 'u2'];
const answers = await Promise.all(users.map((user) => book({ 'x-session': 's', 'x-user': user })));
for (const user of ['u1', 'u2']) {
  const booked = answers.filter((answer) => answer === `booked for ${user}`).length;
  console.log(`${user}: ${booked} booked, of 3 requests`);
  assert.equal(booked, 2);
}
const unlabelled = await book({});
console.log(`without labels: ${unlabelled}`);
assert.equal(unlabelled, 'the request lacks the label "session", which limit "bookings" counts per; waiting does not help');

server.close();
await limiter.close();
