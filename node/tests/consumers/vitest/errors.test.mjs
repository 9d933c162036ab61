import { expect, test } from 'vitest';
import { ClosedError, ConfigError, DeniedError, Limiter, OpenError, TallymeshError } from 'tallymesh';

const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];
const config = { node: { id: 'a' }, storage: { inMemory: true }, limits };

// The first is refused in JavaScript, the second by the native half, whose errors are of the realm of the process.
test.each([
  [60, 'config.limits[0].window is 60: give a string: "session", or 1ms to 366 days, such as "60s"; is "60s" meant?'],
  [
    'daily',
    'config.limits[0].window = "daily" (of the limit "bookings") is not allowed: "session" or a duration such as "60s" or "1h"',
  ],
])('says that the window %j is wrong', async (window, message) => {
  const error = await Limiter.open({ ...config, limits: [{ ...limits[0], window }] }).catch((error) => error);
  for (const of of [ConfigError, TallymeshError, Error]) expect(error).toBeInstanceOf(of);
  expect(error).not.toBeInstanceOf(OpenError);
  expect(error).toMatchObject({ name: 'ConfigError', code: 'TALLYMESH_CONFIG', message });
});

test('throws errors of its classes', async () => {
  const limiter = await Limiter.open(config);
  limiter.acquire({ session: 's1' });
  expect(() => limiter.acquire({ session: 's1' }).orThrow()).toThrow(DeniedError);
  await limiter.close();
  expect(() => limiter.acquire({ session: 's1' })).toThrow(ClosedError);
  await expect(limiter.flush()).rejects.toMatchObject({ code: 'TALLYMESH_CLOSED' });
});
