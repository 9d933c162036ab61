// Plays with both orchestrators that serve all sessions, and prints how many bookings there were.
import { setTimeout as pause } from 'node:timers/promises';

import { Client } from './client.mjs';
import { Cluster } from './cluster.mjs';

/** Comes back on a new connection, which takes a human being some time. */
async function onNewConnection(port: number, user: string, times: number): Promise<number> {
  await pause(150);
  const client = new Client(port, user);
  const booked = await client.book(times);
  client.leave();
  return booked;
}

/** What is played, and how many bookings there should be: 1 in a turn and 3 in a session, for each user. */
const PLAYS: Record<string, [allowed: number, play: (cluster: Cluster) => Promise<number>]> = {
  'waits for a restart': [
    3,
    async (cluster) => {
      const booked = await onNewConnection(cluster.port, 'waiting', 5);
      await pause(150);
      await cluster.restart();
      return booked + (await onNewConnection(cluster.port, 'waiting', 5));
    },
  ],
  'reaches the other instance': [
    3,
    async (cluster) => {
      const here = await onNewConnection(cluster.port, 'switching', 5);
      return here + (await onNewConnection(cluster.port, 'switching', 5));
    },
  ],
  'comes after another user': [
    3,
    async (cluster) => {
      await onNewConnection(cluster.firstPort, 'greedy', 3);
      return onNewConnection(cluster.firstPort, 'honest', 3);
    },
  ],
  'sends ten messages at once': [
    1,
    async (cluster) => {
      const clients = Array.from({ length: 10 }, () => new Client(cluster.firstPort, 'hasty'));
      const booked = await Promise.all(clients.map((client) => client.send('book_service and think')));
      for (const client of clients) client.leave();
      return booked.reduce((sum, each) => sum + each);
    },
  ],
  'meets a tool that fails at first': [
    3,
    async (cluster) => {
      const client = new Client(cluster.firstPort, 'unlucky');
      for (let time = 0; time < 5; time += 1) await client.send('book_service and fail');
      client.leave();
      return onNewConnection(cluster.firstPort, 'unlucky', 5);
    },
  ],
};

async function play(program: string): Promise<Record<string, number>> {
  const cluster = await Cluster.start(program);
  try {
    const booked: Record<string, number> = {};
    for (const [name, [, play]] of Object.entries(PLAYS)) {
      // So that, before, nothing is used up that others used.
      await cluster.restart();
      booked[name] = await play(cluster);
    }
    return booked;
  } finally {
    await cluster.stop();
  }
}

const allowed = Object.fromEntries(Object.entries(PLAYS).map(([name, [allowed]]) => [name, allowed]));
const results = { allowed, before: await play('shared-before.mjs'), after: await play('shared-after.mjs') };
if (process.argv.includes('--json')) {
  console.log(JSON.stringify(results));
} else {
  console.log('bookings of a user who ...'.padEnd(42), 'allowed', 'before', ' after');
  for (const name of Object.keys(PLAYS)) {
    const { allowed, before, after } = results;
    console.log(
      `  ${name}`.padEnd(42),
      ...[allowed[name], before[name], after[name]].map((count, place) => String(count).padStart(place === 0 ? 7 : 6)),
    );
  }
}
