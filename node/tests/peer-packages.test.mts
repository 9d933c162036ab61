/** The packages that the adapters are for: which versions are allowed and tested, and what is said where one is missing. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { temporaryDirectory } from './support.mjs';

const directory = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as {
  peerDependencies: Record<string, string>;
  peerDependenciesMeta: Record<string, { optional: boolean }>;
};

/** The version of a package, or of an alias, that is installed here. */
function installed(name: string): string {
  return (JSON.parse(readFileSync(join(directory, 'node_modules', name, 'package.json'), 'utf8')) as { version: string })
    .version;
}

/** A project in which this package is installed, and what is given: a package by its name and version, that is empty. */
function project(...packages: (readonly [name: string, version: string])[]): string {
  const root = temporaryDirectory();
  const modules = join(root, 'node_modules');
  cpSync(join(directory, 'dist'), join(modules, 'tallymesh/dist'), { recursive: true });
  cpSync(join(directory, 'package.json'), join(modules, 'tallymesh/package.json'));
  symlinkSync(join(directory, 'native'), join(modules, 'tallymesh/native'));
  for (const [name, version] of packages) {
    mkdirSync(join(modules, name));
    writeFileSync(join(modules, name, 'package.json'), JSON.stringify({ name, version, main: 'index.js' }));
    writeFileSync(join(modules, name, 'index.js'), '');
  }
  return root;
}

/** What a program in a project says. */
function run(cwd: string, program: string, type: 'module' | 'commonjs' = 'module'): string {
  const { stdout, stderr } = spawnSync(process.execPath, [`--input-type=${type}`, '--eval', program], {
    cwd,
    encoding: 'utf8',
  });
  return stdout + stderr;
}

const IMPORT = "import 'tallymesh/rate-limiter-flexible';";
const REQUIRE = "require('tallymesh/rate-limiter-flexible');";
const OPEN = "import { Limiter } from 'tallymesh'; import { TallymeshStore } from 'tallymesh/express-rate-limit';";
const STORE = `${OPEN}
  const limiter = await Limiter.open({ node: { id: 'a' }, storage: { inMemory: true } });
  try { new TallymeshStore({ limiter }); process.stdout.write('made'); }
  catch (error) { process.stdout.write(String(error)); }`;

describe('the packages of the adapters', () => {
  it('are optional, and tested at both ends of the range that is allowed', () => {
    expect(manifest.peerDependencies).toStrictEqual({ 'express-rate-limit': '7 || 8', 'rate-limiter-flexible': '5 - 11' });
    for (const name of Object.keys(manifest.peerDependencies)) expect(manifest.peerDependenciesMeta[name]?.optional).toBe(true);
    expect([installed('express-rate-limit-7'), installed('rate-limiter-flexible-5')]).toStrictEqual(['7.0.0', '5.0.0']);
    expect(installed('express-rate-limit')).toMatch(/^8\./);
    expect(installed('rate-limiter-flexible')).toMatch(/^11\./);
  });

  it('are asked for by name where they are not installed', () => {
    const said =
      'PeerPackageError: tallymesh/rate-limiter-flexible needs the package rate-limiter-flexible 5 to 11, which is not ' +
      'installed: npm install rate-limiter-flexible@11';
    for (const output of [run(project(), IMPORT), run(project(), REQUIRE, 'commonjs')]) {
      expect(output).toContain(said);
      expect(output).toContain("code: 'TALLYMESH_PEER_PACKAGE'");
    }
  });

  it.each([
    ['4.0.1', 'old'],
    ['12.0.0', 'new'],
  ])('are refused when they are too old or too new: rate-limiter-flexible %s', (version, how) => {
    const said =
      `PeerPackageError: tallymesh/rate-limiter-flexible works with rate-limiter-flexible 5 to 11; ${version} is too ${how}: ` +
      'npm install rate-limiter-flexible@11';
    expect(run(project(['rate-limiter-flexible', version]), IMPORT)).toContain(said);
  });

  it.each([
    ['6.11.2', 'old'],
    ['9.0.0', 'new'],
  ])('are refused when they are too old or too new: express-rate-limit %s', (version, how) => {
    const said =
      `PeerPackageError: tallymesh/express-rate-limit works with express-rate-limit 7 to 8; ${version} is too ${how}: ` +
      'npm install express-rate-limit@8';
    expect(run(project(['express-rate-limit', version]), STORE)).toBe(said);
  });

  it('are not asked for by the store, which works with others that have its interface', () => {
    expect(run(project(), STORE)).toBe('made');
  });

  it('have types that those of both ends agree with', () => {
    const root = project();
    const program = `
      import type { Store } from 'express-rate-limit';
      import { RateLimiterUnion } from 'rate-limiter-flexible';
      import { Limiter } from 'tallymesh';
      import { TallymeshStore } from 'tallymesh/express-rate-limit';
      import { RateLimiterTallymesh } from 'tallymesh/rate-limiter-flexible';
      export async function use(limiter: Limiter): Promise<number> {
        const store: Store = new TallymeshStore({ limiter });
        const flexible = new RateLimiterTallymesh({ limiter, points: 1, duration: 1 });
        await new RateLimiterUnion(flexible).consume('k');
        return (await flexible.consume('k')).remainingPoints + (store.prefix ?? '').length;
      }`;
    writeFileSync(join(root, 'program.ts'), program);
    const tsc = join(directory, 'node_modules/typescript/bin/tsc');
    for (const [express, flexible] of [
      ['express-rate-limit', 'rate-limiter-flexible'],
      ['express-rate-limit-7', 'rate-limiter-flexible-5'],
    ] as const) {
      const at = (name: string) => [join(directory, 'node_modules', name)];
      const compilerOptions = {
        ...{ noEmit: true, strict: true, module: 'nodenext', target: 'es2022', typeRoots: at('@types'), types: ['node'] },
        paths: { 'express-rate-limit': at(express), 'rate-limiter-flexible': at(flexible) },
        // Those packages' own types want the types of each of their stores.
        skipLibCheck: true,
      };
      writeFileSync(join(root, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
      expect(execFileSync(process.execPath, [tsc, '--project', root], { encoding: 'utf8' })).toBe('');
    }
  });
});
