// The tools that the agent may call.

export const TOOL_RATE_LIMITS = {
  get_services: { maxPerTurn: 3, maxPerSession: 20 },
  book_service: { maxPerTurn: 1, maxPerSession: 3 },
};

const TOOLS: Record<string, () => string> = {
  get_services: () => 'haircut, shave',
  book_service: () => 'booked',
};

export function callTool(tool: string): string {
  return (TOOLS[tool] ?? (() => 'no such tool'))();
}

/** Where a language model would be: it wants what the message asks for. */
export function wantedTools(message: string): string[] {
  return Object.keys(TOOLS).filter((tool) => message.includes(tool));
}
