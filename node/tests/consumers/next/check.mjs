// Starts what was built, where only what Next traced is installed, and asks it twice.
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const directory = mkdtempSync(join(tmpdir(), 'tallymesh-standalone-'));
cpSync('.next/standalone', directory, { recursive: true, verbatimSymlinks: true });
const free = createServer();
await new Promise((listening) => free.listen(0, '127.0.0.1', listening));
const { port } = free.address();
await new Promise((closed) => free.close(closed));

const env = { ...process.env, PORT: String(port), HOSTNAME: '127.0.0.1' };
const server = spawn(process.execPath, ['server.js'], { cwd: directory, env, stdio: ['ignore', 'inherit', 'inherit'] });
const ended = new Promise((exit) => server.once('exit', exit));
try {
  const site = `http://127.0.0.1:${port}`;
  const end = Date.now() + 60_000;
  while (
    !(await fetch(site).then(
      (response) => response.ok,
      () => false,
    ))
  ) {
    if (Date.now() > end || server.exitCode !== null) throw new Error('the server does not answer');
    await pause(20);
  }
  const statuses = [];
  for (const _ of [1, 2]) statuses.push((await fetch(`${site}/bookings`)).status);
  console.log(String(statuses) === '200,429' ? 'denied the second call' : `answered ${statuses}`);
} finally {
  server.kill();
  await ended;
  rmSync(directory, { recursive: true, force: true });
}
