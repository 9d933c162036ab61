const { Limiter } = require('tallymesh');
const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];
Limiter.open({ node: { id: 'a' }, storage: { inMemory: true }, limits }).then(async (limiter) => {
  const answers = [1, 2].map(() => limiter.acquire({ session: 's1' }).allowed);
  if (String(answers) === 'true,false') console.log('denied the second call');
  await limiter.close();
});
if (process.argv[2] !== undefined) require('node:assert').equal(process.versions.node.split('.')[0], process.argv[2]);
