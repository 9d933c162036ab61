import { setImmediate as breathe } from 'node:timers/promises';

import { brand } from './brand.js';
import { call } from './errors.js';
import { native } from './native.js';
import type { CounterReport } from './reports.js';
import { refuseClones } from './shown.js';

/** How many counters are read at once: about a millisecond's worth. */
const PAGE = 256;

/**
 * Every counter that has not ended, in no particular order: what {@link Limiter.counters} returns. Counters that change
 * meanwhile are shown as they were at some moment of the iteration. Each iteration begins with the first one.
 *
 * Read are 256 at a time, and between two of these pages the event loop goes on, so that a listing of many counters holds up no
 * decision.
 *
 * @example
 * ```ts
 * for await (const { limit, values, value } of limiter.counters()) console.log(limit, values, value);
 * ```
 */
export class CounterListing implements AsyncIterable<CounterReport> {
  /** The name of the node whose counters they are. */
  readonly node: string;
  readonly #limiter: number;

  static {
    brand(this, 'CounterListing');
  }

  /** @internal */
  constructor(node: string, limiter: number) {
    this.node = node;
    this.#limiter = limiter;
    refuseClones(this);
  }

  /**
   * One counter after the other.
   *
   * @throws {@link ClosedError} when the limiter is closed, before the first counter or between two
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<CounterReport, void, undefined> {
    for await (const page of this.pages()) yield* page;
  }

  /**
   * The same, in arrays of up to 256 counters.
   *
   * @throws {@link ClosedError} when the limiter is closed, before the first page or between two
   */
  async *pages(): AsyncGenerator<CounterReport[], void, undefined> {
    const listing = call(() => native.listingOpen(this.#limiter));
    try {
      for (;;) {
        const page = call(() => native.listingPage(listing, PAGE));
        for (const counter of page) Object.defineProperty(counter, 'toJSON', { value: counterJson });
        if (page.length > 0) yield page;
        if (page.length < PAGE) return;
        await breathe();
      }
    } finally {
      native.listingClose(listing);
    }
  }

  /**
   * All of them in one array, for which there must be room.
   *
   * @throws {@link ClosedError} when the limiter is closed
   */
  async toArray(): Promise<CounterReport[]> {
    const all: CounterReport[] = [];
    for await (const page of this.pages()) for (const counter of page) all.push(counter);
    return all;
  }
}

/** A counter as `JSON.stringify` shows it, which takes no BigInt: `value` and `credit` as decimal text. */
function counterJson(this: CounterReport): object {
  return { ...this, value: String(this.value), credit: String(this.credit) };
}
