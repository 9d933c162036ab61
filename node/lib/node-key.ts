import { call } from './errors.js';
import { native } from './native.js';
import { secretIn } from './validate.js';

/**
 * Makes a secret key for one node, `gossip.nodeKey` of its config: 64 hex digits. The others are given its {@link publicKeyOf | public
 * half}.
 *
 * @example
 * ```ts
 * const key = generateNodeKey();
 * const members = [`a=${publicKeyOf(key)}`];
 * ```
 */
export function generateNodeKey(): string {
  return call(() => native.generateNodeKey());
}

/**
 * The public half of a node's key, for `gossip.members` of all nodes.
 *
 * @param key - 64 hex digits; no message shows them
 * @throws {@link InvalidInputError} when it is no string
 * @throws {@link ConfigError} when it is no key
 */
export function publicKeyOf(key: string): string {
  return call(() => native.publicKeyOf(secretIn('key', key)));
}
