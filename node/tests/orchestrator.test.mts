import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { expect, it } from 'vitest';

it('withstands the three attacks, which the orchestrator in memory does not', async () => {
  const program = fileURLToPath(new URL('../examples/orchestrator/build/attacks.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, '--json']);
  expect(JSON.parse(stdout)).toStrictEqual({
    before: { 'waits for a restart': 6, 'reaches the other instance': 6, 'opens new connections': 10 },
    after: { 'waits for a restart': 3, 'reaches the other instance': 3, 'opens new connections': 3 },
  });
});
