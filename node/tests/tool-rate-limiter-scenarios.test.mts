/** What a server with one orchestrator for all sessions asks of its tool rate limiter, in each place where it can count. */
import { describe, expect, it } from 'vitest';
import type { RateLimitResult } from 'tallymesh';

import { LIMITS, PLACES, type Asked } from './tool-rate-limiter-places.mjs';

const TURN = { allowed: false, reason: 'book max per turn (1) reached' };
const SESSION = { allowed: false, reason: 'book max per session (3) reached' };

/** How many of five calls run, each in a turn of its own. */
async function calls(tools: Asked, tool: string): Promise<number> {
  let run = 0;
  for (let call = 0; call < 5; call += 1) {
    await tools.resetTurn();
    if (!(await tools.allowed(tool))) continue;
    await tools.recordCall(tool);
    run += 1;
  }
  return run;
}

describe.each(Object.entries(PLACES))('a tool rate limiter %s', (name, open) => {
  it('1. allows calls within both limits, and counts those that are recorded in turn and session', async () => {
    const tools = (await open()).of('s');
    expect(await tools.canCall('read')).toStrictEqual({ allowed: true });
    await tools.recordCall('read', 2);
    await tools.recordCall('book');
    expect(await tools.getStats()).toStrictEqual({ turn: { read: 2, book: 1 }, session: { read: 2, book: 1 } });
  });

  it('2. denies the call after `maxPerTurn` with the reason of the turn, which `resetTurn` gives back, and not the session', async () => {
    const tools = (await open()).of('s');
    await tools.recordCall('book');
    expect(await tools.canCall('book')).toStrictEqual(TURN);
    await tools.resetTurn();
    expect(await tools.canCall('book')).toStrictEqual({ allowed: true });
    expect(await tools.getStats()).toStrictEqual({ turn: {}, session: { book: 1 } });
  });

  it('3. denies the call after `maxPerSession` whatever the turn', async () => {
    const tools = (await open()).of('s');
    expect(await calls(tools, 'book')).toBe(3);
    await tools.resetTurn();
    expect(await tools.canCall('book')).toStrictEqual(SESSION);
  });

  it('4. shares no counters between tools', async () => {
    const tools = (await open()).of('s');
    await tools.recordCall('book', 3);
    expect([await tools.allowed('read'), await tools.allowed('book')]).toStrictEqual([true, false]);
  });

  it('5. allows an unknown tool, and does not count it by being asked, or not at all if told so', async () => {
    const tools = (await open()).of('s');
    for (let call = 0; call < 60; call += 1) expect(await tools.allowed('unknown')).toBe(true);
    expect(await tools.getStats()).toStrictEqual({ turn: {}, session: {} });

    const free = (await open({ limits: LIMITS, otherTools: 'uncounted' })).of('s');
    for (let call = 0; call < 60; call += 1) {
      expect([await free.allowed('unknown'), (await free.tryCall('unknown')).allowed]).toStrictEqual([true, true]);
      await free.recordCall('unknown');
    }
    expect(await free.getStats()).toStrictEqual({ turn: {}, session: {} });
    expect(await calls(free, 'book')).toBe(3);
  });

  it('6. counts nothing by `canCall` alone', async () => {
    const tools = (await open()).of('s');
    for (let call = 0; call < 10; call += 1) expect(await tools.allowed('book')).toBe(true);
    expect(await tools.getStats()).toStrictEqual({ turn: {}, session: {} });
  });

  it('7. counts by `recordCall` without `canCall`', async () => {
    const tools = (await open()).of('s');
    await tools.recordCall('book', 5);
    expect(await tools.getStats()).toStrictEqual({ turn: { book: 5 }, session: { book: 5 } });
  });

  it('8. returns a copy from `getStats`, in the order of first use', async () => {
    const place = await open();
    const tools = place.at(0, 's');
    await tools.recordCall('read');
    await tools.recordCall('book');
    const stats = await tools.getStats();
    expect([Object.keys(stats.turn), Object.keys(stats.session)]).toStrictEqual([
      ['read', 'book'],
      ['read', 'book'],
    ]);
    stats.turn['book'] = stats.session['book'] = 99;
    expect(await tools.getStats()).toStrictEqual({ turn: { read: 1, book: 1 }, session: { read: 1, book: 1 } });
  });

  // In memory alone, nothing is left after a restart.
  it.skipIf(name === 'in memory')('9. keeps the counts of a session over a restart', async () => {
    const place = await open();
    await place.of('s').recordCall('book', 3);
    await place.restart();
    const tools = place.of('s');
    await tools.resetTurn();
    expect(await tools.canCall('book')).toStrictEqual(SESSION);
    expect(await tools.getStats()).toStrictEqual({ turn: {}, session: { book: 3 } });
  });

  it.skipIf(name !== 'on two instances')('10. shows the counts to another instance', async () => {
    const place = await open();
    for (let turn = 0; turn < 3; turn += 1) await place.at(turn, 's').recordCall('book');
    for (const instance of [0, 1]) {
      const tools = place.at(instance, 's');
      expect((await tools.getStats()).session).toStrictEqual({ book: 3 });
      await tools.resetTurn();
      expect(await tools.canCall('book')).toStrictEqual(SESSION);
    }
  });

  it('11. gives a new connection with the same session id no new budget', async () => {
    const place = await open();
    const answers: RateLimitResult[] = [];
    for (let connection = 0; connection < 5; connection += 1) {
      const tools = place.at(connection, 's');
      await tools.resetTurn();
      answers.push(await tools.tryCall('book'));
    }
    expect(answers.map(({ allowed }) => allowed)).toStrictEqual([true, true, true, false, false]);
  });

  it('12. shares nothing between two sessions, of which `resetTurn` of one leaves the turn of the other', async () => {
    const place = await open();
    const [one, other] = [place.of('one'), place.of('other')];
    await one.recordCall('book');
    await other.recordCall('book');
    await one.resetTurn();
    expect([await one.canCall('book'), await other.canCall('book')]).toStrictEqual([{ allowed: true }, TURN]);
    expect((await other.getStats()).session).toStrictEqual({ book: 1 });
    expect(await calls(one, 'book')).toBe(2);
    await other.resetTurn();
    expect(await other.allowed('book')).toBe(true);
  });

  it('13. has two messages of one session that are handled at once share one turn', async () => {
    const place = await open();
    const [first, second] = [place.at(0, 's'), place.at(1, 's')];
    await first.resetTurn();
    await second.resetTurn();
    expect((await first.tryCall('book')).allowed).toBe(true);
    expect(await second.tryCall('book')).toStrictEqual(TURN);
    // A tool that the limits do not name as well, whichever of them met it.
    await first.recordCall('unknown', 5);
    expect((await second.canCall('unknown')).reason).toBe('unknown max per turn (5) reached');
    const next = place.at(1, 's');
    await next.resetTurn();
    expect([await next.allowed('unknown'), await next.allowed('book')]).toStrictEqual([true, true]);
  });

  it('13. has messages with one turn id share the turn, whenever they begin', async () => {
    const place = await open();
    const first = place.at(0, 's', { turn: '7' });
    await first.resetTurn();
    expect((await first.tryCall('book')).allowed).toBe(true);
    const second = place.at(1, 's', { turn: '7' });
    await second.resetTurn();
    expect(await second.tryCall('book')).toStrictEqual(TURN);
    const next = place.at(1, 's', { turn: '8' });
    expect((await next.tryCall('book')).allowed).toBe(true);
    expect(await next.getStats()).toStrictEqual({ turn: { book: 1 }, session: { book: 2 } });
    // Another session may have turns of the same ids.
    expect((await place.at(0, 'other', { turn: '7' }).tryCall('book')).allowed).toBe(true);
  });

  it('14. takes names such as `constructor` and `__proto__` for tools like any other', async () => {
    const names = ['constructor', '__proto__', 'toString', 'hasOwnProperty'];
    const limits = Object.fromEntries(names.map((name) => [name, { maxPerTurn: 1, maxPerSession: 2 }]));
    const place = await open({ limits });
    for (const session of ['s', '__proto__']) {
      const tools = place.of(session);
      for (const name of names) {
        expect(await calls(tools, name), name).toBe(2);
        await tools.resetTurn();
        expect((await tools.canCall(name)).reason).toBe(`${name} max per session (2) reached`);
      }
      expect(Object.entries((await tools.getStats()).session)).toStrictEqual(names.map((name) => [name, 2]));
      // As tools that the limits do not name.
      const plain = (await open()).of(session);
      await plain.recordCall('__proto__', 5);
      expect((await plain.canCall('__proto__')).reason).toBe('__proto__ max per turn (5) reached');
    }
  });

  describe('15. denies with the reason what it cannot count', () => {
    const LONG = /the key has \d+ bytes, counters.maxKeyBytes allows 512/;

    it.each([
      ['a session id of 600 bytes', 'j'.repeat(600), undefined, LONG],
      ['a turn id of 600 bytes', 's', 't'.repeat(600), LONG],
      ['a session id that is empty', '', undefined, /session is empty/],
      ['a session id with a NUL', 'a\0b', undefined, /leave the NUL out/],
      ['a session id of 9,000 characters', 'j'.repeat(9000), undefined, /session has 9000 characters/],
      ['half a surrogate pair', '\ud800', undefined, /half of a surrogate pair/],
    ])('%s', async (_what, session, turn, reason) => {
      const place = await open();
      const tools = place.of(session, turn === undefined ? {} : { turn });
      for (const answer of [await tools.canCall('book'), await tools.tryCall('book')]) {
        expect(answer).toMatchObject({ allowed: false, reason: expect.stringMatching(reason) });
      }
      expect(await calls(tools, 'book')).toBe(0);
      // The session of another user is not touched.
      expect(await calls(place.of('a'), 'book')).toBe(3);
    });

    it('a full table', async () => {
      const place = await open({ limits: LIMITS }, { maxCounters: 2 });
      await place.at(0, 'first').recordCall('book');
      const tools = place.at(0, 'second');
      const full = { allowed: false, reason: expect.stringContaining('waiting does not help') };
      expect([await tools.canCall('book'), await tools.tryCall('book')]).toMatchObject([full, full]);
      expect(await calls(tools, 'book')).toBe(0);
    });

    it('a closed limiter, whose last counts can still be read', async () => {
      const place = await open();
      const tools = place.at(0, 's');
      const answer = await tools.tryCall('read');
      await place.close();
      const closed = { allowed: false, reason: expect.stringContaining('the limiter is closed') };
      expect([await tools.canCall('book'), await tools.tryCall('book')]).toMatchObject([closed, closed]);
      expect(await calls(tools, 'book')).toBe(0);
      expect(await tools.ask((closed) => closed.undoCall(answer))).toBe(false);
      // A tool that was running when it was closed.
      await tools.recordCall('book');
      expect(await tools.getStats()).toStrictEqual({ turn: { book: 1 }, session: { read: 1, book: 1 } });
      expect(await place.at(0, 's').canCall('book')).toMatchObject(closed);
    });
  });

  it('takes back a call whose tool failed', async () => {
    const place = await open();
    const tools = place.at(0, 's');
    for (let failure = 0; failure < 10; failure += 1) {
      const answer = await tools.tryCall('book');
      for (const shown of [answer, structuredClone(answer), JSON.parse(JSON.stringify(answer))]) {
        expect(shown).toStrictEqual({ allowed: true });
      }
      expect(await tools.ask((tools) => tools.undoCall(answer))).toBe(true);
      expect(await tools.ask((tools) => tools.undoCall(answer))).toBe(false);
    }
    expect(await tools.getStats()).toStrictEqual({ turn: {}, session: {} });
    expect(await calls(place.of('s'), 'book')).toBe(3);
  });
});

describe('a call that is taken back', () => {
  it('leaves the turn that began meanwhile, and what was reset', async () => {
    const tools = (await PLACES['in memory']()).at(0, 's');
    const slow = await tools.tryCall('book');
    await tools.resetTurn();
    expect((await tools.tryCall('book')).allowed).toBe(true);
    expect(await tools.ask((tools) => tools.undoCall(slow))).toBe(true);
    expect(await tools.getStats()).toStrictEqual({ turn: { book: 1 }, session: { book: 1 } });

    const before = await tools.tryCall('read');
    await tools.reset();
    await tools.recordCall('read');
    expect(await tools.ask((tools) => tools.undoCall(before))).toBe(false);
    expect(await tools.getStats()).toStrictEqual({ turn: { read: 1 }, session: { read: 1 } });
  });

  it('is one that this object allowed', async () => {
    const place = await PLACES['in memory']();
    const [tools, other] = [place.at(0, 's'), place.at(0, 's')];
    await tools.recordCall('book');
    const denied = await tools.tryCall('book');
    expect(await tools.ask((tools) => tools.undoCall(denied))).toBe(false);
    for (const answer of [await other.tryCall('read'), await tools.canCall('read'), { allowed: true }, undefined]) {
      await expect(tools.ask((tools) => tools.undoCall(answer as RateLimitResult))).rejects.toThrow(
        /give what tryCall of this/,
      );
    }
  });
});
