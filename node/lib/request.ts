import { InvalidInputError, asTallymeshError } from './errors.js';
import { LABELS_MAX, TEXT_LENGTH_MAX, checkCount, checkObject, checkText, isPlainObject } from './validate.js';

/**
 * What the limits look at. Every key but `cost` is a label; its value has 1 to 8,192 characters, and no NUL. What is left
 * undefined is refused, as everything is that is not a plain object.
 */
export interface Labels {
  /** The session that the call is part of. */
  readonly session?: string;
  /** The tool to be called. */
  readonly tool?: string;
  /** Who asks. */
  readonly user?: string;
  /** Any other label. */
  readonly [label: string]: string | number | undefined;
}

/** What a caller wants to do: labels and a cost. */
export interface Request extends Labels {
  /** What it costs in each of its counters: calls, tokens, cents; a whole number from 0 to 2^53 - 1. Default: 1. */
  readonly cost?: number;
}

/** One counter to reset: of the limit with this name, for the values of all labels of its `per`. */
export interface LimitReset {
  /** The limit's name. */
  readonly limit: string;
  /** The value of each label of the limit's `per`, and no other; `{}` for a limit without `per`. */
  readonly labels: Labels;
}

/**
 * Whether what is to be reset is a limit's counter. A request's label of that name is a text.
 *
 * @internal
 */
export function isLimitReset(what: Labels | LimitReset): what is LimitReset {
  if (typeof what !== 'object' || what === null || !Object.hasOwn(what, 'labels')) return false;
  return typeof what.labels === 'object' && what.labels !== null;
}

/** Labels as the native half takes them: one text, since each text that crosses takes its time. */
interface JoinedLabels {
  /** Name, value, name, value, ..., with a NUL between each two. */
  text: string;
  /** How many labels; a NUL within one is noticed by there being more of them then. */
  count: number;
}

/**
 * The labels of a request in one text.
 *
 * @internal
 */
export function joinLabels(request: Labels): JoinedLabels {
  if (!isPlainObject(request)) throw refusal(request);
  let text = '';
  let count = 0;
  for (const name in request) {
    if (name === 'cost') continue;
    const value = valueOf(request, name);
    if (typeof value !== 'string' || value.length > TEXT_LENGTH_MAX) throw refusal(request);
    text = count === 0 ? `${name}\0${value}` : `${text}\0${name}\0${value}`;
    count += 1;
  }
  if (count > LABELS_MAX || !text.isWellFormed()) throw refusal(request);
  return { text, count };
}

/** The usual labels by their names, which is faster than by a variable where requests have several shapes. */
function valueOf(request: Labels, name: string): unknown {
  switch (name) {
    case 'session':
      return request.session;
    case 'tool':
      return request.tool;
    case 'user':
      return request.user;
    default:
      return request[name];
  }
}

/**
 * What the native half threw about a request, said more closely where it can be.
 *
 * @internal
 */
export function explained(thrown: unknown, request: Labels): unknown {
  const error = asTallymeshError(thrown);
  return error instanceof InvalidInputError ? refusal(request) : error;
}

/** Why the labels cannot be used: found out only once it is known that they cannot. */
function refusal(request: Labels): unknown {
  try {
    checkEach('the request', request);
    return new InvalidInputError('the request has labels that it inherits: give a plain object');
  } catch (reason) {
    return reason;
  }
}

/**
 * Refuses a request that no limiter would take, where none is asked yet.
 *
 * @internal
 */
export function checkRequest(request: Request): void {
  checkEach('the request', request);
  joinLabels(request);
  if (request.cost !== undefined) checkCount('cost', request.cost);
}

/**
 * Refuses labels that no request could have, and a cost, which is none.
 *
 * @internal
 */
export function checkLabels(labels: Labels): void {
  checkEach('labels', labels);
  joinLabels(labels);
  if ('cost' in labels) throw new InvalidInputError('labels.cost is no label: give the cost with each request');
}

function checkEach(what: string, request: Labels): void {
  checkObject(what, request);
  const labels = Object.entries(request).filter(([name]) => name !== 'cost');
  if (labels.length > LABELS_MAX) {
    throw new InvalidInputError(`${what} has ${labels.length} labels: give at most ${LABELS_MAX}`);
  }
  for (const [name, value] of labels) {
    checkText('the name of a label', name);
    checkText(`label ${name}`, value);
  }
}
