// One orchestrator for all sessions, with its counts in memory. Usage: shared-before.mjs PORT CONFIG
import { dirname, join } from 'node:path';

import { Sessions, askModel, runTool, serve, type Orchestrator } from './shared-server.mjs';
import { ToolRateLimiter } from './tool-rate-limiter-in-memory.mjs';
import { TOOL_RATE_LIMITS } from './tools.mjs';

class BookingOrchestrator implements Orchestrator {
  private readonly toolRateLimiter = new ToolRateLimiter(TOOL_RATE_LIMITS);

  constructor(private readonly sessions: Sessions) {}

  async chat(user: string, message: string): Promise<string[]> {
    const session = await this.sessions.of(user);
    this.toolRateLimiter.resetTurn();
    const replies: string[] = [];
    for (const tool of await askModel(message)) {
      const answer = this.toolRateLimiter.canCall(tool);
      if (!answer.allowed) {
        replies.push(`${session.id}: ${answer.reason}`);
        continue;
      }
      try {
        replies.push(`${session.id}: ${await runTool(tool, message)}`);
        this.toolRateLimiter.recordCall(tool);
      } catch (error) {
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
