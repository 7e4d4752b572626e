/** Texts that come one by one, of files or stdin: plain text, JSON objects, or a column of a table. */
import { FormatError } from "../errors.ts";
import type { NewItem } from "../search/flat-index.ts";
import { lines, openRows } from "./rows.ts";

/** A text, and whatever else its line says. */
export interface TextRecord {
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

const JSON_LINES = /\.(?:jsonl|ndjson)(?:\.gz|\.zst)?$/;
const TABLE = /\.(?:csv|tsv|parquet)(?:\.gz|\.zst)?$/;

/**
 * Lines of a UTF-8 file, compressed or not, or of stdin if `file` is "-", without their ends (\n or \r\n) and a byte-order
 * mark; blank lines are lines too. Only what has been read and not yet taken is in memory.
 * @throws Error for a file that cannot be read, FormatError for one that is not UTF-8
 */
export async function* readLines(file: string): AsyncGenerator<string> {
  for await (const { text } of lines(file, "expected UTF-8 text with one text a line")) yield text;
}

/**
 * Texts of a file, or of stdin if it is "-". Of .csv, .tsv and .parquet the column `field`; of .jsonl and .ndjson, and of
 * anything else for which a `field` is named, the string `field` of the JSON object in each line that is not blank; `field`
 * is "text" unless named. Of any other file each line.
 * @throws FormatError naming the line that is none; Error for a file that cannot be read
 */
export async function* readTexts(file: string, field?: string): AsyncGenerator<TextRecord> {
  const name = field ?? "text";
  if (TABLE.test(file)) {
    const { rows } = await openRows(file, [name]);
    for await (const { cells } of rows) yield { text: cells[0]!, fields: { [name]: cells[0]! } };
  } else if (field !== undefined || JSON_LINES.test(file)) {
    yield* readJsonLines(file, name);
  } else {
    for await (const text of readLines(file)) yield { text, fields: { text } };
  }
}

/**
 * Texts as `readTexts` has them, with what belongs to them: of JSON objects their `id`, if it is a number or a string, and
 * all other fields as metadata.
 */
export async function* readItems(
  file: string,
  field?: string,
): AsyncGenerator<Exclude<NewItem, string>> {
  for await (const { text, fields } of readTexts(file, field)) {
    const { id, [field ?? "text"]: _, ...metadata } = fields;
    yield {
      text,
      ...((typeof id === "number" || typeof id === "string") && { id }),
      ...(Object.keys(metadata).length > 0 && { metadata }),
    };
  }
}

async function* readJsonLines(file: string, field: string): AsyncGenerator<TextRecord> {
  let number = 0;
  for await (const line of readLines(file)) {
    number++;
    if (line.trim() === "") continue;
    const expected = `${file}:${number}: expected a JSON object with a string "${field}"`;
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch (cause) {
      throw new FormatError(`${expected}; ${(cause as Error).message}`, { cause });
    }
    const fields = (json ?? {}) as Readonly<Record<string, unknown>>;
    const text = fields[field];
    if (typeof text !== "string") {
      throw new FormatError(`${expected}, found ${line.slice(0, 60)}; --field names another`);
    }
    yield { text, fields };
  }
}
