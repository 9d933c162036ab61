// Makes the tarballs that npm gets, as `npm run tarballs -- DIRECTORY [--release]`: the package without a binary, and for each binary in
// `native/` the package of its platform, which the first names as optional. With `--release` no platform may be missing, and
// each binary is checked.
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('.', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const licenses = ['LICENSE-MIT', 'LICENSE-APACHE'];
// Of the format ELF: what a binary needs of its libraries, by version.
const SHT_GNU_VERNEED = 0x6ffffffe;
const VER_FLG_WEAK = 2;
/** What a binary may take up, in bytes. */
export const MAX_BINARY_BYTES = 5_000_000;
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';

/**
 * The newest version of glibc that a binary for Linux, in the format ELF with 64 bits, needs to load, as in `2.34`; undefined for
 * another format. A version that is marked as weak may be missing.
 * @param {Buffer} binary
 */
export function glibcOf(binary) {
  if (binary.readUInt32BE(0) !== 0x7f454c46) return undefined;
  const [sections, size, count] = [Number(binary.readBigUInt64LE(0x28)), binary.readUInt16LE(0x3a), binary.readUInt16LE(0x3c)];
  const section = (index) => binary.subarray(sections + index * size, sections + (index + 1) * size);
  const start = (header) => Number(header.readBigUInt64LE(24));
  const all = Array.from({ length: count }, (_, index) => section(index));
  const needed = all.find((header) => header.readUInt32LE(4) === SHT_GNU_VERNEED);
  if (needed === undefined) return undefined;

  const names = start(section(needed.readUInt32LE(40)));
  const minors = [];
  for (const library of chain(binary, start(needed), 12)) {
    for (const version of chain(binary, library + binary.readUInt32LE(library + 8), 12)) {
      const name = names + binary.readUInt32LE(version + 8);
      const [, minor] = /^GLIBC_2\.(\d+)/.exec(binary.toString('latin1', name, binary.indexOf(0, name))) ?? [];
      const isWeak = (binary.readUInt16LE(version + 4) & VER_FLG_WEAK) !== 0;
      if (minor !== undefined && !isWeak) minors.push(Number(minor));
    }
  }
  return minors.length === 0 ? undefined : `2.${Math.max(...minors)}`;
}

/** Where each record of a chain begins, whose records say at `next` how far on the next one is, the last one 0. */
function* chain(binary, first, next) {
  for (let at = first, step = -1; step !== 0; at += step) {
    yield at;
    step = binary.readUInt32LE(at + next);
  }
}

/** What npm checks before it installs, by target of the native half. */
const platforms = {
  'x86_64-unknown-linux-gnu': { name: 'linux-x64-gnu', os: ['linux'], cpu: ['x64'], libc: ['glibc'] },
  'aarch64-unknown-linux-gnu': { name: 'linux-arm64-gnu', os: ['linux'], cpu: ['arm64'], libc: ['glibc'] },
  'x86_64-apple-darwin': { name: 'darwin-x64', os: ['darwin'], cpu: ['x64'] },
  'aarch64-apple-darwin': { name: 'darwin-arm64', os: ['darwin'], cpu: ['arm64'] },
  'x86_64-pc-windows-msvc': { name: 'win32-x64-msvc', os: ['win32'], cpu: ['x64'] },
};

/**
 * Writes the tarballs into the directory, and returns their paths: the package's own first.
 * @param {string} directory
 * @param {{ release?: boolean }} [options]
 */
export function makeTarballs(directory, { release = false } = {}) {
  const work = mkdtempSync(join(tmpdir(), 'tallymesh-tarballs-'));
  try {
    mkdirSync(directory, { recursive: true });
    const optionalDependencies = {};
    const tarballs = [];
    for (const target of manifest.napi.targets) {
      const { name, ...only } = platforms[target];
      const binary = `tallymesh.${name}.node`;
      if (!existsSync(join(root, 'native', binary))) {
        if (release) throw new Error(`native/${binary} is missing: a release has a binary for each platform`);
        continue;
      }
      if (release) checkBinary(join(root, 'native', binary));
      const stage = join(work, name);
      mkdirSync(stage);
      for (const file of licenses) copyFileSync(join(root, file), join(stage, file));
      copyFileSync(join(root, 'native', binary), join(stage, binary));
      const { version, description, license, repository, engines } = manifest;
      const own = { name: `tallymesh-${name}`, version, description, license, repository, engines, type: 'commonjs', ...only };
      const what = `# ${own.name}\n\nThe binary of [tallymesh](https://www.npmjs.com/package/tallymesh) for ${target}. Install tallymesh instead.\n`;
      writeFileSync(join(stage, 'README.md'), what);
      write(stage, { ...own, main: binary, files: [binary, ...licenses] });
      tarballs.push(pack(stage, directory));
      optionalDependencies[own.name] = version;
    }

    // Only what npm would pack, so that the rest of the directory plays no part.
    const stage = join(work, 'package');
    const [{ files }] = JSON.parse(run(['pack', '--dry-run', '--json', '--ignore-scripts'], root));
    for (const { path } of files) {
      if (!path.endsWith('.node')) cpSync(join(root, path), join(stage, path));
    }
    const { scripts, devDependencies, prettier, napi, ...published } = manifest;
    const packed = published.files.filter((pattern) => !pattern.endsWith('.node'));
    write(stage, { ...published, files: packed, optionalDependencies });
    return [pack(stage, directory), ...tarballs];
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * Refuses a binary that is larger than it may be, or that needs a newer glibc than the package says.
 * @param {string} path
 */
export function checkBinary(path) {
  const bytes = readFileSync(path);
  const binary = basename(path);
  if (bytes.length > MAX_BINARY_BYTES) {
    throw new Error(`${binary} has ${bytes.length} bytes, and may have ${MAX_BINARY_BYTES}: build it by npm run build:native`);
  }
  const minor = (version) => Number(version.split('.')[1]);
  const { OLDEST_GLIBC } = createRequire(import.meta.url)('./dist/platform.js');
  const needed = glibcOf(bytes);
  if (needed !== undefined && minor(needed) > minor(OLDEST_GLIBC)) {
    throw new Error(`${binary} needs glibc ${needed}, and lib/platform.ts says ${OLDEST_GLIBC}: build it on an older system`);
  }
}

function write(stage, content) {
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(content, null, 2)}\n`);
}

function pack(stage, directory) {
  const [{ filename }] = JSON.parse(
    run(['pack', '--json', '--ignore-scripts', '--pack-destination', resolve(directory)], stage),
  );
  return resolve(directory, filename);
}

function run(args, cwd) {
  return execFileSync(npm, args, { cwd, encoding: 'utf8', shell: process.platform === 'win32' });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [directory, flag, ...rest] = process.argv.slice(2);
  if (directory === undefined || rest.length > 0 || (flag !== undefined && flag !== '--release')) {
    console.error('usage: npm run tarballs -- DIRECTORY [--release]');
    process.exit(2);
  }
  for (const path of makeTarballs(directory, { release: flag === '--release' })) console.log(path);
}
