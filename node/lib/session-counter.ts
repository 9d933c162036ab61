/** What counts the calls of one tool in a session. */
export interface SessionCounter {
  /** How many calls there were. */
  value(): number;
  /**
   * How many calls there were, once it is certain that another can be counted.
   *
   * @throws {@link CounterError} when it cannot
   */
  reserve(): number;
  /** Counts one, also past `max`. */
  add(max: number): void;
  /** Counts one if there were fewer than `max`, in one step; says whether it did. */
  tryAdd(max: number): boolean;
  /** Back to none. */
  reset(): void;
}

/** Counts in memory. */
export class MemorySessionCounter implements SessionCounter {
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

  reset(): void {
    this.#count = 0;
  }
}
