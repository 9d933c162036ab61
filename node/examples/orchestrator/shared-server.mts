// The part of the second server that does not change: HTTP, the sessions in a database, tools that take their time and may fail.
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { callTool, wantedTools } from './tools.mjs';

export interface Session {
  id: string;
  /** How many turns of it have ended. */
  turns: number;
}

/** The database: a file for each session, which all instances read. */
export class Sessions {
  constructor(private readonly directory: string) {
    mkdirSync(directory, { recursive: true });
  }

  async of(user: string): Promise<Session> {
    const text = await readFile(this.path(user), 'utf8').catch(() => JSON.stringify({ id: user, turns: 0 }));
    return JSON.parse(text) as Session;
  }

  /** What was begun before it shares the turn; what begins after it has the next one. */
  async endTurn(session: Session): Promise<void> {
    const draft = `${this.path(session.id)}.${randomUUID()}`;
    await writeFile(draft, JSON.stringify({ ...session, turns: session.turns + 1 }));
    await rename(draft, this.path(session.id));
  }

  private path(user: string): string {
    return join(this.directory, `${encodeURIComponent(user)}.json`);
  }
}

/** Where a language model would be: it takes its time, and longer if the message says so. */
export async function askModel(message: string): Promise<string[]> {
  await pause(message.includes('and think') ? 1000 : 5);
  return wantedTools(message);
}

/** Runs a tool; it fails if the message says so. */
export async function runTool(tool: string, message: string): Promise<string> {
  await pause(20);
  if (message.includes('and fail')) throw new Error(`${tool} has failed`);
  return callTool(tool);
}

/** The one orchestrator of this process, for all users. */
export interface Orchestrator {
  chat(user: string, message: string): Promise<string[]>;
}

/** Serves `POST /` with a message as its body and the user in the header `x-user`; each message is one turn. */
export function serve(port: number, orchestrator: Orchestrator): Promise<Server> {
  const server = createServer(async (request, response) => {
    const body: Buffer[] = [];
    for await (const chunk of request) body.push(chunk as Buffer);
    const user = String(request.headers['x-user'] ?? 'anonymous');
    response.end(JSON.stringify(await orchestrator.chat(user, Buffer.concat(body).toString())));
  });
  return new Promise((listening) => server.listen(port, '127.0.0.1', () => listening(server)));
}
