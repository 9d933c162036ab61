import { limiter } from '../../limiter.js';

export const dynamic = 'force-dynamic';

export async function GET() {
  const decision = (await limiter.open()).acquire({ session: 's1' });
  return Response.json({ allowed: decision.allowed }, { status: decision.allowed ? 200 : 429 });
}
