/** What is packed for npm, in each of the tarballs: all that their manifests and the README name, and nothing else. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

import type { TallymeshErrorCode } from 'tallymesh';

import { MAX_BINARY_BYTES, checkBinary, glibcOf, makeTarballs } from '../tarballs.mjs';
import { temporaryDirectory } from './support.mjs';

const { OLDEST_GLIBC, PACKAGES, noBinaryError, whyNoBinary } = createRequire(import.meta.url)(
  '../dist/platform.js',
) as typeof import('../lib/platform.js');

const directory = fileURLToPath(new URL('..', import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'tallymesh-package-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));
const [main = '', ...platforms] = makeTarballs(work);

interface Manifest extends Record<string, unknown> {
  main: string;
  optionalDependencies?: Record<string, string>;
}

/** The files in a tarball, and its manifest. */
function contents(tarball: string): { paths: string[]; manifest: Manifest } {
  const listed = execFileSync('tar', ['--list', '--file', tarball], { encoding: 'utf8' }).trim().split('\n');
  return {
    paths: listed.map((path) => path.replace(/^package\//, '')),
    manifest: JSON.parse(read(tarball, 'package.json').toString()) as Manifest,
  };
}

function read(tarball: string, path: string): Buffer {
  const args = ['--extract', '--to-stdout', '--file', tarball, `package/${path}`];
  return execFileSync('tar', args, { maxBuffer: 2 ** 28 });
}

/** The files that a part of the manifest names. */
function named(part: unknown): string[] {
  if (typeof part === 'string') return [posix.normalize(part)];
  return Object.values(part as object).flatMap(named);
}

/** What the links of a text in Markdown lead to that is no address: npm's site shows the README alone, so they are dead there. */
function relativeLinks(text: string): string[] {
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)|\b(?:href|src)="([^"]+)"/gm)];
  return targets.map((match) => match[1] ?? match[2] ?? match[3] ?? '').filter((target) => !/^(?:[a-z]+:|#)/.test(target));
}

describe('the package', () => {
  const { paths, manifest } = contents(main);

  it('holds what its manifest exports', () => {
    const parts = [manifest.main, manifest['types'], manifest['typesVersions'], manifest['exports']];
    for (const path of named(parts)) expect(paths).toContain(path);
  });

  it('holds the licenses, no binary, and nothing of the workshop', () => {
    for (const path of ['README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) expect(paths).toContain(path);
    // Copies, since npm leaves links out.
    for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) {
      expect(readFileSync(`${directory}/${name}`, 'utf8')).toBe(readFileSync(`${directory}/../${name}`, 'utf8'));
    }
    const others = paths.filter(
      (path) => !/^dist\/|^(?:native\/index\.d\.ts|README\.md|LICENSE-\w+|package\.json)$/.test(path),
    );
    expect(others).toStrictEqual([]);
    for (const key of ['scripts', 'devDependencies']) expect(manifest).not.toHaveProperty(key);
  });

  it('names the packages of the platforms that were packed with it', () => {
    const names = platforms.map((tarball) => contents(tarball).manifest['name']);
    expect(names).not.toStrictEqual([]);
    expect(manifest.optionalDependencies).toStrictEqual(Object.fromEntries(names.map((name) => [name, manifest['version']])));
  });

  it('has a README whose links lead somewhere on npm as well', () => {
    expect(relativeLinks(read(main, 'README.md').toString())).toStrictEqual([]);
  });

  it('would be caught with a dead link', () => {
    const text =
      'A [setting](../docs/settings.md#all), a [site](https://example.com), [here](#there), <img src="x.svg">.\n[ref]: docs/x.md\n';
    expect(relativeLinks(text)).toStrictEqual(['../docs/settings.md#all', 'x.svg', 'docs/x.md']);
  });

  it('is not published from the directory, without the packages of the platforms', () => {
    const shell = process.platform === 'win32';
    const tried = spawnSync('npm', ['run', 'prepublishOnly'], { cwd: directory, encoding: 'utf8', shell });
    expect([tried.status, tried.stdout]).toStrictEqual([1, expect.stringContaining('npm run tarballs')]);
  });
});

describe.each(platforms)('the package of a platform, %s', (tarball) => {
  const { paths, manifest } = contents(tarball);
  const binary = read(tarball, manifest.main);

  it('holds the binary, the licenses and nothing else', () => {
    const expected = ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'package.json', manifest.main];
    expect(paths.toSorted()).toStrictEqual(expected.toSorted());
    for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) {
      expect(read(tarball, name).toString()).toBe(readFileSync(`${directory}/${name}`, 'utf8'));
    }
    expect(manifest).toMatchObject({ license: 'MIT OR Apache-2.0', os: [expect.any(String)], cpu: [expect.any(String)] });
  });

  it('has a binary without symbols of at most 5 MB', () => {
    expect(MAX_BINARY_BYTES).toBe(5_000_000);
    expect(binary.length).toBeLessThanOrEqual(MAX_BINARY_BYTES);
    expect(binary.includes('\0.symtab\0')).toBe(false);
  });

  it.runIf(basename(tarball).includes('linux'))('needs no newer glibc than the README and the error say', () => {
    expect(glibcOf(binary)).toBe(OLDEST_GLIBC);
    const stated = `glibc ${OLDEST_GLIBC}`;
    for (const path of ['README.md', '../docs/bundlers.md']) {
      expect(readFileSync(`${directory}/${path}`, 'utf8').replace(/\s+/g, ' '), path).toContain(stated);
    }
    expect(whyNoBinary({ name: 'linux-x64', glibc: '2.31' }, [])).toContain(`${stated} or newer, and this system has 2.31`);
  });
});

describe('a binary', () => {
  it('is refused that is too large', () => {
    const path = join(temporaryDirectory(), 'tallymesh.linux-x64-gnu.node');
    writeFileSync(path, Buffer.alloc(MAX_BINARY_BYTES + 1));
    expect(() => checkBinary(path)).toThrow(/has 5000001 bytes, and may have 5000000/);
  });

  it.runIf(process.platform === 'linux')('is refused that needs a newer glibc than the package says', () => {
    const path = join(temporaryDirectory(), 'tallymesh.linux-x64-gnu.node');
    const [tarball = ''] = platforms;
    const binary = read(tarball, contents(tarball).manifest.main);
    writeFileSync(path, binary);
    checkBinary(path);
    const version = binary.indexOf(`GLIBC_${OLDEST_GLIBC}\0`);
    binary.write('GLIBC_2.99', version);
    writeFileSync(path, binary);
    expect(() => checkBinary(path)).toThrow(`needs glibc 2.99, and lib/platform.ts says ${OLDEST_GLIBC}`);
  });

  it.runIf(platforms.length < Object.keys(PACKAGES).length)('is there for every platform in a release', () => {
    expect(() => makeTarballs(temporaryDirectory(), { release: true })).toThrow(/^native\/tallymesh\.\S+\.node is missing/);
  });

  it('is there for each target that is built, and for no other', () => {
    const { napi } = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8')) as { napi: { targets: string[] } };
    expect(napi.targets).toHaveLength(Object.keys(PACKAGES).length);
    const loader = readFileSync(`${directory}/lib/native.ts`, 'utf8');
    for (const [name, required] of Object.entries(PACKAGES)) {
      const binary = required.replace('tallymesh-', '../native/tallymesh.');
      const [, branch = ''] = loader.split(`case '${name}':`);
      const loaded = [...branch.split('break;')[0]!.matchAll(/require\('([^']+)'\)/g)].map(([, what]) => what);
      expect(loaded, name).toStrictEqual([`${binary}.node`, required]);
    }
  });
});

describe('where no binary loads', () => {
  const missing = Object.assign(new Error("Cannot find module 'x'"), { code: 'MODULE_NOT_FOUND' });
  const broken = Object.assign(new Error('libm.so.6: cannot open shared object file'), { code: 'ERR_DLOPEN_FAILED' });
  const supported = `Linux (x64, arm64; glibc ${OLDEST_GLIBC} or newer), macOS (x64, arm64) and Windows (x64)`;

  it.each([
    ['freebsd-x64', undefined, [], `tallymesh has no binary for freebsd-x64: there are binaries for ${supported}.`],
    ['linux-x64', undefined, [missing], 'without glibc, such as Alpine with musl'],
    ['linux-x64', '2.31', [broken], `needs glibc ${OLDEST_GLIBC} or newer, and this system has 2.31`],
    ['linux-x64', '3.0', [missing], 'The package tallymesh-linux-x64-gnu, which holds the binary'],
    [
      'darwin-arm64',
      undefined,
      [missing, missing],
      'tallymesh-darwin-arm64, which holds the binary of tallymesh for darwin-arm64, is not',
    ],
    ['win32-x64', undefined, [missing, broken], 'for win32-x64 does not load: libm.so.6: cannot open'],
  ])('on %s with glibc %s, the reason is named', (name, glibc, errors, message) => {
    expect(whyNoBinary({ name, glibc }, errors)).toContain(message);
  });

  /** Loads the package without its binaries in a process of its own that may say that it is another platform. */
  function load(before: string) {
    const at = join(temporaryDirectory(), 'node_modules/tallymesh');
    mkdirSync(at, { recursive: true });
    cpSync(`${directory}/dist`, join(at, 'dist'), { recursive: true });
    const program = `${before}
      try { require('./dist/index.js') } catch ({ code, message, cause }) { console.log(code, message, cause?.code) }`;
    return execFileSync(process.execPath, ['--eval', program], { cwd: at, encoding: 'utf8' });
  }

  it('says so when it is loaded, also as JSON', () => {
    const error = noBinaryError([missing]);
    expect(JSON.parse(JSON.stringify(error))).toStrictEqual({ name: 'Error', code: error.code, message: error.message });
    expect([error.code, error.cause]).toStrictEqual(['TALLYMESH_NO_BINARY', missing]);
    expect(load('')).toMatch(/^TALLYMESH_NO_BINARY The package tallymesh-\S+, .* is not installed.* MODULE_NOT_FOUND\n$/);
    const elsewhere = load("Object.defineProperty(process, 'platform', { value: 'sunos' });");
    expect(elsewhere).toContain(`TALLYMESH_NO_BINARY tallymesh has no binary for sunos-`);
    expect(elsewhere).toContain(supported);
    // The code is one of those that the types and the documentation name.
    const code: TallymeshErrorCode = 'TALLYMESH_NO_BINARY';
    for (const path of ['dist/errors.d.ts', '../docs/node-js.md']) {
      expect(readFileSync(`${directory}/${path}`, 'utf8'), path).toContain(code);
    }
  });
});
