import { Limiter } from 'tallymesh';

const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];

/** The limiter of this process: Next bundles each route by itself, and `next build` loads them too, so it is opened when first asked for. */
export function limiter() {
  return (globalThis.limiter ??= Limiter.open({ node: { id: 'a' }, storage: { inMemory: true }, limits }));
}
