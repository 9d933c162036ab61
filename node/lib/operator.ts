import { brand } from './brand.js';
import type { Duration } from './config.js';
import { InvalidInputError, call } from './errors.js';
import { native } from './native.js';
import { refuseClones } from './shown.js';
import { checkText, show } from './validate.js';

/** What an operator does while all nodes run: see {@link Limiter.operator}. */
export class Operator {
  /** The name of the node that is told. */
  readonly node: string;
  readonly #handle: number;

  static {
    brand(this, 'Operator');
  }

  /** @internal */
  constructor(node: string, handle: number) {
    this.node = node;
    this.#handle = handle;
    refuseClones(this);
  }

  /**
   * Takes what a node counted, in whichever incarnation, for 0 from now on. Its counts are kept, so {@link release} brings them back. How
   * far that has come, `operator` of {@link Limiter.status} says; it takes at most 20 s.
   *
   * A node with `operator.publicKey` does only what is signed with the private half of that, and all other nodes with it follow. A node
   * without one takes no key, and what it is told holds on it alone.
   *
   * @param node - the name of the node
   * @param options - for how long, and the operator's private key
   * @throws {@link InvalidInputError} when the name, the time or the key is none
   * @throws {@link ConfigError} when the key is not that of `operator.publicKey`, or is missing, or there is none to check it with, or there
   * are 1,024 entries already
   */
  quarantine(node: string, options: QuarantineOptions): void {
    checkText('node', node);
    const term: unknown = (options as Partial<QuarantineOptions> | undefined)?.for;
    const termMs = typeof term === 'string' ? call(() => native.durationMs(term)) : -1;
    if (termMs < 0) {
      throw new InvalidInputError(`for is ${show(term)}: give a duration from 1 ms to 366 days, such as "24h"`);
    }
    const key = operatorKey(options);
    call(() => native.operatorQuarantine(this.#handle, node, termMs, key));
  }

  /**
   * Counts what a node counted again. Who may, is as for {@link quarantine}, and so is what it throws.
   *
   * @param node - the name of the node
   * @param options - the operator's private key
   */
  release(node: string, options: OperatorOptions = {}): void {
    checkText('node', node);
    const key = operatorKey(options);
    call(() => native.operatorRelease(this.#handle, node, key));
  }

  /**
   * Removes all that a replica counted, and refuses it from now on, for 735 days: after that nothing of it can be left anywhere. What it
   * brought beside its counts stays: resets of counters, and later ends of sessions. A replica that is alive and hears it goes on as a new
   * one: what it had told by then is gone, what it counts afterwards is not. Who may, is as for {@link quarantine}, and so is what it throws.
   *
   * @param replica - as `peers()` and `status()` show it: `node#boot.nonce`
   * @param options - the operator's private key
   */
  forget(replica: string, options: OperatorOptions = {}): void {
    checkText('replica', replica);
    const key = operatorKey(options);
    call(() => native.operatorForget(this.#handle, replica, key));
  }
}

/** Who does something as the operator. */
export interface OperatorOptions {
  /**
   * The operator's private key, 64 hex digits, as `tallymesh keygen --operator` prints it. Needed where `operator.publicKey` is set, and
   * refused where it is not.
   */
  readonly operatorKey?: string;
}

/** How a node is put in quarantine. */
export interface QuarantineOptions extends OperatorOptions {
  /** For how long, from 1 ms to 366 days, such as `'24h'`. */
  readonly for: Duration;
}

/** The key, which no message shows. */
function operatorKey(options: OperatorOptions): string | undefined {
  const key: unknown = (options as OperatorOptions | null | undefined)?.operatorKey;
  if (key === undefined || typeof key === 'string') return key;
  throw new InvalidInputError('operatorKey is no string: give 64 hex digits');
}
