// Durable: what `acquireDurable` admitted is there after a crash. The example starts itself, and that process is killed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Limiter } from 'tallymesh';

function open(dataDir: string): Promise<Limiter> {
  const orders = { name: 'orders per user', per: ['user'], max: 1, window: 'session' } as const;
  return Limiter.open({ node: { id: 'a', dataDir }, limits: [orders] });
}

const program = fileURLToPath(import.meta.url);
const order = { user: 'u7' };
if (process.argv[2] !== undefined) {
  const limiter = await open(process.argv[2]);
  const decision = await limiter.acquireDurable(order);
  console.log(`first process: allowed: ${decision.allowed}, and on disk; now it is killed`);
  process.kill(process.pid, 'SIGKILL');
}

const dataDir = mkdtempSync(join(tmpdir(), 'tallymesh-'));
const first = spawnSync(process.execPath, [program, dataDir], { stdio: 'inherit' });
assert.equal(first.signal, 'SIGKILL');

const limiter = await open(dataDir);
const decision = limiter.acquire(order);
console.log(`second process: allowed: ${decision.allowed}`);
assert(!decision.allowed);
await limiter.close();
rmSync(dataDir, { recursive: true });
