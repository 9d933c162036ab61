import type { CallCounter } from './call-counter.js';
import { CounterError, call } from './errors.js';
import type { LimiterHandle } from './limiter-handle.js';
import { native } from './native.js';

/** Lets the native half forget the counters of tool rate limiters that are gone. */
const forgotten = new FinalizationRegistry((numbers: number[]) => numbers.forEach((number) => native.counterRelease(number)));

/** Where the counters of one session are: in which limiter, and for how long after their last change. */
export class CounterPlace {
  readonly #limiter: LimiterHandle;
  readonly #ttlMs: number;
  /** Why nothing can be counted there. */
  readonly #uncountable: string | undefined;
  readonly #numbers: number[] = [];

  /** @param owner - the counters are forgotten here when it is gone */
  constructor(limiter: LimiterHandle, ttlMs: number, uncountable: string | undefined, owner: object) {
    this.#limiter = limiter;
    this.#ttlMs = ttlMs;
    this.#uncountable = uncountable;
    forgotten.register(owner, this.#numbers);
  }

  /**
   * The number of the counter of this name and these values, which a NUL parts.
   *
   * @throws {@link CounterError} when there can be none, or what {@link LimiterHandle.now} throws
   */
  open(name: string, values: string): number {
    if (this.#uncountable !== undefined) throw new CounterError(this.#uncountable);
    const limiter = this.#limiter.now();
    const number = call(() => native.counterOpen(limiter, name, values, this.#ttlMs));
    this.#numbers.push(number);
    return number;
  }

  /** Whether nothing can be counted there yet; see {@link LimiterHandle.isPending}. */
  isPending(): boolean {
    return this.#limiter.isPending();
  }

  /** Forgets a number; the counter stays. */
  close(number: number): void {
    native.counterRelease(number);
    this.#numbers.splice(this.#numbers.indexOf(number), 1);
  }
}

/** Counts in the store. What the store cannot count, and was done all the same, is counted here. */
export class StoreCallCounter implements CallCounter {
  readonly #place: CounterPlace;
  readonly #name: string;
  readonly #values: string;
  #number: number | undefined;
  /** What the store said last. */
  #seen = 0;
  /** What only this object has counted. */
  #own = 0;
  #resets = false;

  constructor(place: CounterPlace, name: string, values: string) {
    this.#place = place;
    this.#name = name;
    this.#values = values;
  }

  value(): number {
    // What only looks does not open a lazy limiter.
    if (this.#place.isPending()) return this.#said(this.#seen);
    try {
      return this.#said(call(() => native.counterValue(this.#counter())));
    } catch {
      return this.#said(this.#seen);
    }
  }

  reserve(): number {
    return this.#said(call(() => native.counterReserve(this.#counter())));
  }

  add(max: number): void {
    try {
      this.#said(call(() => native.counterAdd(this.#counter(), max)));
    } catch {
      this.#own += 1;
    }
  }

  tryAdd(max: number): boolean {
    if (this.#own > 0 && this.reserve() >= max) return false;
    const value = call(() => native.counterTry(this.#counter(), max));
    if (value >= 0) this.#said(value);
    return value >= 0;
  }

  take(): boolean {
    if (this.#own > 0) {
      this.#own -= 1;
      return true;
    }
    try {
      return call(() => native.counterTake(this.#counter())) > 0;
    } catch {
      return false;
    }
  }

  reset(): void {
    call(() => native.counterReset(this.#counter()));
    this.#said(0);
    this.#own = 0;
  }

  resetSoon(): void {
    this.#own = 0;
    this.#seen = 0;
    this.#resets = true;
    // Others must not wait for what is asked here next.
    this.value();
  }

  /** Forgets the counter here; it stays in the store. */
  close(): void {
    if (this.#number !== undefined) this.#place.close(this.#number);
    this.#number = undefined;
  }

  /** The counter's number, once what was put off is done. */
  #counter(): number {
    this.#number ??= this.#place.open(this.#name, this.#values);
    if (this.#resets) {
      if (native.counterValue(this.#number) > 0) native.counterReset(this.#number);
      this.#resets = false;
      this.#seen = 0;
    }
    return this.#number;
  }

  #said(value: number): number {
    this.#seen = value;
    return value + this.#own;
  }
}

/**
 * Counts in the store in a counter for each turn, by the turn's number: for tools whose names are not known where a turn ends, so
 * that their counters could not be reset there. When the number is another one, the counts of the turn before are past.
 */
export class NumberedCallCounter implements CallCounter {
  readonly #turns: CallCounter;
  readonly #counterOf: (turn: number) => StoreCallCounter;
  #turn: number;
  #counter: StoreCallCounter;

  /** @param turns - how many turns have ended */
  constructor(turns: CallCounter, counterOf: (turn: number) => StoreCallCounter) {
    this.#turns = turns;
    this.#counterOf = counterOf;
    this.#turn = turns.value();
    this.#counter = counterOf(this.#turn);
  }

  value(): number {
    return this.#now().value();
  }

  reserve(): number {
    return this.#now().reserve();
  }

  add(max: number): void {
    this.#now().add(max);
  }

  tryAdd(max: number): boolean {
    return this.#now().tryAdd(max);
  }

  take(): boolean {
    return this.#now().take();
  }

  reset(): void {
    this.#now().reset();
  }

  resetSoon(): void {
    // The turn has another number by now.
  }

  #now(): StoreCallCounter {
    const turn = this.#turns.value();
    if (turn !== this.#turn) {
      this.#counter.close();
      this.#turn = turn;
      this.#counter = this.#counterOf(turn);
    }
    return this.#counter;
  }
}
