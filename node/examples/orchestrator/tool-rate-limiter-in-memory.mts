// What many an orchestrator has: counts in maps, which end with the process, and which no other instance sees.

export interface ToolRateLimit {
  maxPerTurn: number;
  maxPerSession: number;
}

export class ToolRateLimiter {
  private readonly turn = new Map<string, number>();
  private readonly session = new Map<string, number>();

  constructor(private readonly limits: Record<string, ToolRateLimit>) {}

  canCall(tool: string): { allowed: boolean; reason?: string } {
    const { maxPerTurn, maxPerSession } = this.limits[tool] ?? { maxPerTurn: 5, maxPerSession: 50 };
    if ((this.turn.get(tool) ?? 0) >= maxPerTurn) {
      return { allowed: false, reason: `${tool} max per turn (${maxPerTurn}) reached` };
    }
    if ((this.session.get(tool) ?? 0) >= maxPerSession) {
      return { allowed: false, reason: `${tool} max per session (${maxPerSession}) reached` };
    }
    return { allowed: true };
  }

  recordCall(tool: string): void {
    this.turn.set(tool, (this.turn.get(tool) ?? 0) + 1);
    this.session.set(tool, (this.session.get(tool) ?? 0) + 1);
  }

  resetTurn(): void {
    this.turn.clear();
  }

  reset(): void {
    this.turn.clear();
    this.session.clear();
  }

  getStats(): { turn: Record<string, number>; session: Record<string, number> } {
    return { turn: Object.fromEntries(this.turn), session: Object.fromEntries(this.session) };
  }
}
