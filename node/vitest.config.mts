import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.test.mts'],
    // A process of its own for each file: the tests start and kill nodes.
    pool: 'forks',
    // The package is loaded as its users load it.
    server: { deps: { external: [/\/dist\//] } },
    testTimeout: 30_000,
  },
});
