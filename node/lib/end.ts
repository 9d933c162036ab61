import { isMainThread } from 'node:worker_threads';

import { native } from './native.js';

/**
 * The end of a process that did not close its limiters. The native half writes what they have counted when a thread or the
 * process ends in order. A signal ends it without any order, so SIGTERM is taken here, but only while nothing else does: a
 * program that has a listener decides about its end.
 */
const SIGNAL = 'SIGTERM';

/** How many limiters are open in this thread. */
let open = 0;

/** A limiter of this thread is open. */
export function limiterOpened(): void {
  native.watchEnd(isMainThread);
  // Workers get no signals.
  if (!isMainThread || open++ > 0) return;
  process.on('newListener', added);
  process.on('removeListener', removed);
  takeSignal();
}

/** A limiter of this thread is closed. */
export function limiterClosed(): void {
  if (isMainThread && --open === 0) leaveSignal();
}

function takeSignal(): void {
  if (process.listenerCount(SIGNAL) === 0) process.on(SIGNAL, end);
}

function leaveSignal(): void {
  process.off('newListener', added);
  process.off('removeListener', removed);
  process.off(SIGNAL, end);
}

function added(name: string | symbol, listener: unknown): void {
  // After the other is there: without any listener in between Node would stop to listen.
  if (name === SIGNAL && listener !== end) process.nextTick(yieldSignal);
}

function yieldSignal(): void {
  if (process.listenerCount(SIGNAL) > 1) process.off(SIGNAL, end);
}

function removed(name: string | symbol, listener: unknown): void {
  if (name === SIGNAL && listener !== end) takeSignal();
}

function end(): void {
  if (process.listenerCount(SIGNAL) > 1) return;
  native.endProcess();
  leaveSignal();
  process.kill(process.pid, SIGNAL);
}
