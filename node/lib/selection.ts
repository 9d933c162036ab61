import { InvalidInputError, call } from './errors.js';
import { native } from './native.js';
import { joinLabels, type LimitReset } from './request.js';
import { checkObject, checkText } from './validate.js';

/**
 * Which counters are meant: those of limits whose name fits a pattern, with labels whose values fit patterns. In a pattern, `*` is any
 * text, also none, and `?` is one character. Without either, all counters are meant.
 */
export interface CounterSelection {
  /** A pattern for the name of the limit; of a counter that belongs to no limit in force, for its own name. */
  readonly limit?: string;
  /** A pattern for each label, of those that the limit counts apart by; all of them must fit. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Which counters {@link Limiter.explain} explains, and how many. */
export interface ExplainQuery extends CounterSelection {
  /** How many counters, and how many crossings, at most: 1 to 1,000. Default: 10. */
  readonly max?: number;
  /** Where the former page ended: its `next`. Default: from the first on. */
  readonly after?: string;
}

/** Which counters {@link Limiter.page} lists, how many, and in which order. */
export interface CounterQuery extends ExplainQuery {
  /**
   * What comes first. `'used'` (the default): of which most of the limit is used; last what belongs to no limit. `'value'`: the largest.
   * `'left'`: what ends soonest. `'name'`: by limit and values. `'last-use'`: what was used last; last the counters of windows, of which
   * that is not noted.
   */
  readonly sort?: 'used' | 'value' | 'left' | 'name' | 'last-use';
}

/** A counter of a {@link CounterPage}. */
export interface CountedReport {
  /** The name of the limit that counts in it. */
  readonly limit: string;
  /** The values of the labels that it is counted apart for, in the order of the limit's `per`. */
  readonly values: readonly string[];
  /** The same by label; empty for a counter of no limit in force. */
  readonly labels: Readonly<Record<string, string>>;
  /** When its window began, in milliseconds since 1970; left out where there is no window. */
  readonly windowStart?: number;
  /** Its value: the sum over all instances; as decimal text in JSON. */
  readonly value: bigint;
  /** The maximum of its limit; left out if it belongs to no limit in force. */
  readonly max?: number;
  /** How often it was reset. */
  readonly generation: number;
  /** When it ends, in milliseconds since 1970. */
  readonly expiresAt: number;
  /** When it was used last, rounded down to a sixteenth of its time to live; left out for a window. */
  readonly lastUse?: number;
  /** Of how many replicas it has a cell. */
  readonly cells: number;
}

/** A page of counters: those of the next 4,096 slots of the table. */
export interface CounterPage {
  /** Those that are meant, in order, at most `max`. */
  readonly counters: readonly CountedReport[];
  /** How many of the page are meant, also those that were too many. */
  readonly found: number;
  /** How many slots were looked at: at most 4,096. */
  readonly visited: number;
  /**
   * Where the next page begins; left out after the last. It stays good whatever changes: a counter that is there throughout is listed
   * once, one that comes or goes between two pages is listed or not.
   */
  readonly next?: string;
}

/** A link, by what tells it from others. */
export interface LinkReport {
  /** Which node the peer says that it is. */
  readonly node: string;
  /** The fingerprint of the key that it has proven; left out without keys. */
  readonly key?: string;
  /** Its IP address as seen from here, or the address that was dialed. */
  readonly address?: string;
}

/** One replica's cell of a counter. */
export interface CellReport {
  /** Whose it is. */
  readonly replica: string;
  /** The number that its writer gave it. */
  readonly version: number;
  /** What was added. */
  readonly p: number;
  /** What was taken back. */
  readonly n: number;
  /** Which links brought updates of this replica since the start, how many that were new, and when the last; those of 8 links are kept. */
  readonly broughtBy: readonly { readonly link: LinkReport; readonly updates: number; readonly last: number }[];
  /** How many updates came by links that are not kept any more. */
  readonly updatesByOthers: number;
}

/** A cell that took a counter from under its limit to the limit or over it when it was merged. */
export interface CrossingReport {
  /** The name of the limit. */
  readonly limit: string;
  /** The values of the labels. */
  readonly values: readonly string[];
  /** Whose cell it was. */
  readonly replica: string;
  /** What the cell had added. */
  readonly p: number;
  /** What the cell had taken back. */
  readonly n: number;
  /** The counter's value before; as decimal text in JSON, as is that after. */
  readonly before: bigint;
  /** The counter's value with the cell. */
  readonly after: bigint;
  /** The maximum of the limit here. */
  readonly max: number;
  /** By which link it came. */
  readonly broughtBy: LinkReport;
  /** When, in milliseconds since 1970. */
  readonly at: number;
}

/** Where counts come from. */
export interface Explanation {
  /** The counters of the page that are meant, the fullest first; of each at most 256 cells, those that count most. */
  readonly counters: readonly { readonly counter: CountedReport; readonly byReplica: readonly CellReport[] }[];
  /** How many of the page are meant, also those that were too many. */
  readonly found: number;
  /** What took counters that are meant over their limits, the latest first, of the last 4,096 that took any. */
  readonly crossings: readonly CrossingReport[];
  /** Where the next page begins; left out after the last. */
  readonly next?: string;
}

/**
 * {@link Limiter.page}.
 *
 * @internal
 */
export function counterPage(limiter: number, query: CounterQuery): CounterPage {
  const asked = { ...checked(query, 100), ...(query.sort !== undefined && { sort: query.sort }) };
  const page = call(() => native.counterPage(limiter, asked));
  page.counters.forEach(showAsText);
  return page;
}

/**
 * {@link Limiter.explain}.
 *
 * @internal
 */
export function explain(limiter: number, query: ExplainQuery): Explanation {
  const explanation = call(() => native.explain(limiter, checked(query, 10)));
  for (const { counter } of explanation.counters) showAsText(counter);
  explanation.crossings.forEach(showAsText);
  return explanation;
}

/**
 * Resets one counter of a limit.
 *
 * @internal
 */
export function resetLimit(limiter: number, what: LimitReset): number {
  checkText('limit', what.limit);
  for (const [name, value] of Object.entries(what.labels)) {
    checkText('the name of a label', name);
    checkText(`label ${name}`, value);
  }
  const labels = joinLabels(what.labels);
  return call(() => native.resetLimit(limiter, what.limit, labels.text, labels.count));
}

/**
 * {@link Limiter.resetSelected}.
 *
 * @internal
 */
export function resetSelected(limiter: number, selection: CounterSelection): number {
  if (selection.limit === undefined && Object.keys(selection.labels ?? {}).length === 0) {
    throw new InvalidInputError("the selection has neither limit nor labels: { limit: '*' } means all counters");
  }
  return call(() => native.resetSelected(limiter, checked(selection, 1)));
}

const MAX = 1000;

function checked({ limit, labels, max, after }: ExplainQuery, usual: number) {
  if (limit !== undefined) checkText('limit', limit);
  if (labels !== undefined) checkObject('labels', labels);
  for (const [label, pattern] of Object.entries(labels ?? {})) checkText(`the pattern of label ${label}`, pattern);
  if (after !== undefined) checkText('after', after);
  const count = max ?? usual;
  if (!Number.isInteger(count) || count < 1 || count > MAX) {
    throw new InvalidInputError(`max is ${String(max)}: give a whole number from 1 to ${MAX}`);
  }
  return {
    max: count,
    ...(limit !== undefined && { limit }),
    ...(labels !== undefined && { labels: { ...labels } }),
    ...(after !== undefined && { after }),
  };
}

/** Has `JSON.stringify`, which takes no BigInt, show those of a report as decimal text. */
function showAsText(report: object): void {
  Object.defineProperty(report, 'toJSON', { value: withText });
}

function withText(this: object): object {
  const text = ([name, value]: [string, unknown]) => [name, typeof value === 'bigint' ? String(value) : value];
  return Object.fromEntries(Object.entries(this).map(text)) as object;
}
