/**
 * The settings as the native half takes them. Here their names and types are checked, and each refusal names the place in the object
 * and what is allowed there. Which values are, the native half knows; what it refuses is said with the names of the object as well.
 */
import type { Config } from './config.js';
import { ConfigError } from './errors.js';
import { LIMIT_PARTS, SETTINGS, camel, fileNamesReplaced, snake, type Setting } from './settings.js';
import { checkObject, isPlainObject, meantDuration, nearestOf, show, suggested } from './validate.js';

const TABLES = [...new Set(Object.keys(SETTINGS).map((path) => path.split('.')[0] ?? ''))];

/** Where a setting or a part of a limit belongs, for those who put it elsewhere. */
const PLACES = [
  ...Object.keys(SETTINGS).map((path) => `config.${path}`),
  ...Object.keys(LIMIT_PARTS).map((part) => `config.limits[n].${part}`),
];

/** What the settings of one table may be, by name. */
type Names = Readonly<Record<string, Setting>>;

/**
 * The settings as JSON, with the keys of the TOML file.
 *
 * @throws {@link InvalidInputError} when the config is no object
 * @throws {@link ConfigError} when it has a name that is none, lacks one that is required, or has a value of a wrong type
 */
export function settingsJson(config: Config): string {
  if (!isObject('config', config)) checkObject('the config', config);
  const known = [...TABLES, 'limits'];
  const settings = new Map<string, unknown>();
  for (const [key, value] of entriesOf('config', config)) {
    if (!known.includes(key)) throw noSetting('config', key, known);
    if (key === 'limits') settings.set('limit', limitsOf(value));
    else settings.set(key, tableOf(`config.${key}`, value, namesIn(key)));
  }
  if (!settings.has('node')) throw new ConfigError('config.node is missing: give { id } and where its data is');
  if (!Object.hasOwn(settings.get('node') as object, 'id')) {
    throw new ConfigError("config.node.id is missing: give the node's name, the same after a restart");
  }
  return JSON.stringify(Object.fromEntries(settings));
}

/** What the native half says of a setting: which one, of which limit if it is one's, its value, and what is allowed. */
interface Refusal {
  readonly key?: string;
  readonly limit?: string;
  readonly value?: string;
  readonly allowed?: string;
  /** What it says where no setting is the reason. */
  readonly said?: string;
}

/**
 * What the native half says of these settings, with their names in the object.
 *
 * @internal
 */
export function inConfig(error: unknown, json: string): unknown {
  if (!(error instanceof ConfigError)) return error;
  const { key, limit, value = '', allowed = '', said = '' } = JSON.parse(error.message) as Refusal;
  if (key === undefined) return new ConfigError(`config: ${fileNamesReplaced(said, 'config.')}`);
  const path = `config.${limit === undefined ? '' : `${placeOf(limit, json)}.`}${camel(key)}`;
  const of = limit === undefined || key === 'name' ? '' : ` (of the limit ${show(limit)})`;
  const setting = limit === undefined ? SETTINGS[camel(key)] : (LIMIT_PARTS as Names)[camel(key)];
  const meant = setting?.kind === 'duration' && /^"\d+"$/.test(value) ? meantValue(setting, Number(value.slice(1, -1))) : '';
  return new ConfigError(`${path} = ${value}${of} is not allowed: ${fileNamesReplaced(allowed, 'config.')}${meant}`);
}

/** Where in the object the limit of this name is: no two have one name. */
function placeOf(name: string, json: string): string {
  const { limit = [] } = JSON.parse(json) as { limit?: { name: string }[] };
  return `limits[${limit.findIndex((limit) => limit.name === name)}]`;
}

function namesIn(table: string): Names {
  const here = Object.entries(SETTINGS).filter(([path]) => path.startsWith(`${table}.`));
  return Object.fromEntries(here.map(([path, setting]) => [path.slice(table.length + 1), setting]));
}

/** A table of settings, or a limit, with the names of the file. */
function tableOf(path: string, table: unknown, names: Names): Record<string, unknown> {
  if (!isObject(path, table)) throw refusedShape(path, table, `an object of ${Object.keys(names).join(', ')}`);
  const entries = entriesOf(path, table).map(([key, value]) => {
    const setting = Object.hasOwn(names, key) ? names[key] : undefined;
    if (setting === undefined) throw noSetting(path, key, Object.keys(names));
    const here = `${path}.${key}`;
    return [snake(key), key === 'when' ? patternsOf(here, value) : valueOf(here, value, setting)];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
}

function limitsOf(limits: unknown): unknown[] {
  const path = 'config.limits';
  if (!Array.isArray(limits)) throw refusedShape(path, limits, 'an array of limits');
  const places = new Map<unknown, string>();
  return Array.from(limits, (limit: unknown, index) => {
    const here = `${path}[${index}]`;
    const entry = tableOf(here, limit, LIMIT_PARTS);
    for (const part of ['name', 'max', 'window'] as const) {
      // As one that is undefined is refused.
      if (!Object.hasOwn(entry, part)) valueOf(`${here}.${part}`, undefined, LIMIT_PARTS[part]);
    }
    const taken = places.get(entry['name']);
    if (taken !== undefined) {
      throw new ConfigError(
        `${here}.name is ${show(entry['name'])}, as that of ${taken} is: give each limit a name of its own`,
      );
    }
    places.set(entry['name'], here);
    return entry;
  });
}

/** The patterns of a limit by label: their keys are the user's. */
function patternsOf(path: string, patterns: unknown): unknown {
  if (!isObject(path, patterns)) {
    const plain = typeof patterns === 'object' && patterns !== null ? 'a plain object' : 'an object';
    throw refusedShape(path, patterns, `${plain} of patterns by label`);
  }
  return Object.fromEntries(
    entriesOf(path, patterns).map(([label, pattern]) => {
      textOf(`a label of ${path}`, label, LIMIT_PARTS.when);
      return [label, textOf(`${path}.${label}`, pattern, LIMIT_PARTS.when)];
    }),
  );
}

/** The value of a setting, if it is of its type. */
function valueOf(path: string, value: unknown, setting: Setting): unknown {
  switch (setting.kind) {
    case 'text':
    case 'word':
    case 'duration':
      return textOf(path, value, setting);
    case 'secret':
      // Not even a part of it is shown.
      if (typeof value !== 'string') throw new ConfigError(`${path} is no string: ${give(setting)}`);
      if (!value.isWellFormed() || value.includes('\0')) throw new ConfigError(`${path} is no text: ${give(setting)}`);
      return value;
    case 'texts':
      if (!Array.isArray(value)) throw refused(path, value, setting);
      return Array.from(value, (item: unknown, index) => textOf(`${path}[${index}]`, item, LIMIT_PARTS.when));
    case 'flag':
      if (typeof value !== 'boolean') throw refused(path, value, setting);
      return value;
    case 'count':
      if (!Number.isSafeInteger(value) || (value as number) < 0) throw refused(path, value, setting);
      return value;
    case 'fraction':
      if (!Number.isFinite(value)) throw refused(path, value, setting);
      return value;
  }
}

function textOf(path: string, value: unknown, setting: Setting): string {
  if (typeof value !== 'string') throw refused(path, value, setting);
  if (value.isWellFormed() && !value.includes('\0')) return value;
  throw new ConfigError(`${path} is ${show(value)}: give well-formed text without NUL`);
}

function refused(path: string, value: unknown, setting: Setting): ConfigError {
  return new ConfigError(`${path} is ${show(value)}: ${give(setting)}${orNothing(value)}${meantValue(setting, value)}`);
}

function refusedShape(path: string, value: unknown, allowed: string): ConfigError {
  return new ConfigError(`${path} is ${show(value)}: give ${allowed}${orNothing(value)}`);
}

function orNothing(value: unknown): string {
  return value === undefined || value === null ? ', or leave it out if it is optional' : '';
}

/** What is allowed, in the words of JavaScript. */
function give({ kind, allowed, default: usual = '60s' }: Setting): string {
  switch (kind) {
    case 'text':
      return 'give a string';
    case 'secret':
      return `give a string: ${allowed}`;
    case 'texts':
      return 'give an array of strings';
    case 'flag':
    case 'word':
      return `give ${allowed}`;
    case 'duration':
      return `give a string: ${allowed}, such as "${usual}"`;
    case 'count':
      return `give a whole number from ${allowed}`;
    case 'fraction':
      return `give a number from ${allowed}`;
  }
}

/** What was probably meant by a value of a wrong type. */
function meantValue({ kind, default: usual = '' }: Setting, value: unknown): string {
  switch (kind) {
    case 'duration':
      return suggested(meantDuration(value, usual.endsWith('ms') ? 'ms' : 's'));
    case 'text':
      return suggested(typeof value === 'number' || typeof value === 'bigint' ? `"${value}"` : undefined);
    case 'texts':
      return suggested(typeof value === 'string' ? `[${show(value)}]` : undefined);
    case 'flag':
      return suggested(value === 'true' || value === 'false' ? value : undefined);
    case 'count':
    case 'fraction':
      return suggested(isNumeric(value) ? String(Number(value)) : undefined);
    case 'word':
    case 'secret':
      return '';
  }
}

function isNumeric(value: unknown): boolean {
  return (typeof value === 'string' && /^\d+(\.\d+)?$/.test(value)) || (typeof value === 'bigint' && value >= 0n);
}

/** A name that means nothing there, and the one that may be meant, there or elsewhere. */
function noSetting(path: string, key: string, known: readonly string[]): ConfigError {
  const elsewhere = PLACES.find((place) => nearestOf(key, [place.slice(place.lastIndexOf('.') + 1)], 0) !== undefined);
  const meant = nearestOf(key, known, 0) ?? elsewhere ?? nearestOf(key, known);
  return new ConfigError(`${path}.${key} is no setting: those of ${path} are ${known.join(', ')}${suggested(meant)}`);
}

function isObject(path: string, value: unknown): value is object {
  return read(path, () => isPlainObject(value));
}

/** Each value is read once: what a getter returns the next time must not slip in. */
function entriesOf(path: string, value: object): [string, unknown][] {
  const keys = read(path, () => Object.keys(value));
  return keys.map((key) => [key, read(`${path}.${key}`, () => (value as Record<string, unknown>)[key])]);
}

function read<T>(path: string, get: () => T): T {
  try {
    return get();
  } catch (thrown) {
    // It may be an error of any realm, or none.
    const { name, message } = (thrown ?? {}) as { name?: unknown; message?: unknown };
    const what = typeof message === 'string' ? `${String(name)}: ${message}` : show(thrown);
    throw new ConfigError(`${path} cannot be read: it threw ${what}`, { cause: thrown });
  }
}
