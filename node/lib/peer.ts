/** The packages that the adapters are made for: which versions of them, and what is said where one is missing. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { PeerPackageError } from './errors.js';

/** The first and the last major version of a package that its adapter is tested with; `peerDependencies` has the same range. */
export interface PeerRange {
  readonly name: string;
  readonly first: number;
  readonly last: number;
}

/** What `load` returns; where the package is not installed, an error that says what to install. */
export function loaded<Package>(peer: PeerRange, load: () => Package): Package {
  try {
    return load();
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code !== 'MODULE_NOT_FOUND' || !message.includes(`'${peer.name}'`)) throw thrown;
    throw new PeerPackageError(
      `tallymesh/${peer.name} needs the package ${range(peer)}, which is not installed: ${advice(peer)}`,
    );
  }
}

/**
 * Refuses a version that the adapter is not tested with. Where none can be told, since the package is not installed beside this one
 * or is part of a bundle, nothing is refused.
 */
export function checkVersion(peer: PeerRange): void {
  const version = versionOf(peer.name);
  const major = Number.parseInt(version ?? '', 10);
  if (version === undefined || Number.isNaN(major) || (major >= peer.first && major <= peer.last)) return;
  const old = major < peer.first ? 'old' : 'new';
  throw new PeerPackageError(`tallymesh/${peer.name} works with ${range(peer)}; ${version} is too ${old}: ${advice(peer)}`);
}

function versionOf(name: string): string | undefined {
  try {
    // Not by `require.resolve`, at which bundlers warn.
    const main = createRequire(__filename).resolve(name);
    for (let directory = dirname(main); directory !== dirname(directory); directory = dirname(directory)) {
      const manifest = manifestIn(directory);
      if (manifest?.name === name) return manifest.version;
    }
  } catch {
    // It is not there, or not a file.
  }
  return undefined;
}

function manifestIn(directory: string): { name?: string; version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { name?: string; version?: string };
  } catch {
    return undefined;
  }
}

function range({ name, first, last }: PeerRange): string {
  return `${name} ${first} to ${last}`;
}

function advice({ name, last }: PeerRange): string {
  return `npm install ${name}@${last}`;
}
