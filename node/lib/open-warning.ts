import { TallymeshError } from './errors.js';

/** What limiters could not be opened for, and was said. */
const warned = new WeakSet<object>();

/**
 * Says once why a limiter could not be opened. Where its promise is waited for by this package, Node.js does not end the process over
 * it, and a server that denies every call should not do so in silence.
 */
export function warnOnce(error: unknown, message: string): void {
  if (typeof error === 'object' && error !== null) {
    if (warned.has(error)) return;
    warned.add(error);
  }
  const code = error instanceof TallymeshError ? error.code : 'TALLYMESH_OPEN';
  process.emitWarning(message, { type: 'TallymeshWarning', code });
}
