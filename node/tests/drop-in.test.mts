import { expect, it } from 'vitest';
import { ToolRateLimiter, type RateLimitResult } from 'tallymesh';

import { ToolRateLimiter as InMemoryToolRateLimiter } from '../examples/orchestrator/tool-rate-limiter-in-memory.mjs';
import { open } from './support.mjs';

const LIMITS = {
  book: { maxPerTurn: 1, maxPerSession: 3 },
  read: { maxPerTurn: 3, maxPerSession: 8 },
  never: { maxPerTurn: 0, maxPerSession: 0 },
};
const TOOLS = [...Object.keys(LIMITS), 'unnamed', 'other'];

/** Numbers that look random and are the same each time. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state >>> 8;
  }
}

it('answers whatever is asked, in whatever order, as the class that it replaces', async () => {
  const limiter = await open();
  for (let seed = 0; seed < 50; seed += 1) {
    const replaced = new InMemoryToolRateLimiter(LIMITS);
    const replacements = [new ToolRateLimiter(LIMITS), limiter.toolRateLimiter({ session: `session ${seed}`, limits: LIMITS })];
    const random = numbers(seed);
    for (let step = 0; step < 300; step += 1) {
      const tool = TOOLS[random.next().value % TOOLS.length] ?? '';
      const question = random.next().value % 100;
      const ask = (asked: InMemoryToolRateLimiter | ToolRateLimiter): RateLimitResult | void => {
        if (question < 45) return asked.canCall(tool);
        if (question < 85) return asked.recordCall(tool);
        return question < 99 ? asked.resetTurn() : asked.reset();
      };
      const answer = ask(replaced);
      for (const replacement of replacements) {
        expect(ask(replacement)).toStrictEqual(answer);
        expect(replacement.getStats()).toStrictEqual(replaced.getStats());
      }
    }
  }
});
