import { FormatError } from "../errors.ts";

/** What a file of JSON may have: whoever wrote it does not decide how much memory it takes. */
export interface JsonLimits {
  /** Most bytes. */
  readonly bytes: number;
  /** Most values: `[[],[],…` takes ten times the memory of its text. */
  readonly values: number;
}

/** Of settings, which have some KB. */
export const SETTINGS: JsonLimits = { bytes: 2 ** 22, values: 2 ** 18 };
/** Of a tokenizer: XLM-RoBERTa's, the largest of the family, has 17 MB and an array of two for each of 250,000 pieces. */
export const VOCABULARY: JsonLimits = { bytes: 2 ** 26, values: 2 ** 21 };

/**
 * JSON of a file, in UTF-8. Unlike `JSON.parse`, it refuses an object that has a key twice: two readers of such a file may
 * take different values. `name` is the file and `what` its contents, for errors.
 * @throws FormatError for bytes that are past a limit, no UTF-8, no JSON, or have a key twice
 */
export function parseJson(
  bytes: Uint8Array,
  name: string,
  what: string,
  limits: JsonLimits = SETTINGS,
): unknown {
  checkBytes(bytes.length, limits.bytes, name, what);
  const { keys } = checkValues(bytes, limits.values, name, what);
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    const { message } = cause as Error;
    throw new FormatError(`${name}: expected ${what} as JSON; ${message}`, { cause });
  }
  if (keysOf(json) === keys) return json;
  const twice = duplicateKey(text) ?? "";
  throw new FormatError(
    `${name}: expected ${what} as JSON, found an object with the key ${JSON.stringify(twice.slice(0, 60))} twice; keep one`,
  );
}

/** Keys of all objects of a value: fewer than its text has, where an object has one twice. */
export function keysOf(value: unknown): number {
  const waiting = [value];
  let count = 0;
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (typeof next !== "object" || next === null) continue;
    const isArray = Array.isArray(next);
    for (const key in next) {
      if (!isArray) count++;
      const inner = (next as Readonly<Record<string, unknown>>)[key];
      if (typeof inner === "object") waiting.push(inner);
    }
  }
  return count;
}

/** @throws FormatError for a file of more bytes than it may have */
export function checkBytes(bytes: number, most: number, name: string, what: string): void {
  if (bytes <= most) return;
  throw new FormatError(
    `${name}: expected ${what} of at most ${most} bytes, found ${bytes}; is it another file?`,
  );
}

/**
 * Counts the keys of all objects of JSON that is not parsed yet.
 * @throws FormatError for more values than it may have
 */
export function checkValues(
  json: Uint8Array,
  most: number,
  name: string,
  what: string,
): { readonly keys: number } {
  let count = 0; // a value is the first of an array or object, or it follows a comma
  let keys = 0; // before a colon
  let quoted = false;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i];
    if (byte === 0x22) quoted = !quoted;
    else if (byte === 0x5c) i++;
    else if (quoted) continue;
    else if (byte === 0x3a) keys++;
    else if (byte === 0x2c || byte === 0x5b || byte === 0x7b) count++;
  }
  if (count <= most) return { keys };
  throw new FormatError(
    `${name}: expected ${what} of at most ${most} values, found ${count}; is it another file?`,
  );
}

/** The first key that some object of a valid JSON text has twice. */
export function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // keys of the objects around the position; arrays have none
  for (let i = 0; i < json.length; i++) {
    const c = json.charCodeAt(i);
    if (c === 0x7b) open.push(new Set());
    else if (c === 0x5b) open.push(undefined);
    else if (c === 0x7d || c === 0x5d) open.pop();
    else if (c === 0x22) {
      const begin = i;
      let escaped = false;
      for (i++; json.charCodeAt(i) !== 0x22; i++) {
        if (json.charCodeAt(i) !== 0x5c) continue;
        escaped = true;
        i++;
      }
      let next = i + 1;
      while (json.charCodeAt(next) <= 0x20) next++;
      const keys = json.charCodeAt(next) === 0x3a ? open.at(-1) : undefined;
      if (!keys) continue;
      const key = escaped
        ? (JSON.parse(json.slice(begin, i + 1)) as string)
        : json.slice(begin + 1, i);
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
