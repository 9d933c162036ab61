import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as pause } from 'node:timers/promises';

import { onTestFinished } from 'vitest';
import { Limiter, type Config, type LimitConfig } from 'tallymesh';

const PATIENCE_MS = 20_000;

/** Settings of a node in memory. */
export function inMemory(...limits: LimitConfig[]): Config {
  return { node: { id: 'test' }, storage: { inMemory: true }, limits };
}

/** A limiter in memory that is closed when the test is over. */
export async function open(...limits: LimitConfig[]): Promise<Limiter> {
  const limiter = await Limiter.open(inMemory(...limits));
  onTestFinished(async () => void (await limiter.close()));
  return limiter;
}

/** A directory that is removed when the test is over. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'tallymesh-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** An address on the loopback interface that is free, and of a port that no system gives out by itself to another test. */
export async function freeAddress(): Promise<string> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return `127.0.0.1:${port}`;
  }
}

/** Waits until the condition holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`still not: ${what}`);
    await pause(5);
  }
}

/** What a node in a process of its own can be asked, and what it answers; see `node-process.mjs`. */
export interface NodeQuestions {
  acquire: { request: object; answer: { allowed: boolean; reason?: string } };
  acquireDurable: { request: object; answer: { allowed: boolean } };
  tryCall: { request: { session: string; tool: string }; answer: { allowed: boolean; reason?: string } };
  stats: { request: { session: string }; answer: { session: Record<string, number> } };
  peers: { request: null; answer: { connected: boolean }[] };
  close: { request: null; answer: undefined };
}

/** A node in a process of its own. */
export class NodeProcess {
  readonly #child: ChildProcess;
  #next = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    onTestFinished(() => void child.kill('SIGKILL'));
  }

  /** Starts one, and waits until it is open. */
  static async start(config: Config): Promise<NodeProcess> {
    const program = fileURLToPath(new URL('node-process.mjs', import.meta.url));
    const child = fork(program, [JSON.stringify(config)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const node = new NodeProcess(child);
    await node.#answer(-1);
    return node;
  }

  /** Asks it something. */
  ask<Kind extends keyof NodeQuestions>(
    kind: Kind,
    request: NodeQuestions[Kind]['request'],
  ): Promise<NodeQuestions[Kind]['answer']> {
    const id = this.#next++;
    const answer = this.#answer(id);
    this.#child.send({ id, kind, request });
    return answer as Promise<NodeQuestions[Kind]['answer']>;
  }

  /** Stops its process where it is: it is silent, and no connection of it ends. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  /** Lets it go on. */
  thaw(): void {
    this.#child.kill('SIGCONT');
  }

  /** Ends it without any chance to write or say something. */
  async kill(): Promise<void> {
    const ended = new Promise((end) => this.#child.once('exit', end));
    this.#child.kill('SIGKILL');
    await ended;
  }

  #answer(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const message = (reply: { id: number; answer?: unknown; error?: string }): void => {
        if (reply.id !== id) return;
        this.#child.off('message', message);
        if (reply.error === undefined) resolve(reply.answer);
        else reject(new Error(reply.error));
      };
      this.#child.on('message', message);
      this.#child.once('exit', () => reject(new Error('the node ended')));
    });
  }
}
