import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { expect, it } from 'vitest';

/** What an example prints. It asserts what it says itself. */
async function output(example: string): Promise<string> {
  const path = fileURLToPath(new URL(`../examples/build/${example}`, import.meta.url));
  return (await promisify(execFile)(process.execPath, ['--unhandled-rejections=strict', path])).stdout;
}

it.each([
  ['common-js.cjs', 'once it is open: true, false, true\n'],
  ['provider.mjs', 'booked: true, false, true\n'],
  ['labels.mjs', 'u1: 2 booked, of 3 requests\nu2: 2 booked, of 3 requests\n'],
])('runs: %s', async (example, expected) => {
  expect(await output(example)).toContain(expected);
});
