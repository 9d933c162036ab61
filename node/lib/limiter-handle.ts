import { OpenError, TallymeshError } from './errors.js';
import { handleOf, type Limiter } from './limiter.js';

/** An open limiter, or one that is still to be opened, such as what `Limiter.open()` returns. */
export type LimiterSource = Limiter | PromiseLike<Limiter>;

/**
 * The limiter that a part of this package counts in, open or not yet.
 *
 * @internal
 */
export class LimiterHandle {
  #handle: number | undefined;
  #whyNot: unknown;
  readonly #opened: Promise<number> | undefined;

  /**
   * @param counters - what the part's counters are named: no limit of the config may be
   * @throws {@link InvalidInputError} when it is no limiter, or one of whose limits has such a name
   */
  constructor(source: LimiterSource, ...counters: string[]) {
    if (!isPromise(source)) {
      this.#handle = handleOf(source, counters);
      return;
    }
    this.#whyNot = new OpenError('the limiter is not open yet: wait for what Limiter.open() returned');
    const fail = (error: unknown): never => {
      this.#whyNot =
        error instanceof TallymeshError ? error : new OpenError(`the limiter could not be opened: ${String(error)}`);
      warnOnce(error, this.#whyNot as TallymeshError);
      throw this.#whyNot;
    };
    this.#opened = Promise.resolve(source).then((limiter) => {
      try {
        return (this.#handle = handleOf(limiter, counters));
      } catch (error) {
        return fail(error);
      }
    }, fail);
    // It is told to each who asks; nothing waits for this.
    this.#opened.catch(() => undefined);
  }

  /**
   * Its number in the native half.
   *
   * @throws {@link OpenError} as long as it is not open, and then why it could not be opened
   */
  now(): number {
    if (this.#handle === undefined) throw this.#whyNot;
    return this.#handle;
  }

  /** The same, once it is open. Rejects when it cannot be opened. */
  async opened(): Promise<number> {
    return this.#handle ?? (this.#opened as Promise<number>);
  }
}

function isPromise(source: LimiterSource): source is PromiseLike<Limiter> {
  return typeof (source as Partial<PromiseLike<Limiter>> | null | undefined)?.then === 'function';
}

/** What limiters could not be opened for, and was said. */
const warned = new WeakSet<object>();

/**
 * Says why a limiter could not be opened. Since it is waited for here, Node.js does not end the process over the promise that was
 * rejected, and a server that denies every call should not do so in silence.
 */
function warnOnce(reason: unknown, error: TallymeshError): void {
  if (typeof reason === 'object' && reason !== null) {
    if (warned.has(reason)) return;
    warned.add(reason);
  }
  process.emitWarning(error.message, { type: 'TallymeshWarning', code: error.code });
}
