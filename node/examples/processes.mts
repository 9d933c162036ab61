// Several processes of one program on a machine. Each takes a slot, and one that is started in the place of another takes its slot.
import assert from 'node:assert/strict';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Limiter } from 'tallymesh';

/** Answers whether each user that it is sent may book. */
async function work(dataDir: string, listen: string): Promise<void> {
  const limiter = await Limiter.open({
    node: { id: 'api', dataDir, slots: 6 },
    // `ready` waits for those that answer; slots that are empty do not.
    gossip: { listen, syncTimeout: '0s' },
    limits: [{ name: 'bookings per user', per: ['user'], max: 3, window: 'session' }],
  });
  await limiter.ready();
  process.send?.(limiter.slot);
  process.on('message', async (user: string) => {
    process.send?.((await limiter.acquireDurable({ user })).allowed);
  });
  process.once('SIGTERM', async () => {
    await limiter.close();
    process.exit();
  });
}

async function told(worker: Worker): Promise<unknown> {
  const [message] = (await once(worker, 'message')) as [unknown];
  return message;
}

async function mayBook(worker: Worker, user: string): Promise<unknown> {
  worker.send(user);
  return told(worker);
}

async function oversee(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'tallymesh-'));
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const listen = `127.0.0.1:${(free.address() as AddressInfo).port}`;
  await new Promise((closed) => free.close(closed));
  const fork = () => cluster.fork({ DATA_DIR: dataDir, LISTEN: listen });

  const workers = new Map<unknown, Worker>();
  for (let count = 0; count < 3; count++) {
    const worker = fork();
    workers.set(await told(worker), worker);
  }
  const [slot, ended] = [...workers][1] ?? assert.fail('three workers');
  for (let call = 1; call <= 3; call++) assert.equal(await mayBook(ended, 'u7'), true);
  console.log(`the process in slot ${slot} allowed three calls, and is killed`);
  ended.process.kill('SIGKILL');
  await once(ended, 'exit');

  const next = fork();
  assert.equal(await told(next), slot);
  workers.set(slot, next);
  assert.equal(await mayBook(next, 'u7'), false);
  console.log(`the next one took slot ${slot}, and denied the fourth`);

  for (const worker of workers.values()) {
    worker.process.kill('SIGTERM');
    await once(worker, 'exit');
  }
  rmSync(dataDir, { recursive: true });
}

if (cluster.isPrimary) await oversee();
else await work(process.env['DATA_DIR'] ?? 'data', process.env['LISTEN'] ?? '127.0.0.1:7946');
