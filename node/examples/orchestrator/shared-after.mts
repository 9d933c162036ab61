// One orchestrator for all sessions, with its counts in the store. Usage: shared-after.mjs PORT CONFIG
import { dirname, join } from 'node:path';

import { Limiter, toolRateLimiters } from 'tallymesh';

import { Sessions, askModel, runTool, serve, type Orchestrator } from './shared-server.mjs';
import { TOOL_RATE_LIMITS } from './tools.mjs';

const limiter = Limiter.open(process.argv[3] ?? 'tallymesh.toml');

class BookingOrchestrator implements Orchestrator {
  private readonly toolRateLimiterOf = toolRateLimiters(limiter, { limits: TOOL_RATE_LIMITS, ttl: '24h' });

  constructor(private readonly sessions: Sessions) {}

  async chat(user: string, message: string): Promise<string[]> {
    const session = await this.sessions.of(user);
    const toolRateLimiter = this.toolRateLimiterOf(session.id, { turn: String(session.turns) });
    const replies: string[] = [];
    for (const tool of await askModel(message)) {
      const answer = toolRateLimiter.tryCall(tool);
      if (!answer.allowed) {
        replies.push(`${session.id}: ${answer.reason}`);
        continue;
      }
      try {
        replies.push(`${session.id}: ${await runTool(tool, message)}`);
      } catch (error) {
        toolRateLimiter.undoCall(answer);
        replies.push(`${session.id}: ${String(error)}`);
      }
    }
    await this.sessions.endTurn(session);
    return replies;
  }
}

const sessions = new Sessions(join(dirname(process.argv[3] ?? '.'), 'sessions'));
await serve(Number(process.argv[2]), new BookingOrchestrator(sessions));
process.send?.('serving');
