import { FormatError } from "../errors.ts";

/** Two sentences and how alike people found them, most often from 0 (unrelated) to 5 (the same). */
export interface GradedPair {
  readonly score: number;
  readonly a: string;
  readonly b: string;
}

/** What a file holds: rows without a grade are counted and left out, as SentEval does. */
export interface GradedPairs {
  readonly pairs: readonly GradedPair[];
  readonly ungraded: number;
}

/** A row as its file spells it; `line` counts from 1. */
export interface PairRow {
  readonly line: number;
  readonly score: string;
  readonly a: string;
  readonly b: string;
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const COLUMNS = ["score", "sentence1", "sentence2"] as const;

/**
 * Reads graded pairs, in the format that the ending of `name` says; it also stands in errors.
 *
 * - `.csv`: fields score, sentence, sentence, quoted where they hold a comma; with a header, its columns `score`, `sentence1`
 *   and `sentence2` in any order
 * - `.jsonl`: an object with `score`, `sentence1` and `sentence2` a line
 * - anything else: score, sentence and sentence with tabs between them, no header; a quotation mark is text
 *
 * Blank lines are skipped, and white space round a field is dropped.
 * @throws FormatError with file and line for a line that is not a pair, and for a file without any
 */
export function parsePairs(text: string, name: string): GradedPairs {
  const bare = text.replace(/^\uFEFF/, "");
  const format = /\.csv$/i.test(name) ? csvRows : /\.jsonl$/i.test(name) ? jsonRows : tabRows;
  return gradePairs(format(bare, name), name);
}

/**
 * Rows to pairs.
 * @throws FormatError for a score that is no number, an empty sentence, and for no pair at all
 */
export function gradePairs(rows: Iterable<PairRow>, name: string): GradedPairs {
  const pairs: GradedPair[] = [];
  let ungraded = 0;
  for (const row of rows) {
    const [grade, a, b] = [row.score.trim(), row.a.trim(), row.b.trim()];
    if (grade === "") {
      ungraded++;
      continue;
    }
    const where = `${name}:${row.line}`;
    const score = Number(grade);
    if (!NUMBER.test(grade) || !Number.isFinite(score)) {
      throw new FormatError(
        `${where}: the score must be a number, found ${JSON.stringify(grade.slice(0, 40))}; ` +
          `the fields are score, sentence, sentence`,
      );
    }
    if (a === "" || b === "") {
      throw new FormatError(
        `${where}: the ${a === "" ? "first" : "second"} sentence is empty; remove the line`,
      );
    }
    pairs.push({ score, a, b });
  }
  if (pairs.length === 0) {
    throw new FormatError(
      `${name}: expected graded pairs of sentences, found ` +
        (ungraded === 0 ? "none; the file is empty" : `${ungraded} rows, all without a score`),
    );
  }
  return { pairs, ungraded };
}

/** The lines of a text that are not blank, with their numbers. */
export function* numberedLines(text: string): Generator<readonly [line: number, text: string]> {
  let line = 0;
  for (const content of text.split(/\r?\n/)) {
    line++;
    if (!/^ *$/.test(content)) yield [line, content];
  }
}

function* tabRows(text: string, name: string): Generator<PairRow> {
  for (const [line, content] of numberedLines(text)) {
    yield rowOf(content.split("\t"), "with tabs between them", `${name}:${line}`, line);
  }
}

function* csvRows(text: string, name: string): Generator<PairRow> {
  let columns: number[] | undefined;
  for (const { line, fields } of csvRecords(text, name)) {
    if (columns === undefined) {
      const header = fields.map((field) => field.trim().toLowerCase());
      const found = COLUMNS.map((column) => header.indexOf(column));
      columns = found.every((index) => index >= 0) ? found : [];
      if (columns.length > 0) continue;
    }
    const picked = columns.length > 0 ? columns.map((index) => fields[index] ?? "") : fields;
    yield rowOf(picked, "with commas between them", `${name}:${line}`, line);
  }
}

function rowOf(fields: readonly string[], how: string, where: string, line: number): PairRow {
  const [score, a, b] = fields;
  if (score === undefined || a === undefined || b === undefined || fields.length > 3) {
    throw new FormatError(
      `${where}: expected 3 fields ${how} (score, sentence, sentence), found ${fields.length}`,
    );
  }
  return { line, score, a, b };
}

/** Records of comma-separated values (RFC 4180); a quoted field may hold commas, line ends and doubled quotation marks. */
function* csvRecords(
  text: string,
  name: string,
): Generator<{ readonly line: number; readonly fields: readonly string[] }> {
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;
  let line = 1;
  let fields: string[] = [];
  let begun = line;
  while (field.lastIndex < text.length || fields.length > 0) {
    const at = field.lastIndex;
    const match = field.exec(text);
    if (match === null) {
      throw new FormatError(
        `${name}:${line}: a quotation mark that does not open and close its field at ` +
          `${JSON.stringify(text.slice(at, at + 40))}; double it, and quote the field`,
      );
    }
    fields.push(match[1]?.replaceAll('""', '"') ?? match[2]!);
    line += match[0].split("\n").length - 1;
    if (match[3] === ",") continue;
    if (fields.length > 1 || fields[0]!.trim() !== "") yield { line: begun, fields };
    fields = [];
    begun = line;
  }
}

function* jsonRows(text: string, name: string): Generator<PairRow> {
  for (const [line, content] of numberedLines(text)) {
    const where = `${name}:${line}`;
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch (cause) {
      throw new FormatError(`${where}: expected a JSON object; ${(cause as Error).message}`, {
        cause,
      });
    }
    const { score, sentence1, sentence2 } = (value ?? {}) as Record<string, unknown>;
    if (typeof sentence1 !== "string" || typeof sentence2 !== "string") {
      throw new FormatError(
        `${where}: expected "score", "sentence1" and "sentence2", the sentences as strings, found ${content.slice(0, 80)}`,
      );
    }
    const given = typeof score === "number" || typeof score === "string" ? String(score) : "";
    yield { line, score: given, a: sentence1, b: sentence2 };
  }
}

/**
 * The words two sentences share over the words of both (Jaccard 1912), in [0, 1]: what a model has to beat. A word is a
 * run of letters, marks and digits in lower case, so languages written without spaces have few; 0 without any word.
 */
export function wordOverlap(a: string, b: string): number {
  const first = words(a);
  const second = words(b);
  const shared = [...first].filter((word) => second.has(word)).length;
  return shared === 0 ? 0 : shared / (first.size + second.size - shared);
}

function words(sentence: string): Set<string> {
  return new Set(sentence.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu));
}
