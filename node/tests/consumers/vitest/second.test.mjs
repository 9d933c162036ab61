import { expect, test } from 'vitest';
import { Limiter } from 'tallymesh';

test('denies the second call', async () => {
  const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];
  const limiter = await Limiter.open({ node: { id: 'a' }, storage: { inMemory: true }, limits });
  expect(limiter.acquire({ session: 's1' })).toMatchObject({ allowed: true, remaining: 0 });
  expect(limiter.acquire({ session: 's1' })).toMatchObject({ allowed: false, limit: 'bookings' });
  await limiter.close();
});
