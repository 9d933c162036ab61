import { Limiter } from 'tallymesh';

const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];

/** The limiter of this process: Next bundles each route by itself, and `next build` loads them too, which opens nothing. */
export const limiter = (globalThis.limiter ??= Limiter.lazy({ node: { id: 'a' }, storage: { inMemory: true }, limits }));
