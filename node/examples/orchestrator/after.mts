// The orchestrator with its counts in the store. Usage: after.mjs PORT CONFIG
import { Limiter, type ToolRateLimiter } from 'tallymesh';

import { serve, type Orchestrator } from './server.mjs';
import { TOOL_RATE_LIMITS, callTool, wantedTools } from './tools.mjs';

const limiter = await Limiter.open(process.argv[3] ?? 'tallymesh.toml');

class BookingOrchestrator implements Orchestrator {
  private readonly toolRateLimiter: ToolRateLimiter;

  constructor(private readonly session: string) {
    this.toolRateLimiter = limiter.toolRateLimiter({ session, limits: TOOL_RATE_LIMITS });
  }

  turn(message: string): string[] {
    this.toolRateLimiter.resetTurn();
    return wantedTools(message).map((tool) => {
      const answer = this.toolRateLimiter.canCall(tool);
      if (!answer.allowed) return `${this.session}: ${answer.reason}`;
      this.toolRateLimiter.recordCall(tool);
      return `${this.session}: ${callTool(tool)}`;
    });
  }
}

await serve(Number(process.argv[2]), (session) => new BookingOrchestrator(session));
process.send?.('serving');
