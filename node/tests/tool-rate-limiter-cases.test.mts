/**
 * The cases that the class which this one replaces is held to, in the two files of tests that its server has: 17 and 16. Each must
 * pass for the class alone, and wherever else it can count.
 */
import { describe, expect, it } from 'vitest';
import { DEFAULT_TOOL_RATE_LIMITS, ToolRateLimiter, type ToolRateLimits } from 'tallymesh';

import { Asked, PLACES } from './tool-rate-limiter-places.mjs';

/** Makes a tool rate limiter with these limits, or the default ones. */
type Makes = (limits?: ToolRateLimits) => Promise<Asked>;

const WHERE: Record<string, Makes> = {
  'by itself': async (limits) => new Asked([new ToolRateLimiter(limits)], async () => undefined),
};
for (const [name, open] of Object.entries(PLACES)) {
  WHERE[name] = async (limits) => (await open(limits === undefined ? {} : { limits })).of('s');
}

type Case = readonly [name: string, check: (tools: Asked, make: Makes) => Promise<void>];

/** Uses a tool up to its limit in each of so many turns. */
async function inTurns(tools: Asked, tool: string, turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) {
    expect(await tools.allowed(tool)).toBe(true);
    await tools.recordCall(tool);
    await tools.resetTurn();
  }
}

const FIRST: readonly Case[] = [
  [
    'a first call of any tool is allowed',
    async (tools) => {
      for (const tool of ['update_onboarding_state', 'get_services', 'book_service'])
        expect(await tools.allowed(tool)).toBe(true);
    },
  ],
  ['a tool that the limits do not name is allowed', async (tools) => expect(await tools.allowed('nameless')).toBe(true)],
  [
    'the limit of a turn denies, with scope and maximum in the reason',
    async (tools) => {
      await tools.recordCall('update_onboarding_state');
      const { allowed, reason } = await tools.canCall('update_onboarding_state');
      expect([allowed, reason]).toStrictEqual([false, expect.stringMatching(/max per turn.*1/)]);
    },
  ],
  [
    'the limit of a session denies in a later turn, with scope and maximum in the reason',
    async (tools) => {
      await inTurns(tools, 'update_onboarding_state', 10);
      const { allowed, reason } = await tools.canCall('update_onboarding_state');
      expect([allowed, reason]).toStrictEqual([false, expect.stringMatching(/max per session.*10/)]);
    },
  ],
  [
    'a tool that is used up leaves the others',
    async (tools) => {
      await tools.recordCall('update_onboarding_state');
      const asked = ['update_onboarding_state', 'get_services', 'get_business_info'];
      const answers = [];
      for (const tool of asked) answers.push(await tools.allowed(tool));
      expect(answers).toStrictEqual([false, true, true]);
    },
  ],
  [
    'each tool has its own limit',
    async (tools) => {
      await tools.recordCall('get_services', 2);
      expect(await tools.allowed('get_services')).toBe(true);
      await tools.recordCall('get_services');
      expect(await tools.allowed('get_services')).toBe(false);
      expect(await tools.allowed('update_onboarding_state')).toBe(true);
      await tools.recordCall('update_onboarding_state');
      expect(await tools.allowed('update_onboarding_state')).toBe(false);
    },
  ],
  [
    'a recorded call counts in turn and session',
    async (tools) => {
      await tools.recordCall('get_services');
      expect(await tools.getStats()).toStrictEqual({ turn: { get_services: 1 }, session: { get_services: 1 } });
    },
  ],
  [
    'several recorded calls add up',
    async (tools) => {
      await tools.recordCall('get_services', 3);
      expect(await tools.getStats()).toStrictEqual({ turn: { get_services: 3 }, session: { get_services: 3 } });
    },
  ],
  [
    'recorded calls count for their tool',
    async (tools) => {
      await tools.recordCall('get_services', 2);
      await tools.recordCall('check_availability');
      expect((await tools.getStats()).turn).toStrictEqual({ get_services: 2, check_availability: 1 });
    },
  ],
  [
    'a new turn gives the turn back and keeps the session',
    async (tools) => {
      await tools.recordCall('update_onboarding_state');
      expect(await tools.allowed('update_onboarding_state')).toBe(false);
      await tools.resetTurn();
      expect(await tools.allowed('update_onboarding_state')).toBe(true);
      expect(await tools.getStats()).toStrictEqual({ turn: {}, session: { update_onboarding_state: 1 } });
    },
  ],
  [
    'a new turn has no counts of any tool',
    async (tools) => {
      const called = ['get_services', 'check_availability', 'update_onboarding_state'];
      for (const tool of called) await tools.recordCall(tool);
      await tools.resetTurn();
      const session = Object.fromEntries(called.map((tool) => [tool, 1]));
      expect(await tools.getStats()).toStrictEqual({ turn: {}, session });
    },
  ],
  [
    'a reset leaves no counts',
    async (tools) => {
      await tools.recordCall('get_services');
      await tools.recordCall('check_availability');
      await tools.reset();
      expect(await tools.getStats()).toStrictEqual({ turn: {}, session: {} });
    },
  ],
  [
    'a reset allows what was used up',
    async (tools) => {
      await inTurns(tools, 'update_onboarding_state', 10);
      expect(await tools.allowed('update_onboarding_state')).toBe(false);
      await tools.reset();
      expect(await tools.allowed('update_onboarding_state')).toBe(true);
    },
  ],
  ['a new limiter has no counts', async (tools) => expect(await tools.getStats()).toStrictEqual({ turn: {}, session: {} })],
  [
    'the counts are right after several turns',
    async (tools) => {
      await tools.recordCall('get_services', 2);
      await tools.recordCall('check_availability');
      await tools.resetTurn();
      await tools.recordCall('get_services');
      const { turn, session } = await tools.getStats();
      expect([turn, session]).toStrictEqual([{ get_services: 1 }, { get_services: 3, check_availability: 1 }]);
    },
  ],
  [
    'other limits than the default ones can be given',
    async (_tools, make) => {
      const tools = await make({ own: { maxPerTurn: 2, maxPerSession: 3 } });
      for (const allowed of [true, true, false]) {
        expect(await tools.allowed('own')).toBe(allowed);
        await tools.recordCall('own');
      }
    },
  ],
  [
    'tools that the given limits do not name may be called 5 times in a turn',
    async (_tools, make) => {
      const tools = await make({ own: { maxPerTurn: 1, maxPerSession: 1 } });
      for (let call = 0; call < 5; call += 1) {
        expect(await tools.allowed('nameless')).toBe(true);
        await tools.recordCall('nameless');
      }
      expect(await tools.allowed('nameless')).toBe(false);
    },
  ],
];

function maxima(tool: string) {
  const limit = DEFAULT_TOOL_RATE_LIMITS[tool];
  if (limit === undefined) throw new Error(`there is no default limit for ${tool}`);
  return limit;
}

const SECOND: readonly Case[] = [
  [
    'a first call is allowed without a reason',
    async (tools) => expect(await tools.canCall('get_services')).toStrictEqual({ allowed: true }),
  ],
  [
    'calls are allowed up to the limit of the turn',
    async (tools) => {
      for (let call = 0; call < maxima('check_availability').maxPerTurn; call += 1) {
        expect(await tools.allowed('check_availability')).toBe(true);
        await tools.recordCall('check_availability');
      }
      expect((await tools.canCall('check_availability')).reason).toContain('max per turn');
    },
  ],
  [
    'calls are allowed up to the limit of the session',
    async (tools) => {
      await inTurns(tools, 'upsert_services', maxima('upsert_services').maxPerSession);
      expect((await tools.canCall('upsert_services')).reason).toContain('max per session');
    },
  ],
  [
    'a tool without a limit of its own has the default one',
    async (tools) => {
      for (let call = 0; call < 5; call += 1) {
        expect(await tools.allowed('nameless')).toBe(true);
        await tools.recordCall('nameless');
      }
      expect(await tools.allowed('nameless')).toBe(false);
    },
  ],
  [
    'one call is counted twice: in the turn and in the session',
    async (tools) => {
      await tools.recordCall('get_business_info');
      expect(await tools.getStats()).toStrictEqual({ turn: { get_business_info: 1 }, session: { get_business_info: 1 } });
    },
  ],
  [
    'counts go on from call to call',
    async (tools) => {
      for (let call = 1; call <= 3; call += 1) {
        await tools.recordCall('get_services');
        expect(await tools.getStats()).toStrictEqual({ turn: { get_services: call }, session: { get_services: call } });
      }
    },
  ],
  [
    'a new turn changes the counts of the turn only',
    async (tools) => {
      await tools.recordCall('check_availability', 2);
      await tools.resetTurn();
      expect(await tools.getStats()).toStrictEqual({ turn: {}, session: { check_availability: 2 } });
    },
  ],
  [
    'a new turn allows again what the turn before had used up',
    async (tools) => {
      await tools.recordCall('update_onboarding_state', maxima('update_onboarding_state').maxPerTurn);
      expect(await tools.allowed('update_onboarding_state')).toBe(false);
      await tools.resetTurn();
      expect(await tools.allowed('update_onboarding_state')).toBe(true);
    },
  ],
  [
    'at first there is nothing in the counts',
    async (tools) => expect(Object.values(await tools.getStats()).map(Object.keys)).toStrictEqual([[], []]),
  ],
  [
    'several tools are counted at once',
    async (tools) => {
      for (const tool of ['get_services', 'check_availability', 'get_services']) await tools.recordCall(tool);
      expect((await tools.getStats()).session).toStrictEqual({ get_services: 2, check_availability: 1 });
    },
  ],
  [
    'the given limits are named in the reason',
    async (_tools, make) => {
      const tools = await make({ own: { maxPerTurn: 2, maxPerSession: 5 } });
      expect(await tools.allowed('own')).toBe(true);
      await tools.recordCall('own', 2);
      expect(await tools.canCall('own')).toStrictEqual({ allowed: false, reason: expect.stringContaining('max per turn (2)') });
    },
  ],
  [
    'tools that read have more calls in a session than tools that book',
    async () => expect(maxima('get_services').maxPerSession).toBeGreaterThan(maxima('book_service').maxPerSession),
  ],
  ['a tool that books has one call in a turn', async () => expect(maxima('book_service').maxPerTurn).toBe(1)],
  ['a tool that does not exist is no error', async (tools) => expect(await tools.allowed('not there')).toBe(true)],
  [
    'of many calls at once, no more are counted than the turn allows',
    async (tools) => {
      const { maxPerTurn } = maxima('check_availability');
      for (let call = 0; call < maxPerTurn + 5; call += 1) {
        if (await tools.allowed('check_availability')) await tools.recordCall('check_availability');
      }
      expect((await tools.getStats()).turn).toStrictEqual({ check_availability: maxPerTurn });
    },
  ],
  [
    'a tool that was called too often leaves another',
    async (tools) => {
      await tools.recordCall('one', 10);
      expect([await tools.allowed('one'), await tools.allowed('other')]).toStrictEqual([false, true]);
    },
  ],
];

it('are 33', () => expect([FIRST.length, SECOND.length]).toStrictEqual([17, 16]));

describe.each(Object.entries(WHERE))('a tool rate limiter %s', (_where, make) => {
  it.each([...FIRST.map((row) => ['first file', ...row] as const), ...SECOND.map((row) => ['second file', ...row] as const)])(
    'passes a case of the %s: %s',
    async (_file, _name, check) => check(await make(), make),
  );
});
