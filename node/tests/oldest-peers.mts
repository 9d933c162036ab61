/** Gives the package the oldest versions of its peers, which are installed under names of their own. The tests get them by an alias. */
import Module from 'node:module';

const OLDEST: Readonly<Record<string, string>> = {
  'express-rate-limit': 'express-rate-limit-7',
  'rate-limiter-flexible': 'rate-limiter-flexible-5',
};

process.env['TALLYMESH_TEST_PEERS'] = 'oldest';

type Resolve = (request: string, ...rest: unknown[]) => string;
const loader = Module as unknown as { _resolveFilename: Resolve };
const resolve = loader._resolveFilename;
loader._resolveFilename = function (this: unknown, request, ...rest) {
  return resolve.call(this, OLDEST[request] ?? request, ...rest);
};
