// A limiter as a provider of a framework such as Nest: made with the container, injected into services, closed with the application.
import assert from 'node:assert/strict';
import { LazyLimiter, Limiter } from 'tallymesh';

/** What a framework makes of providers: it calls their factories, awaits what they return, and hands it to who asks for it. */
class Container {
  readonly #instances = new Map<unknown, unknown>();

  async provide<Instance>(token: unknown, { useFactory }: { useFactory: () => Instance | Promise<Instance> }): Promise<void> {
    this.#instances.set(token, await useFactory());
  }

  get<Instance>(token: abstract new (...given: never[]) => Instance): Instance {
    return this.#instances.get(token) as Instance;
  }

  async close(): Promise<void> {
    for (const instance of this.#instances.values()) await (instance as { close?: () => Promise<void> }).close?.();
  }
}

/** A service: in Nest, `@Injectable()`. */
class Bookings {
  readonly #limiter: LazyLimiter;

  constructor(limiter: LazyLimiter) {
    this.#limiter = limiter;
  }

  book(user: string): boolean {
    return this.#limiter.acquire({ user, tool: 'book_service' }).allowed;
  }
}

const limits = [{ name: 'bookings', when: { tool: 'book_*' }, per: ['user'], max: 1, window: '24h' }];
const container = new Container();
// Though the container awaits it, this opens nothing: a lazy limiter is no promise.
await container.provide(LazyLimiter, {
  useFactory: () => Limiter.lazy({ node: { id: 'a' }, storage: { inMemory: true }, limits }),
});
await container.provide(Bookings, { useFactory: () => new Bookings(container.get(LazyLimiter)) });
const limiter = container.get(LazyLimiter);
assert.equal(limiter.state, 'unopened');

await limiter.open(); // in Nest, in `onModuleInit`
const bookings = container.get(Bookings);
const answers = [bookings.book('u1'), bookings.book('u1'), bookings.book('u2')];
console.log(`booked: ${answers.join(', ')}`);
assert.deepEqual(answers, [true, false, true]);

await container.close(); // in Nest, in `onApplicationShutdown`
assert.equal(limiter.state, 'closed');
