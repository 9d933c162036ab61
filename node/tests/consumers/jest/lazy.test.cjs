const { Limiter } = require('tallymesh');

// While the module loads, where nothing can be awaited.
const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];
const limiter = Limiter.lazy({ node: { id: 'a' }, storage: { inMemory: true }, limits });
const book = () => limiter.acquire({});

beforeAll(() => limiter.open());
afterAll(() => limiter.close());

test('denies the second call of a limiter that was made while the module loaded', async () => {
  await limiter.withLabels({ session: 's1' }, async () => {
    expect(book()).toMatchObject({ allowed: true, remaining: 0 });
    await Promise.resolve();
    expect(book()).toMatchObject({ allowed: false, limit: 'bookings' });
  });
  expect(limiter.labels()).toEqual({});
});
