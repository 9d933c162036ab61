import { Limiter } from 'tallymesh';
import { TallymeshStore } from 'tallymesh/express-rate-limit';

const limits = [{ name: 'bookings', per: ['session'], max: 1, window: 'session' }];
const limiter = await Limiter.open({ node: { id: 'a' }, storage: { inMemory: true }, limits });
new TallymeshStore({ limiter, prefix: 'api' });
const answers = [1, 2].map(() => limiter.acquire({ session: 's1' }).allowed);
if (String(answers) === 'true,false') console.log('denied the second call');
await limiter.close();
