import { handleOf, type Limiter } from './limiter.js';

/**
 * The limiter that a part of this package counts in.
 *
 * @internal
 */
export class LimiterHandle {
  readonly #handle: number;

  /**
   * @param counters - what the part's counters are named: no limit of the config may be
   * @throws {@link InvalidInputError} when it is no limiter, or one of whose limits has the name
   */
  constructor(limiter: Limiter, counters: string) {
    this.#handle = handleOf(limiter, counters);
  }

  /** Its number in the native half. */
  now(): number {
    return this.#handle;
  }

  /** The same, once it is open. */
  async opened(): Promise<number> {
    return this.#handle;
  }
}
