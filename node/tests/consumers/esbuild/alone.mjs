// Runs what was built with the binary copied beside it, where no package is installed.
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const directory = mkdtempSync(join(tmpdir(), 'tallymesh-copied-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
cpSync('copied', directory, { recursive: true });
createRequire(import.meta.url)(join(directory, 'deny.cjs'));
