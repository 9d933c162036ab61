/** What is packed for npm: all that the manifest and the README name, and nothing else. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

const directory = fileURLToPath(new URL('..', import.meta.url));
const pack = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: directory, encoding: 'utf8' });
const [{ files }] = JSON.parse(pack) as [{ files: { path: string }[] }];
const packed = new Set(files.map((file) => file.path));

/** The files that a part of the manifest names. */
function named(part: unknown): string[] {
  if (typeof part === 'string') return [posix.normalize(part)];
  return Object.values(part as object).flatMap(named);
}

/** The relative links of a text in Markdown, without what is behind `#`. */
function relativeLinks(text: string): string[] {
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)/gm)].map((match) => match[1] ?? match[2] ?? '');
  return targets.filter((target) => !/^(?:[a-z]+:|#)/.test(target)).map((target) => target.replace(/#.*/, ''));
}

describe('the package', () => {
  it('holds what its manifest exports', () => {
    const manifest = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8')) as Record<string, unknown>;
    for (const path of named([manifest['main'], manifest['types'], manifest['exports']])) expect(packed).toContain(path);
  });

  it('holds the native half, the licenses and nothing of the workshop', () => {
    for (const path of ['native/index.js', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) expect(packed).toContain(path);
    // Copies, since npm leaves links out.
    for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) {
      expect(readFileSync(`${directory}/${name}`, 'utf8')).toBe(readFileSync(`${directory}/../${name}`, 'utf8'));
    }
    const others = [...packed].filter((path) => !/^(?:dist|native)\/|^(?:README\.md|LICENSE-\w+|package\.json)$/.test(path));
    expect(others).toStrictEqual([]);
  });

  it('has a README whose relative links lead to what is in it', () => {
    const readme = readFileSync(`${directory}/README.md`, 'utf8');
    expect(relativeLinks(readme).filter((target) => !packed.has(posix.normalize(target)))).toStrictEqual([]);
  });

  it('would be caught with a dead link', () => {
    const text = 'A [setting](../docs/settings.md#all), a [site](https://example.com), [here](#there).\n[ref]: docs/x.md\n';
    expect(relativeLinks(text)).toStrictEqual(['../docs/settings.md', 'docs/x.md']);
  });
});
