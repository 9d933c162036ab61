/** What the environment and the machine's name set: of a file, and never of an object. */
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { afterEach, describe, expect, it } from 'vitest';
import { ConfigError, Limiter } from 'tallymesh';

import { inMemory, temporaryDirectory } from './support.mjs';

const VARIABLES = ['NODE_ID', 'GOSSIP_LISTEN', 'GOSSIP_PEERS', 'GOSSIP_FANOUT', 'GOSSIP_FAN'].map(
  (name) => `TALLYMESH_${name}`,
);

afterEach(() => VARIABLES.forEach((name) => delete process.env[name]));

/** The path of a file with this content. */
function file(text: string): string {
  const path = join(temporaryDirectory(), 'tallymesh.toml');
  writeFileSync(path, text);
  return path;
}

const FILE = '[node]\nid = "a"\n[storage]\nin_memory = true\n[gossip]\npeers = ["127.0.0.1:1"]\nsync_timeout = "0s"\n';

describe('the environment', () => {
  it('overrides a file', async () => {
    process.env['TALLYMESH_NODE_ID'] = 'b';
    process.env['TALLYMESH_GOSSIP_LISTEN'] = '127.0.0.1:0';
    process.env['TALLYMESH_GOSSIP_PEERS'] = '127.0.0.1:2, 127.0.0.1:3';
    await using limiter = await Limiter.open(file(FILE));
    expect(limiter.node).toBe('b');
    expect(limiter.address).toMatch(/^127\.0\.0\.1:\d+$/);
    const addresses = limiter.peers().map((peer) => peer.address);
    expect(addresses.toSorted()).toStrictEqual(['127.0.0.1:2', '127.0.0.1:3']);
  });

  it('leaves an object as it is', async () => {
    process.env['TALLYMESH_NODE_ID'] = 'b';
    process.env['TALLYMESH_GOSSIP_LISTEN'] = '127.0.0.1:0';
    process.env['TALLYMESH_GOSSIP_FAN'] = 'no setting';
    await using limiter = await Limiter.open(inMemory());
    expect([limiter.node, limiter.address]).toStrictEqual(['test', undefined]);
  });

  it('is refused with the name of the variable, its value and what is allowed', async () => {
    process.env['TALLYMESH_GOSSIP_FANOUT'] = '0';
    const bad = Limiter.open(file(FILE));
    await expect(bad).rejects.toThrow(ConfigError);
    await expect(bad).rejects.toThrow(/gossip.fanout = 0 \(set by .* TALLYMESH_GOSSIP_FANOUT\) is not allowed: 1 to 1024/);
    delete process.env['TALLYMESH_GOSSIP_FANOUT'];
    process.env['TALLYMESH_GOSSIP_FAN'] = '1';
    await expect(Limiter.open(file(FILE))).rejects.toThrow(/TALLYMESH_GOSSIP_FAN is no setting.*TALLYMESH_GOSSIP_FANOUT/);
  });
});

describe('@hostname', () => {
  const allowed = /^[A-Za-z0-9._-]{1,64}$/.test(hostname());

  it('is the name of the machine, in an object, a file and the environment', async () => {
    process.env['TALLYMESH_NODE_ID'] = '@hostname';
    const opened = [
      Limiter.open({ ...inMemory(), node: { id: '@hostname' } }),
      Limiter.open(file(FILE.replace('"a"', '"@hostname"'))),
      Limiter.open(file(FILE)),
    ];
    for (const [place, opening] of opened.entries()) {
      if (allowed) {
        await using limiter = await opening;
        expect(limiter.node, `${place}`).toBe(hostname());
      } else {
        await expect(opening).rejects.toThrow(/node.id = "@hostname".*the host name/);
      }
    }
  });
});
