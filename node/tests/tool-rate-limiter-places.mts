/** Where a tool rate limiter can count, for tests that must pass in each of these places. */
import { onTestFinished } from 'vitest';
import {
  Limiter,
  ToolRateLimiter,
  type Config,
  type ToolRateLimiters,
  type ToolRateLimitersOptions,
  type ToolTurn,
} from 'tallymesh';

import { freeAddress, inMemory, temporaryDirectory, until } from './support.mjs';

export const LIMITS = { book: { maxPerTurn: 1, maxPerSession: 3 }, read: { maxPerTurn: 2, maxPerSession: 50 } };

/** One tool rate limiter as a test sees it; on two instances, it is two, and each question goes to the other one. */
export class Asked {
  #next = 0;

  constructor(
    private readonly objects: readonly ToolRateLimiter[],
    private readonly settled: () => Promise<void>,
  ) {}

  /** Asks something, and waits until all instances know what came of it. */
  async ask<Answer>(question: (tools: ToolRateLimiter) => Answer): Promise<Answer> {
    const tools = this.objects[this.#next++ % this.objects.length];
    if (tools === undefined) throw new Error('there is no object');
    const answer = question(tools);
    await this.settled();
    return answer;
  }

  canCall(tool: string) {
    return this.ask((tools) => tools.canCall(tool));
  }

  async allowed(tool: string): Promise<boolean> {
    return (await this.canCall(tool)).allowed;
  }

  tryCall(tool: string) {
    return this.ask((tools) => tools.tryCall(tool));
  }

  async recordCall(tool: string, times = 1): Promise<void> {
    for (let time = 0; time < times; time += 1) await this.ask((tools) => tools.recordCall(tool));
  }

  resetTurn() {
    return this.ask((tools) => tools.resetTurn());
  }

  reset() {
    return this.ask((tools) => tools.reset());
  }

  getStats() {
    return this.ask((tools) => tools.getStats());
  }
}

/** A server with one maker of tool rate limiters for all sessions, on each of its instances. */
export class Place {
  #limiters: Limiter[] = [];
  #makers: ToolRateLimiters[] = [];

  private constructor(
    private readonly configs: readonly Config[],
    private readonly options: ToolRateLimitersOptions,
  ) {}

  static async open(configs: readonly Config[], options: ToolRateLimitersOptions): Promise<Place> {
    const place = new Place(configs, options);
    onTestFinished(() => place.close());
    await place.#start();
    return place;
  }

  get instances(): number {
    return this.configs.length;
  }

  /** The limiter of a session, as a new connection gets it. */
  of(session: string, turn?: ToolTurn): Asked {
    return new Asked(
      this.#makers.map((of) => of(session, turn)),
      () => this.settled(),
    );
  }

  /** The same on one instance alone. */
  at(instance: number, session: string, turn?: ToolTurn): Asked {
    const of = this.#makers[instance % this.instances];
    if (of === undefined) throw new Error('there is no such instance');
    return new Asked([of(session, turn)], () => this.settled());
  }

  /** Stops every instance and starts it again. */
  async restart(): Promise<void> {
    await this.close();
    await this.#start();
  }

  async close(): Promise<void> {
    await Promise.all(this.#limiters.map((limiter) => limiter.close()));
  }

  /** Waits until all instances have the same counts. */
  async settled(): Promise<void> {
    const [first, ...others] = this.#limiters;
    if (first === undefined || others.length === 0 || this.#isClosed()) return;
    await until('all instances have the same counts', async () => {
      const counts = await countsOf(first);
      for (const other of others) if ((await countsOf(other)) !== counts) return false;
      return true;
    });
  }

  #isClosed(): boolean {
    try {
      this.#limiters.forEach((limiter) => limiter.status());
      return false;
    } catch {
      return true;
    }
  }

  async #start(): Promise<void> {
    this.#limiters = await Promise.all(this.configs.map((config) => Limiter.open(config)));
    this.#makers = this.#limiters.map((limiter) => limiter.toolRateLimiters(this.options));
    const connected = () => this.#limiters.every((limiter) => limiter.peers().every((peer) => peer.connected));
    await until('all are connected', connected);
  }
}

async function countsOf(limiter: Limiter): Promise<string> {
  const counted = (await limiter.counters().toArray()).filter(({ value }) => value > 0n);
  return counted
    .map(({ limit, values, value }) => JSON.stringify([limit, values, String(value)]))
    .sort()
    .join();
}

type Opens = (options?: ToolRateLimitersOptions, counters?: Config['counters']) => Promise<Place>;

/** Opens a place, with other limits or bounds if need be. */
export const PLACES: Readonly<Record<'in memory' | 'with a store' | 'on two instances', Opens>> = {
  'in memory': (options = { limits: LIMITS }, counters = {}) => Place.open([{ ...inMemory(), counters }], options),
  'with a store': (options = { limits: LIMITS }, counters = {}) =>
    Place.open([{ node: { id: 'a', dataDir: temporaryDirectory() }, counters }], options),
  'on two instances': async (options = { limits: LIMITS }, counters = {}) => {
    const addresses = [await freeAddress(), await freeAddress()] as const;
    const config = (id: string, own: string, other: string): Config => ({
      node: { id, dataDir: temporaryDirectory() },
      gossip: { listen: own, peers: [other], interval: '2ms' },
      counters,
    });
    return Place.open([config('a', ...addresses), config('b', addresses[1], addresses[0])], options);
  },
};
