/** What counts the calls of one tool, in a session or in a turn. */
export interface CallCounter {
  /** How many calls there were, as far as is known. Never throws. */
  value(): number;
  /**
   * How many calls there were, once it is certain that another can be counted.
   *
   * @throws {@link CounterError} or {@link ClosedError} when it cannot
   */
  reserve(): number;
  /** Counts one, also past `max`. Never throws. */
  add(max: number): void;
  /**
   * Counts one if there were fewer than `max`, in one step; returns whether it did.
   *
   * @throws {@link CounterError} or {@link ClosedError} when it cannot count
   */
  tryAdd(max: number): boolean;
  /** Takes one back, if there is one; returns whether there was. Never throws. */
  take(): boolean;
  /**
   * Back to none.
   *
   * @throws {@link CounterError} or {@link ClosedError} when it cannot be reset
   */
  reset(): void;
  /** Back to none before anything else is asked of it here. Never throws. */
  resetSoon(): void;
}

/** Counts in memory. */
export class MemoryCallCounter implements CallCounter {
  #count = 0;

  value(): number {
    return this.#count;
  }

  reserve(): number {
    return this.#count;
  }

  add(): void {
    this.#count += 1;
  }

  tryAdd(max: number): boolean {
    if (this.#count >= max) return false;
    this.#count += 1;
    return true;
  }

  take(): boolean {
    if (this.#count === 0) return false;
    this.#count -= 1;
    return true;
  }

  reset(): void {
    this.#count = 0;
  }

  resetSoon(): void {
    this.#count = 0;
  }
}
