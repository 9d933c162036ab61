import type { TallymeshErrorCode } from './errors.js';

/** The oldest glibc that the binaries for Linux load on: that of the machine they are built on decides. A test measures it. */
export const OLDEST_GLIBC = '2.34';

/** The platforms that a binary exists for, and the package that holds it. */
export const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': 'tallymesh-linux-x64-gnu',
  'linux-arm64': 'tallymesh-linux-arm64-gnu',
  'darwin-x64': 'tallymesh-darwin-x64',
  'darwin-arm64': 'tallymesh-darwin-arm64',
  'win32-x64': 'tallymesh-win32-x64-msvc',
};

const SUPPORTED = `Linux (x64, arm64; glibc ${OLDEST_GLIBC} or newer), macOS (x64, arm64) and Windows (x64)`;

/** Where the package runs, as far as it decides which binary loads. */
export interface Platform {
  /** `process.platform` and `process.arch`. */
  name: string;
  /** The version of glibc, where the system has it. */
  glibc: string | undefined;
}

/** Thrown when the package is loaded and has no binary that loads here; `cause` is what the last try threw. */
export function noBinaryError(errors: readonly unknown[]): Error & { code: TallymeshErrorCode } {
  const error = new Error(whyNoBinary(here(), errors), { cause: errors.at(-1) });
  const code: TallymeshErrorCode = 'TALLYMESH_NO_BINARY';
  // As of the errors that have a class, without which `JSON.stringify` leaves the message out.
  Object.defineProperty(error, 'toJSON', { value: () => ({ name: error.name, code, message: error.message }) });
  return Object.assign(error, { code });
}

/** Says why no binary loaded on this platform, and what to do. `errors` is what each try threw. */
export function whyNoBinary({ name, glibc }: Platform, errors: readonly unknown[]): string {
  const required = PACKAGES[name];
  if (required === undefined) return `tallymesh has no binary for ${name}: there are binaries for ${SUPPORTED}.`;
  if (name.startsWith('linux') && glibc === undefined) {
    return `tallymesh has no binary for ${name} without glibc, such as Alpine with musl: there are binaries for ${SUPPORTED}. Use an image with glibc, such as node:22-slim.`;
  }
  if (glibc !== undefined && isOlder(glibc, OLDEST_GLIBC)) {
    return `tallymesh needs glibc ${OLDEST_GLIBC} or newer, and this system has ${glibc}: use a newer one, such as Debian 12 or Ubuntu 22.04.`;
  }
  const broken = errors.find((error) => !isMissing(error));
  if (broken !== undefined) return `The binary of tallymesh for ${name} does not load: ${textOf(broken)}`;
  return (
    `The package ${required}, which holds the binary of tallymesh for ${name}, is not installed. Install again on this platform and ` +
    'without --omit=optional; if this is a bundle, declare tallymesh external and install it beside the bundle.'
  );
}

function here(): Platform {
  const name = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return { name, glibc: undefined };
  const report = process.report as typeof process.report & { excludeNetwork?: boolean };
  const { excludeNetwork } = report;
  // Otherwise it looks up the name of the peer of each open connection.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
  report.excludeNetwork = excludeNetwork ?? false;
  return { name, glibc: header?.glibcVersionRuntime };
}

function isOlder(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [thanMajor = 0, thanMinor = 0] = than.split('.').map(Number);
  return major < thanMajor || (major === thanMajor && minor < thanMinor);
}

/** True if the file or package was not found. Not by `instanceof`: the error may come from another realm, as under Jest. */
function isMissing(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 'MODULE_NOT_FOUND';
}

function textOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);
}
