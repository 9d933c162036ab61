import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { expect, it } from 'vitest';

/** What a program of the example prints as JSON. */
async function results(program: string): Promise<unknown> {
  const path = fileURLToPath(new URL(`../examples/orchestrator/build/${program}.mjs`, import.meta.url));
  return JSON.parse((await promisify(execFile)(process.execPath, [path, '--json'])).stdout);
}

it('withstands the three attacks, which the orchestrator in memory does not', async () => {
  expect(await results('attacks')).toStrictEqual({
    before: { 'waits for a restart': 6, 'reaches the other instance': 6, 'opens new connections': 10 },
    after: { 'waits for a restart': 3, 'reaches the other instance': 3, 'opens new connections': 3 },
  });
});

it('gives each session its own budget where one orchestrator serves all, and messages at once one turn', async () => {
  const allowed = {
    'waits for a restart': 3,
    'reaches the other instance': 3,
    'comes after another user': 3,
    'sends ten messages at once': 1,
    'meets a tool that fails at first': 3,
  };
  const wrong = {
    'waits for a restart': 6,
    'reaches the other instance': 6,
    'comes after another user': 0,
    'sends ten messages at once': 10,
  };
  expect(await results('shared-attacks')).toStrictEqual({
    allowed,
    before: { ...allowed, ...wrong },
    after: allowed,
  });
});
