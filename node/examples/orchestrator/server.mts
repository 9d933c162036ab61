// The part that does not change: HTTP, one orchestrator for each connection, one session for each user.
import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';

/** What a connection talks to. */
export interface Orchestrator {
  turn(message: string): string[];
}

/**
 * Serves `POST /` with a message as its body and the user in the header `x-user`; each message is one turn. The session is the
 * user's, by whatever connection the message comes.
 */
export function serve(port: number, orchestratorOf: (session: string) => Orchestrator): Promise<Server> {
  const connections = new WeakMap<Socket, Map<string, Orchestrator>>();
  const server = createServer(async (request, response) => {
    const session = String(request.headers['x-user'] ?? 'anonymous');
    const orchestrators = connections.get(request.socket) ?? new Map<string, Orchestrator>();
    connections.set(request.socket, orchestrators);
    const orchestrator = orchestrators.get(session) ?? orchestratorOf(session);
    orchestrators.set(session, orchestrator);
    const body: Buffer[] = [];
    for await (const chunk of request) body.push(chunk as Buffer);
    response.end(JSON.stringify(orchestrator.turn(Buffer.concat(body).toString())));
  });
  return new Promise((listening) => server.listen(port, '127.0.0.1', () => listening(server)));
}
