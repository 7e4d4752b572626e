import { FormatError } from "../errors.ts";

/**
 * JSON of a file, in UTF-8. Unlike `JSON.parse`, it refuses an object that has a key twice: two readers of such a file may
 * take different values. `name` is the file and `what` its contents, for errors.
 * @throws FormatError for bytes that are no UTF-8, no JSON, or have a key twice
 */
export function parseJson(bytes: Uint8Array, name: string, what: string): unknown {
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    const { message } = cause as Error;
    throw new FormatError(`${name}: expected ${what} as JSON; ${message}`, { cause });
  }
  const twice = duplicateKey(text);
  if (twice === undefined) return json;
  throw new FormatError(
    `${name}: expected ${what} as JSON, found an object with the key ${JSON.stringify(twice.slice(0, 60))} twice; keep one`,
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
