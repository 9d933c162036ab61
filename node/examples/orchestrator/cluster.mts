// Two instances of an orchestrator behind a proxy that gives each new connection to the next one.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Instance {
  port: number;
  config: string;
  process: ChildProcess;
}

export class Cluster {
  private next = 0;

  private constructor(
    private readonly program: string,
    private readonly directory: string,
    private readonly instances: Instance[],
    private readonly proxy: Server,
  ) {
    proxy.on('connection', (client) => {
      const instance = instances[this.next++ % instances.length];
      const server = connect(instance?.port ?? 0, '127.0.0.1');
      client.pipe(server).pipe(client);
      for (const end of [client, server]) {
        end.on('error', () => (client.destroy(), server.destroy()));
      }
    });
  }

  /** Starts two instances of a program beside this one, such as `before.mjs` or `after.mjs`. */
  static async start(program: string): Promise<Cluster> {
    const directory = mkdtempSync(join(tmpdir(), 'orchestrator-'));
    const [http, gossip] = [
      [await freePort(), await freePort()],
      [await freePort(), await freePort()],
    ];
    const instances: Instance[] = [];
    for (const [place, port] of http.entries()) {
      const config = join(directory, `${place}.toml`);
      writeFileSync(config, settings(directory, place, gossip));
      instances.push({ port, config, process: await start(program, port, config) });
    }
    const proxy = createServer();
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    return new Cluster(program, directory, instances, proxy);
  }

  /** Where the proxy listens. */
  get port(): number {
    return (this.proxy.address() as AddressInfo).port;
  }

  /** Where the first instance listens itself. */
  get firstPort(): number {
    return this.instances[0]?.port ?? 0;
  }

  /** Kills each instance in turn, and starts it again. */
  async restart(): Promise<void> {
    for (const instance of this.instances) {
      await kill(instance.process);
      instance.process = await start(this.program, instance.port, instance.config);
    }
  }

  async stop(): Promise<void> {
    this.proxy.close();
    await Promise.all(this.instances.map((instance) => kill(instance.process)));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function settings(directory: string, place: number, ports: number[]): string {
  const address = (port: number | undefined) => JSON.stringify(`127.0.0.1:${port}`);
  return `
[node]
id = "orchestrator-${place}"
data_dir = ${JSON.stringify(join(directory, `data-${place}`))}
[gossip]
listen = ${address(ports[place])}
peers = [${address(ports[1 - place])}]
`;
}

async function start(program: string, port: number, config: string): Promise<ChildProcess> {
  const path = fileURLToPath(new URL(program, import.meta.url));
  const instance = fork(path, [String(port), config]);
  const serving = once(instance, 'message').then(() => undefined);
  const ended = once(instance, 'exit').then(([code, signal]) => `${program} ended (${code ?? signal}) before it served`);
  const failure = await Promise.race([serving, ended]);
  if (failure !== undefined) throw new Error(failure);
  return instance;
}

async function kill(instance: ChildProcess): Promise<void> {
  if (instance.exitCode !== null || instance.signalCode !== null) return;
  const ended = once(instance, 'exit');
  instance.kill('SIGKILL');
  await ended;
}

/** A free port of those that no system gives out by itself: another program's connection does not get it between two starts. */
async function freePort(): Promise<number> {
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
    return port;
  }
}
