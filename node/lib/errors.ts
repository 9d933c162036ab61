import { brand } from './brand.js';
import type { DenialCause, Peek } from './decision.js';

/** Why a refund is refused, for programs: see {@link RefundError}. */
export type RefundErrorCode =
  'OTHER_LIMITER' | 'OTHER_LIFE' | 'OTHER_THREAD' | 'UNKNOWN' | 'USED' | 'EXPIRED' | 'NOT_MINE' | 'INVALID';

/**
 * What went wrong, for programs. `TALLYMESH_NO_BINARY` is thrown by the import of the package, where no binary of it loads, so of none of
 * the classes: the message says for which platforms there are binaries.
 */
export type TallymeshErrorCode =
  | 'TALLYMESH_INVALID_INPUT'
  | 'TALLYMESH_CONFIG'
  | 'TALLYMESH_OPEN'
  | 'TALLYMESH_DURABILITY'
  | 'TALLYMESH_CLOSED'
  | 'TALLYMESH_COUNTER'
  | 'TALLYMESH_DENIED'
  | 'TALLYMESH_PANIC'
  | 'TALLYMESH_PEER_PACKAGE'
  | 'TALLYMESH_NO_BINARY'
  | RefundErrorCode;

/** Every error of this package. The message says what is wrong and what to do. */
export abstract class TallymeshError extends Error {
  /** What went wrong, for programs. */
  abstract readonly code: TallymeshErrorCode;

  static {
    nameClass(this, 'TallymeshError');
  }

  /** @internal */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    // The classes of this package have theirs, also where a bundler renames them; a subclass of a user's is called as it is.
    if (Object.hasOwn(new.target.prototype, 'name')) return;
    Object.defineProperty(this, 'name', { value: new.target.name, configurable: true, writable: true });
  }

  /**
   * The error as `JSON.stringify` shows it: its name, code, message and fields, without the stack. A structured clone, such as
   * `postMessage` makes, keeps message and stack of any error, and neither class nor code: send this where they are needed.
   */
  toJSON(): ErrorJson {
    return { name: this.name, code: this.code, message: this.message, ...(this as object) };
  }
}

/** An error as JSON. */
export interface ErrorJson {
  /** The name of its class. */
  readonly name: string;
  /** What went wrong, for programs. */
  readonly code: TallymeshErrorCode;
  /** What is wrong, and what to do. */
  readonly message: string;
  /** What else the class has: of a {@link DeniedError} its `limit`, `retryAfterMs` and so on. */
  readonly [field: string]: unknown;
}

/** Gives the class its brand, and its errors their name. */
function nameClass(of: { readonly prototype: TallymeshError }, name: string): void {
  brand(of, name);
  Object.defineProperty(of.prototype, 'name', { value: name, configurable: true, writable: true });
}

/** An argument cannot be used: a wrong type, an empty text, a number out of range. Nothing was counted. */
export class InvalidInputError extends TallymeshError {
  readonly code = 'TALLYMESH_INVALID_INPUT';

  static {
    nameClass(this, 'InvalidInputError');
  }
}

/** The settings cannot be used. */
export class ConfigError extends TallymeshError {
  readonly code = 'TALLYMESH_CONFIG';

  static {
    nameClass(this, 'ConfigError');
  }
}

/** The limiter cannot be opened: its directory is in use or not writable, or its address is taken. */
export class OpenError extends TallymeshError {
  readonly code = 'TALLYMESH_OPEN';

  static {
    nameClass(this, 'OpenError');
  }
}

/** What was counted could not be made durable: it is in memory, and known to the peers. What `acquireDurable` charged is taken back. */
export class DurabilityError extends TallymeshError {
  readonly code = 'TALLYMESH_DURABILITY';

  static {
    nameClass(this, 'DurabilityError');
  }
}

/** The limiter is closed. */
export class ClosedError extends TallymeshError {
  readonly code = 'TALLYMESH_CLOSED';

  static {
    nameClass(this, 'ClosedError');
  }
}

/** A counter was not changed: its key is too long, or as many counters are held as `maxCounters` allows. */
export class CounterError extends TallymeshError {
  readonly code = 'TALLYMESH_COUNTER';

  static {
    nameClass(this, 'CounterError');
  }
}

/**
 * A charge was not taken back, and nothing was changed. The receipt or token is
 *
 * - `OTHER_LIMITER`: of another limiter that is open in this process;
 * - `OTHER_LIFE`: of a limiter that is not open here, or of this one before it was opened again;
 * - `OTHER_THREAD`: of this limiter in another thread;
 * - `UNKNOWN`: none that any admission was given;
 * - `USED`: used before;
 * - `EXPIRED`: older than the latest 65,536 receipts of its thread, or tokens of its node;
 * - `NOT_MINE` (a token): of another node, the one in `node`;
 * - `INVALID` (a token): made up or changed.
 */
export class RefundError extends TallymeshError {
  static {
    nameClass(this, 'RefundError');
  }

  /** @internal */
  constructor(
    readonly code: RefundErrorCode,
    message: string,
    /** `NOT_MINE`: the name of the node that the token is of. */
    readonly node?: string,
  ) {
    super(message);
  }
}

/** A request was denied: what {@link Decision.orThrow} throws. The message is the `reason`. */
export class DeniedError extends TallymeshError {
  readonly code = 'TALLYMESH_DENIED';
  /** Why, for people. */
  readonly reason: string;
  /** Why, for programs. */
  override readonly cause: DenialCause;
  /** The name of the limit that denied; undefined if the request was refused before any limit was looked at. */
  readonly limit: string | undefined;
  /** What is left under that limit. */
  readonly remaining: number;
  /** How long to wait, in milliseconds; undefined where that does not help. */
  readonly retryAfterMs: number | undefined;
  /** The label that the request lacks; undefined unless that is why. */
  readonly missingLabel: string | undefined;

  static {
    nameClass(this, 'DeniedError');
  }

  /** @internal */
  constructor(denied: Peek) {
    const { reason = 'denied', cause = 'other', limit, remaining, retryAfterMs, missingLabel } = denied;
    super(reason);
    this.reason = reason;
    this.cause = cause;
    this.limit = limit;
    this.remaining = remaining;
    this.retryAfterMs = retryAfterMs;
    this.missingLabel = missingLabel;
  }
}

/** A bug in the native half. The call that threw did not complete; the limiter goes on. */
export class PanicError extends TallymeshError {
  readonly code = 'TALLYMESH_PANIC';

  static {
    nameClass(this, 'PanicError');
  }
}

/** The package that an adapter is made for is not installed, or is of a version that the adapter does not work with. */
export class PeerPackageError extends TallymeshError {
  readonly code = 'TALLYMESH_PEER_PACKAGE';

  static {
    nameClass(this, 'PeerPackageError');
  }
}

/** What the native half throws. */
type NativeCode = Exclude<
  TallymeshErrorCode,
  RefundErrorCode | 'TALLYMESH_DENIED' | 'TALLYMESH_PEER_PACKAGE' | 'TALLYMESH_NO_BINARY'
>;

const CLASSES: Record<NativeCode, new (message: string) => TallymeshError> = {
  TALLYMESH_INVALID_INPUT: InvalidInputError,
  TALLYMESH_CONFIG: ConfigError,
  TALLYMESH_OPEN: OpenError,
  TALLYMESH_DURABILITY: DurabilityError,
  TALLYMESH_CLOSED: ClosedError,
  TALLYMESH_COUNTER: CounterError,
  TALLYMESH_PANIC: PanicError,
};

const REFUND_CODES: ReadonlySet<string> = new Set<RefundErrorCode>([
  'OTHER_LIMITER',
  'OTHER_LIFE',
  'OTHER_THREAD',
  'UNKNOWN',
  'USED',
  'EXPIRED',
  'INVALID',
]);

/** The status that napi gives an error: `GenericFailure`, `InvalidArg`, and so on. What Node.js itself throws has other codes. */
const NATIVE_STATUS = /^[A-Z][A-Za-z]+$/;

/**
 * Makes what the native half threw, `CODE message`, one of the classes above. It may be an error of another realm than this, that of
 * the process, so it is known by its fields.
 *
 * @internal
 */
export function asTallymeshError(thrown: unknown): unknown {
  if (typeof thrown !== 'object' || thrown === null || thrown instanceof TallymeshError) return thrown;
  const { message: text, code: status } = thrown as { message?: unknown; code?: unknown };
  if (typeof text !== 'string' || typeof status !== 'string' || !NATIVE_STATUS.test(status)) return thrown;
  const [code, message] = split(text);
  if (code === 'NOT_MINE') {
    const [node, rest] = split(message);
    return new RefundError(code, rest, node);
  }
  if (REFUND_CODES.has(code)) return new RefundError(code as RefundErrorCode, message);
  if (!Object.hasOwn(CLASSES, code)) return new PanicError(`a bug in tallymesh, please report it: ${text}`, { cause: thrown });
  return new CLASSES[code as NativeCode](message);
}

/**
 * Calls the native half, with its errors made ours.
 *
 * @internal
 */
export function call<T>(ask: () => T): T {
  try {
    return ask();
  } catch (thrown) {
    throw asTallymeshError(thrown);
  }
}

/**
 * Waits for what the native half promised, with its errors made ours.
 *
 * @internal
 */
export async function settled<T>(begin: () => Promise<T>): Promise<T> {
  try {
    return await begin();
  } catch (thrown) {
    throw asTallymeshError(thrown);
  }
}

function split(text: string): [string, string] {
  const space = text.indexOf(' ');
  return [text.slice(0, space), text.slice(space + 1)];
}
