import { AsyncLocalStorage } from 'node:async_hooks';

import { InvalidInputError } from './errors.js';
import { checkLabels, type Labels } from './request.js';
import { isPlainObject, show } from './validate.js';

const NONE: Labels = Object.freeze({});

/** The labels that the calls of one limiter get from where they are made: see {@link Limiter.withLabels}. */
export class LabelScope {
  /** Made with the first scope: a limiter without any never asks for it. */
  #storage: AsyncLocalStorage<Labels> | undefined;

  /** Runs `fn` with these labels in force, added to those that are already. */
  run<Result>(labels: Labels, fn: () => Result): Result {
    checkLabels(labels);
    if (typeof fn !== 'function') throw new InvalidInputError(`fn is ${show(fn)}: give the function that runs with the labels`);
    const storage = (this.#storage ??= new AsyncLocalStorage());
    const all = { ...storage.getStore(), ...labels };
    checkLabels(all);
    return storage.run(Object.freeze(all), fn);
  }

  /** The labels in force. */
  labels(): Labels {
    return this.#storage?.getStore() ?? NONE;
  }

  /** The request with the labels in force that it has no own of. */
  added<Given extends Labels>(request: Given): Given {
    const labels = this.#storage?.getStore();
    // What is no plain object is refused as it is.
    return labels === undefined || !isPlainObject(request) ? request : { ...labels, ...request };
  }

  /** No labels are in force from now on, wherever that is asked. */
  end(): void {
    this.#storage?.disable();
  }
}
