/** The recipes of `docs/operating/processes.md`, as they stand there: started, and their workers replaced under calls. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it, onTestFinished } from 'vitest';
import { Limiter, type Config } from 'tallymesh';

import { freeAddress, temporaryDirectory } from './support.mjs';

const REPLACEMENTS = process.env['TALLYMESH_REPLACEMENTS'] ?? '3';
/** Where PM2 was installed; without it, its recipe is skipped. */
const PM2 = process.env['TALLYMESH_PM2'];
const PATIENCE_MS = 60_000 + Number(REPLACEMENTS) * 10_000;

/** The block of the page whose fence says this. */
function blockOf(fence: string): string {
  const page = readFileSync(new URL('../../docs/operating/processes.md', import.meta.url), 'utf8');
  const [, after] = page.split(`\n\`\`\`${fence}\n`);
  if (after === undefined) throw new Error(`the page has no block ${fence}`);
  return after.slice(0, after.indexOf('```'));
}

/** In a network namespace the ports of the page are its own. */
const namespace = ['unshare', '--map-root-user', '--net', 'sh', '-ec', 'ip link set lo up; exec "$@"', 'sh'];
const mayIsolate = spawnSync('unshare', [...namespace.slice(1), 'true']).status === 0;

/** Starts what the blocks say in a directory where `tallymesh` is found, and plays a rolling update. Returns its figures. */
async function update(how: string, ...names: string[]): Promise<string> {
  const directory = mkdtempSync(join(fileURLToPath(new URL('.', import.meta.url)), 'processes-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const host = mayIsolate ? '127.0.0.1' : '127.0.0.2';
  if (!mayIsolate) console.warn(`SKIPPED: no network namespaces: the workers of ${how} run on ${host}`);
  for (const name of names) {
    const text = blockOf(`js ${name}`).replaceAll('127.0.0.1', host);
    writeFileSync(join(directory, name), mayIsolate ? text : text.replace('listen(8080', `listen(8080, '${host}'`));
  }
  const driver = fileURLToPath(new URL('rolling-update.mjs', import.meta.url));
  const [command = '', ...args] = [...(mayIsolate ? namespace : []), process.execPath, driver, host, REPLACEMENTS, how];
  const playing = spawn(command, args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void playing.kill('SIGKILL'));
  const printed = { out: '', error: '' };
  playing.stdout.setEncoding('utf8').on('data', (text: string) => (printed.out += text));
  playing.stderr.setEncoding('utf8').on('data', (text: string) => (printed.error += text));
  const [code] = (await once(playing, 'close')) as [number];
  expect(code, `${printed.error}\n${printed.out}`).toBe(0);
  return printed.out;
}

describe('the workers of the page', () => {
  it('are replaced under cluster', { timeout: PATIENCE_MS }, async () => {
    const figures = await update('cluster', 'worker.mjs', 'cluster.mjs');
    expect(figures).toContain('| Node `cluster` |');
    console.log(figures);
  });

  it.skipIf(PM2 === undefined)('are reloaded by PM2', { timeout: PATIENCE_MS }, async () => {
    const figures = await update(PM2 ?? '', 'worker.mjs', 'ecosystem.config.cjs');
    expect(figures).toContain('| PM2 `reload` |');
    console.log(figures);
  });
});

describe('slots', () => {
  const settings = (listen: string, node: object): Config => ({
    node: { id: 'api', slots: 2, ...node },
    gossip: { listen, syncTimeout: '0s' },
  });

  it('are taken in turn, and given back', async () => {
    const config = settings(await freeAddress(), { dataDir: temporaryDirectory() });
    const first = await Limiter.open(config);
    await using second = await Limiter.open(config);
    expect([first.slot, first.node, second.slot, second.node]).toStrictEqual([0, 'api-0', 1, 'api-1']);
    await expect(Limiter.open(config)).rejects.toThrow(/each of the 2 slots is taken: slot 0: data directory /);
    await first.close();
    await using next = await Limiter.open(config);
    expect(next.slot).toBe(0);
  });

  it('are as the page shows them first', async () => {
    const lines = blockOf('ts')
      .replace('127.0.0.1:7946', await freeAddress())
      .replace("'data'", JSON.stringify(temporaryDirectory()));
    const program = `import { Limiter } from 'tallymesh';\n${lines}\nawait limiter.close();`;
    const cwd = fileURLToPath(new URL('..', import.meta.url));
    const ran = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { cwd, encoding: 'utf8' });
    expect(ran).toMatchObject({ status: 0, stdout: '0\n', stderr: '' });
  });

  it('may be given', async () => {
    const config = settings(await freeAddress(), { dataDir: temporaryDirectory(), slot: 1 });
    await using limiter = await Limiter.open(config);
    expect([limiter.slot, limiter.node]).toStrictEqual([1, 'api-1']);
    await expect(Limiter.open(config)).rejects.toThrow(/slot 1 is taken: data directory .* is open in this process already/);
  });

  it('are refused where another program has the port', async () => {
    const listen = await freeAddress();
    const other = createServer().listen(Number(listen.split(':')[1]), '127.0.0.1');
    await once(other, 'listening');
    onTestFinished(() => void other.close());
    const inMemory = { ...settings(listen, { slot: 0 }), storage: { inMemory: true } };
    await expect(Limiter.open(inMemory)).rejects.toThrow(/slot 0 is taken: cannot listen at/);
  });

  it.each([
    [{ slot: 2 }, /config.node.slot = 2 is not allowed: 0 to 1, since config.node.slots = 2/],
    [{ slot: -1 }, /config.node.slot is -1: .*0 to 1023/],
    [{ slot: 1.5 }, /config.node.slot is 1.5/],
    [{ slot: '1' }, /config.node.slot is "1"/],
    [{ slots: 0 }, /config.node.slots = 0 is not allowed: 1 to 1024/],
    [{ slots: undefined }, /config.node.slots is undefined/],
  ])('that cannot be are refused: %o', async (node, message) => {
    const config = settings('127.0.0.1:7946', { dataDir: temporaryDirectory(), ...node });
    await expect(Limiter.open(config)).rejects.toThrow(message);
  });

  it('need an address', async () => {
    const config: Config = { node: { id: 'api', slots: 2 }, storage: { inMemory: true } };
    await expect(Limiter.open(config)).rejects.toThrow(/config.node.slots = 2 is not allowed: only with config.gossip.listen/);
    await expect(Limiter.open({ ...config, node: { id: 'api', slot: 2 } })).rejects.toThrow(/only with config.node.slots/);
  });

  it('are undefined without', async () => {
    await using limiter = await Limiter.open({ node: { id: 'a' }, storage: { inMemory: true } });
    expect(limiter.slot).toBeUndefined();
  });
});
