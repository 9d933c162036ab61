import { Limiter } from 'tallymesh';

import { main } from './consumer.js';

// The same class, imported as a module and required.
export const limiter: typeof Limiter = Limiter;
await main();
