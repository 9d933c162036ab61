// Starts the workers of `docs/operating/processes.md` in the present directory, sends them calls, and replaces one after the other, or
// with PM2 all of them at a time: `node rolling-update.mjs HOST REPLACEMENTS cluster|PATH OF PM2`. Prints a row of figures.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const [host, replacements, how] = process.argv.slice(2);
const WORKERS = 3;
const MAX = 1000;
// Below the limit, with room for those that ask how much is used.
const CALLS_PER_SESSION = 600;
const GRACE_MS = 10_000;
const CALL_MS = 2_000;

/** What is admitted in each session, as its callers were told, and how many calls there were no answer to. */
const admitted = new Map();
const unanswered = new Map();
let made = 0;
let isOver = false;

const lastSession = () => `s${Math.floor(made / CALLS_PER_SESSION)}`;

function ask(path) {
  return new Promise((resolve, reject) => {
    const request = get({ host, port: 8080, path, agent: false, timeout: CALL_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.on('end', () => resolve(JSON.parse(text))).on('error', reject);
    });
    request.on('error', reject).on('timeout', () => request.destroy(new Error('no answer in time')));
  });
}

/** One call; undefined if no worker answered it. */
async function call(session) {
  const count = (counts) => counts.set(session, (counts.get(session) ?? 0) + 1);
  let answer;
  try {
    answer = await ask(`/?session=${session}`);
  } catch (error) {
    console.error(`no answer: ${error.message}`);
    count(unanswered);
    return undefined;
  }
  assert(answer.allowed, JSON.stringify(answer));
  count(admitted);
  return answer;
}

async function calls() {
  while (!isOver) {
    await call(lastSession());
    made += 1;
    await pause(2);
  }
}

async function until(what, holds, patience = 30_000) {
  const end = Date.now() + patience;
  for (;;) {
    const held = await holds();
    if (held) return held;
    assert(Date.now() < end, `never: ${typeof what === 'string' ? what : what()}`);
    await pause(10);
  }
}

/** Asks until a worker answers that is wanted; it must know of what was admitted before. */
function answerOf(session, isWanted) {
  const before = admitted.get(session) ?? 0;
  const seen = new Map();
  const others = () => `it answers; there answered ${JSON.stringify([...seen])}`;
  return until(others, async () => {
    const answer = await call(session);
    const from = answer === undefined ? 'none' : `slot ${answer.slot}, ${answer.pid}`;
    seen.set(from, (seen.get(from) ?? 0) + 1);
    if (answer === undefined || !isWanted(answer)) return undefined;
    assert(MAX - answer.remaining >= before, `slot ${answer.slot} has ${MAX - answer.remaining} of ${before} in ${session}`);
    return answer;
  });
}

/** The workers that answer, by slot, once each of so many processes has. */
async function workers(isKnown = () => false) {
  const found = new Map();
  await until('all workers answer', async () => {
    const answer = await call(lastSession());
    if (answer !== undefined && !isKnown(answer.pid)) found.set(answer.slot, answer.pid);
    return found.size === WORKERS;
  });
  return found;
}

/** Each worker is ready, and counts as members those that run. */
function membersSettle(running) {
  const waited = new Map([...running].map(([slot, pid]) => [pid, { slot }]));
  const missing = () => `each counts ${WORKERS} members; there answered ${JSON.stringify([...waited.values()])}`;
  return until(missing, async () => {
    const answer = await ask('/ready').catch(() => undefined);
    if (answer === undefined || !waited.has(answer.pid)) return waited.size === 0;
    waited.set(answer.pid, answer);
    if (answer.ready && answer.clusterSize === WORKERS) waited.delete(answer.pid);
    return waited.size === 0;
  });
}

function isGone(pid) {
  try {
    return process.kill(pid, 0) && false;
  } catch {
    return true;
  }
}

/** With a primary of `cluster`: what its workers print, and how one of them is replaced. */
function underCluster() {
  const primary = spawn(process.execPath, ['cluster.mjs'], { stdio: ['ignore', 'pipe', 'inherit'] });
  process.once('exit', () => primary.kill('SIGKILL'));
  let printed = '';
  primary.stdout.setEncoding('utf8').on('data', (text) => (printed += text));
  let turn = 0;
  return {
    printed: () => printed,
    each: 1,
    async replace(before) {
      const [slot, pid] = [...before][turn++ % WORKERS];
      process.kill(pid, 'SIGTERM');
      const ended = Date.now();
      await until('it ends', () => isGone(pid), GRACE_MS);
      const took = Date.now() - ended;
      const next = await answerOf(lastSession(), (answer) => answer.slot === slot && answer.pid !== pid);
      return [before.set(slot, next.pid), took];
    },
    end: () => {
      primary.kill('SIGKILL');
    },
  };
}

/** With PM2: `reload` replaces all, each new one started before its former one ends. */
function underPm2(pm2) {
  const env = { ...process.env, PM2_HOME: join(process.cwd(), '.pm2') };
  const run = (...args) => execFileSync(process.execPath, [pm2, ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  run('start', 'ecosystem.config.cjs');
  const logs = join(env.PM2_HOME, 'logs');
  return {
    printed: () =>
      readdirSync(logs)
        .filter((name) => name.includes('out'))
        .map((name) => readFileSync(join(logs, name), 'utf8'))
        .join(''),
    each: WORKERS,
    async replace(before) {
      const known = new Set(before.values());
      const ended = Date.now();
      // Not waited for synchronously: the calls go on.
      const reloading = spawn(process.execPath, [pm2, 'reload', 'api'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
      const [code] = await new Promise((end) => reloading.once('exit', (...how) => end(how)));
      assert.equal(code, 0);
      const took = Date.now() - ended;
      await until('the former ones end', () => [...known].every(isGone), GRACE_MS);
      return [await workers((pid) => known.has(pid)), took];
    },
    end: () => run('kill'),
  };
}

const parent = how === 'cluster' ? underCluster() : underPm2(how);
let failure;
try {
  let running = await workers();
  unanswered.clear();
  const calling = calls();
  const [readyAfter, endedAfter] = [[], []];
  for (let replaced = 0; replaced < Number(replacements); replaced += parent.each) {
    const since = Date.now();
    let took;
    [running, took] = await parent.replace(running);
    readyAfter.push(Date.now() - since);
    endedAfter.push(took);
    await until('its last line', () => {
      const lines = parent.printed().match(/^{"closed".*$/gm) ?? [];
      assert(
        lines.every((line) => line === '{"closed":true,"unconfirmed":0}'),
        lines.join(),
      );
      return lines.length === replaced + parent.each;
    });
    await membersSettle(running);
  }
  isOver = true;
  await calling;
  // Each worker has each count, but for calls without an answer, which it may have counted.
  const pids = new Set(running.values());
  for (const session of [...admitted.keys()]) {
    for (const pid of pids) {
      const before = admitted.get(session);
      const used = await until('it has all', async () => {
        const answer = await call(session);
        return answer?.pid === pid && MAX - answer.remaining >= before ? MAX - answer.remaining : undefined;
      });
      const most = admitted.get(session) + (unanswered.get(session) ?? 0);
      assert(used <= most, `${session}: ${used} of at most ${most}`);
    }
  }
  const lost = [...unanswered.values()].reduce((sum, count) => sum + count, 0);
  const of = (times) => `${times.toSorted((a, b) => a - b)[times.length >> 1]} / ${Math.max(...times)} ms`;
  const name = how === 'cluster' ? 'Node `cluster`' : 'PM2 `reload`';
  const count = endedAfter.length * parent.each;
  console.log(`| ${name} | ${count} | ${made} | ${lost} | 0 | ${of(readyAfter)} | ${of(endedAfter)} |`);
} catch (error) {
  failure = error;
} finally {
  parent.end();
}
if (failure !== undefined) {
  console.error(failure);
  process.exit(1);
}
process.exit();
