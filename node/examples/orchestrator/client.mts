// A client on one connection: sends messages, and learns what the tools said.
import { Agent, request } from 'node:http';

export class Client {
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(
    private readonly port: number,
    private readonly user: string,
  ) {}

  /** Sends a message; resolves to how many bookings there were. */
  async send(message: string): Promise<number> {
    const headers = { 'x-user': this.user };
    const asked = request({ port: this.port, host: '127.0.0.1', method: 'POST', agent: this.agent, headers });
    asked.end(message);
    const body: Buffer[] = await new Promise((resolve, reject) => {
      asked.once('error', reject);
      asked.once('response', (response) => response.toArray().then(resolve, reject));
    });
    return Buffer.concat(body).toString().split('booked').length - 1;
  }

  /** Asks for several bookings, one after the other, and resolves to how many there were. */
  async book(times: number): Promise<number> {
    let booked = 0;
    for (let time = 0; time < times; time += 1) booked += await this.send('book_service');
    return booked;
  }

  leave(): void {
    this.agent.destroy();
  }
}
