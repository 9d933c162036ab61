// Plays three attacks on both orchestrators, and prints how many bookings each gets through. The limit is 3 in a session.
import { setTimeout as pause } from 'node:timers/promises';

import { Client } from './client.mjs';
import { Cluster } from './cluster.mjs';

/** Comes back on a new connection, which takes a human being some time. */
async function onNewConnection(cluster: Cluster, user: string, times: number): Promise<number> {
  await pause(150);
  const client = new Client(cluster.port, user);
  const booked = await client.book(times);
  client.leave();
  return booked;
}

const ATTACKS: Record<string, (cluster: Cluster) => Promise<number>> = {
  'waits for a restart': async (cluster) => {
    let booked = await onNewConnection(cluster, 'waiting', 5);
    await pause(150);
    await cluster.restart();
    booked += await onNewConnection(cluster, 'waiting', 5);
    return booked;
  },
  'reaches the other instance': async (cluster) => {
    const here = await onNewConnection(cluster, 'switching', 5);
    return here + (await onNewConnection(cluster, 'switching', 5));
  },
  'opens new connections': async (cluster) => {
    let booked = 0;
    for (let connection = 0; connection < 10; connection += 1) booked += await onNewConnection(cluster, 'reconnecting', 1);
    return booked;
  },
};

/** How many bookings each attack got through. */
async function attack(program: string): Promise<Record<string, number>> {
  const cluster = await Cluster.start(program);
  try {
    const booked: Record<string, number> = {};
    for (const [name, play] of Object.entries(ATTACKS)) booked[name] = await play(cluster);
    return booked;
  } finally {
    await cluster.stop();
  }
}

const results = { before: await attack('before.mjs'), after: await attack('after.mjs') };
if (process.argv.includes('--json')) {
  console.log(JSON.stringify(results));
} else {
  console.log('bookings that got through, of 3 allowed:'.padEnd(42), 'before', ' after');
  for (const name of Object.keys(ATTACKS)) {
    console.log(`  ${name}`.padEnd(42), String(results.before[name]).padStart(6), String(results.after[name]).padStart(6));
  }
}
