import { defineConfig } from 'vitest/config';

const common = {
  // A process of its own for each file: the tests start and kill nodes.
  pool: 'forks' as const,
  // The package is loaded as its users load it.
  server: { deps: { external: [/\/dist\//] } },
  testTimeout: 30_000,
};

export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'package', include: ['tests/**/*.test.mts'] } },
      {
        // The adapters once more, with the oldest versions of the packages that they are made for.
        test: {
          ...common,
          name: 'oldest peers',
          include: ['tests/express-rate-limit.test.mts', 'tests/rate-limiter-flexible.test.mts'],
          setupFiles: ['tests/oldest-peers.mts'],
          alias: [
            { find: /^express-rate-limit$/, replacement: 'express-rate-limit-7' },
            { find: /^rate-limiter-flexible$/, replacement: 'rate-limiter-flexible-5' },
          ],
        },
      },
    ],
  },
});
