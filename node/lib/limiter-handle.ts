import { OpenError, TallymeshError } from './errors.js';
import { LazyLimiter } from './lazy-limiter.js';
import { handleOf, type Limiter } from './limiter.js';
import { warnOnce } from './open-warning.js';
import type { Labels } from './request.js';

/** A limiter that is open, or one that is still to be opened: what `Limiter.open()` or `Limiter.lazy()` returns. */
export type LimiterSource = Limiter | LazyLimiter | PromiseLike<Limiter>;

/**
 * The limiter that a part of this package counts in, open or not yet.
 *
 * @internal
 */
export class LimiterHandle {
  readonly #counters: readonly string[];
  /** What has the labels; of a promise, what it was kept with. */
  #limiter: Limiter | LazyLimiter | undefined;
  readonly #lazy: LazyLimiter | undefined;
  readonly #promised: Promise<number> | undefined;
  #handle: number | undefined;
  #whyNot: unknown;

  /**
   * @param counters - what the part's counters are named: no limit of the config may be
   * @throws {@link InvalidInputError} when it is no limiter, or one of whose limits has such a name
   */
  constructor(source: LimiterSource, ...counters: string[]) {
    this.#counters = counters;
    if (source instanceof LazyLimiter) this.#limiter = this.#lazy = source;
    else if (isPromise(source)) this.#promised = this.#await(source);
    else this.#found(source);
  }

  /**
   * Its number in the native half. Asking a lazy limiter opens it.
   *
   * @throws {@link OpenError} as long as it is not open, and then why it could not be opened
   */
  now(): number {
    if (this.#handle !== undefined) return this.#handle;
    if (this.#lazy !== undefined) return this.#found(this.#lazy.now());
    throw this.#whyNot;
  }

  /** The same, once it is open. Rejects when it cannot be opened. */
  async opened(): Promise<number> {
    if (this.#handle !== undefined) return this.#handle;
    if (this.#lazy !== undefined) return this.#found(await this.#lazy.opened());
    return this.#promised as Promise<number>;
  }

  /** Whether it is still to be opened. Asking does not open it. */
  isPending(): boolean {
    if (this.#handle !== undefined) return false;
    const { state } = this.#lazy ?? {};
    return state !== 'open' && state !== 'closed';
  }

  /** The labels in force: see {@link Limiter.withLabels}. */
  labels(): Labels {
    return this.#limiter?.labels() ?? {};
  }

  #found(limiter: Limiter): number {
    this.#handle = handleOf(limiter, this.#counters);
    this.#limiter ??= limiter;
    return this.#handle;
  }

  #await(source: PromiseLike<Limiter>): Promise<number> {
    this.#whyNot = new OpenError('the limiter is not open yet: wait for what Limiter.open() returned');
    const fail = (error: unknown): never => {
      const whyNot =
        error instanceof TallymeshError ? error : new OpenError(`the limiter could not be opened: ${String(error)}`);
      this.#whyNot = whyNot;
      warnOnce(error, whyNot.message);
      throw whyNot;
    };
    const handle = Promise.resolve(source).then((limiter) => {
      try {
        return this.#found(limiter);
      } catch (error) {
        return fail(error);
      }
    }, fail);
    // It is told to each who asks; nothing waits for this.
    handle.catch(() => undefined);
    return handle;
  }
}

function isPromise(source: LimiterSource): source is PromiseLike<Limiter> {
  return typeof (source as Partial<PromiseLike<Limiter>> | null | undefined)?.then === 'function';
}
