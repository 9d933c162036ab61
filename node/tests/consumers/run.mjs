// Installs the tarballs that npm gets into small projects, and runs them: `npm run consumers -- PROJECT[:SCRIPT] ...`. Without a
// script, the project's `test`. A project passes if its script ends well, says that the second call is denied, and warns of nothing.
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { makeTarballs } from '../../tarballs.mjs';

const projects = fileURLToPath(new URL('.', import.meta.url));
const PATIENCE_MS = 300_000;

/** Runs a command to its end; returns what it printed, and why it failed if it did. */
function run(command, cwd, environment = {}) {
  // As on a machine where nothing is set: variables of a test that runs this change what bundlers do.
  const { NODE_ENV, NODE_OPTIONS, ...inherited } = process.env;
  const env = { ...inherited, NO_COLOR: '1', NEXT_TELEMETRY_DISABLED: '1', ...environment };
  const { status, signal, stdout, stderr } = spawnSync(command, {
    cwd,
    env,
    encoding: 'utf8',
    shell: true,
    timeout: PATIENCE_MS,
  });
  return { output: `${stdout}${stderr}`, failure: status === 0 ? undefined : `${command}: ended with ${signal ?? status}` };
}

/** What a project's script must not print, and what it must. */
function judge(project, { output, failure }) {
  if (failure !== undefined) return failure;
  if (/\bwarn|^\s*⚠/im.test(output)) return 'it warns';
  // The linters of packages run nothing of it.
  if (project === 'registry') return undefined;
  if (!/denie[sd] the second call/.test(output)) return 'it does not say that it denied the second call';
  return undefined;
}

const asked = process.argv.slice(2).map((name) => name.split(':'));
if (asked.length === 0) {
  console.error('usage: npm run consumers -- PROJECT[:SCRIPT] ...');
  process.exit(2);
}

const work = mkdtempSync(join(tmpdir(), 'tallymesh-consumers-'));
let failed = 0;
try {
  const tarballs = makeTarballs(join(work, 'tarballs'));
  const installed = new Set();
  for (const [project, script = 'test'] of asked) {
    const directory = join(work, project);
    let result = { output: '', failure: undefined };
    const start = performance.now();
    if (!installed.has(project)) {
      installed.add(project);
      install(project, directory, tarballs);
      result = run('npm install --no-audit --no-fund --loglevel=error', directory);
    }
    if (result.failure === undefined) result = run(`npm run --silent ${script}`, directory);
    const fault = judge(project, result);
    const took = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${fault === undefined ? 'passed' : 'FAILED'} ${project}:${script}, ${took} s`);
    if (fault !== undefined) {
      failed += 1;
      console.log(`${result.output}\n${project}:${script}: ${fault}`);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed === 0 ? 0 : 1);

/** Lays the project out with the tarballs beside it, which its manifest depends on as if they were in the registry. */
function install(project, directory, tarballs) {
  cpSync(join(projects, project), directory, { recursive: true });
  mkdirSync(join(directory, 'tarballs'));
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  manifest.dependencies ??= {};
  for (const tarball of tarballs) {
    const file = basename(tarball);
    copyFileSync(tarball, join(directory, 'tarballs', file));
    manifest.dependencies[file.replace(/-\d.*/, '')] = `file:tarballs/${file}`;
  }
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest, null, 2));
}
