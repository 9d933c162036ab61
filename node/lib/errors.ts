/** What went wrong, for programs. */
export type TallymeshErrorCode =
  | 'TALLYMESH_INVALID_INPUT'
  | 'TALLYMESH_CONFIG'
  | 'TALLYMESH_OPEN'
  | 'TALLYMESH_DURABILITY'
  | 'TALLYMESH_CLOSED'
  | 'TALLYMESH_COUNTER'
  | 'TALLYMESH_RECEIPT'
  | 'TALLYMESH_PANIC';

/** Every error of this package. The message says what is wrong and what to do. */
export abstract class TallymeshError extends Error {
  /** What went wrong, for programs. */
  abstract readonly code: TallymeshErrorCode;

  /** @internal */
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** An argument cannot be used: a wrong type, an empty text, a number out of range. Nothing was counted. */
export class InvalidInputError extends TallymeshError {
  readonly code = 'TALLYMESH_INVALID_INPUT';
}

/** The settings cannot be used. */
export class ConfigError extends TallymeshError {
  readonly code = 'TALLYMESH_CONFIG';
}

/** The limiter cannot be opened: its directory is in use or not writable, or its address is taken. */
export class OpenError extends TallymeshError {
  readonly code = 'TALLYMESH_OPEN';
}

/** What was counted could not be made durable. It is counted in memory and told to the peers all the same. */
export class DurabilityError extends TallymeshError {
  readonly code = 'TALLYMESH_DURABILITY';
}

/** The limiter is closed. */
export class ClosedError extends TallymeshError {
  readonly code = 'TALLYMESH_CLOSED';
}

/** A counter was not changed: its key is too long, or as many counters are held as `maxCounters` allows. */
export class CounterError extends TallymeshError {
  readonly code = 'TALLYMESH_COUNTER';
}

/** A receipt was refunded before, or is too old. */
export class ReceiptError extends TallymeshError {
  readonly code = 'TALLYMESH_RECEIPT';
}

/** A bug in the native half. The call that threw did not complete; the limiter goes on. */
export class PanicError extends TallymeshError {
  readonly code = 'TALLYMESH_PANIC';
}

const CLASSES: Record<TallymeshErrorCode, new (message: string) => TallymeshError> = {
  TALLYMESH_INVALID_INPUT: InvalidInputError,
  TALLYMESH_CONFIG: ConfigError,
  TALLYMESH_OPEN: OpenError,
  TALLYMESH_DURABILITY: DurabilityError,
  TALLYMESH_CLOSED: ClosedError,
  TALLYMESH_COUNTER: CounterError,
  TALLYMESH_RECEIPT: ReceiptError,
  TALLYMESH_PANIC: PanicError,
};

/**
 * Makes what the native half threw, `CODE message`, one of the classes above.
 *
 * @internal
 */
export function asTallymeshError(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown instanceof TallymeshError) return thrown;
  const [code, message] = split(thrown.message);
  if (!Object.hasOwn(CLASSES, code)) return thrown;
  return new CLASSES[code as TallymeshErrorCode](message);
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
