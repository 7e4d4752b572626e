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
/** Names that data sets give to the three columns: STS, MRPC, LCQMC. */
const COLUMNS = [
  ["score", "label", "quality"],
  ["sentence1", "text_a", "#1 string"],
  ["sentence2", "text_b", "#2 string"],
] as const;

/**
 * Reads graded or labelled pairs, in the format that the ending of `name` says (before .gz or .zst); it also stands in errors.
 *
 * - `.csv`: fields score, sentence, sentence, quoted where they hold a comma
 * - `.jsonl`: an object with `score`, `sentence1` and `sentence2` a line
 * - anything else: score, sentence and sentence with tabs between them; a quotation mark is text
 *
 * With a header, the columns stand in any order, and there may be more: `score`, `label` or `Quality`; `sentence1`, `text_a` or
 * `#1 String`; and the same with 2. Without one, a number in the third field alone, as in LCQMC, is the score. Blank lines are
 * skipped, and white space round a field is dropped.
 * @throws FormatError with file and line for a line that is not a pair, and for a file without any
 */
export function parsePairs(text: string, name: string): GradedPairs {
  const bare = text.replace(/^\uFEFF/, "");
  const [, format] = /\.(csv|jsonl)(?:\.(?:gz|zst))?$/i.exec(name) ?? [];
  switch (format?.toLowerCase()) {
    case "csv":
      return gradePairs(tableRows(csvRecords(bare, name), "commas", name), name);
    case "jsonl":
      return gradePairs(jsonRows(bare, name), name);
    default:
      return gradePairs(tableRows(tabRecords(bare), "tabs", name), name);
  }
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

/**
 * The same without the first, which has the names of columns.
 * @throws FormatError where it has a number in their place
 */
export function linesBelowHeader(
  text: string,
  name: string,
): (readonly [line: number, text: string])[] {
  const [header, ...rest] = numberedLines(text);
  const first = header?.[1].split("\t", 1)[0] ?? "";
  if (!NUMBER.test(first)) return rest;
  throw new FormatError(
    `${name}:${header![0]}: expected a line with the names of the columns, found ${JSON.stringify(first)}; is its beginning cut off?`,
  );
}

/** A record of a file, as fields. */
interface Rec {
  readonly line: number;
  readonly fields: readonly string[];
}

function* tabRecords(text: string): Generator<Rec> {
  for (const [line, content] of numberedLines(text)) yield { line, fields: content.split("\t") };
}

function* tableRows(records: Iterable<Rec>, between: string, name: string): Generator<PairRow> {
  let columns: readonly (number | undefined)[] | undefined;
  let width: number = COLUMNS.length;
  for (const { line, fields } of records) {
    if (columns === undefined) {
      const header = pairColumns(fields);
      columns = header ?? (isScore(fields[2]) && !isScore(fields[0]) ? [2, 0, 1] : [0, 1, 2]);
      if (header) {
        width = fields.length;
        continue;
      }
    }
    if (fields.length !== width) {
      throw new FormatError(
        `${name}:${line}: expected ${width} fields with ${between} between them ` +
          `(${width > 3 ? "as the header has" : "score, sentence, sentence"}), found ${fields.length}`,
      );
    }
    const [score, a, b] = columns.map((index) => fields[index!]!);
    yield { line, score: score!, a: a!, b: b! };
  }
}

/** An empty score is one that is left out. */
function isScore(field: string | undefined): boolean {
  return field !== undefined && (field.trim() === "" || NUMBER.test(field.trim()));
}

/** Where score, sentence and sentence stand among the names of columns; undefined unless all three are there. */
export function pairColumns(names: readonly string[]): number[] | undefined {
  const known = names.map((name) => name.trim().toLowerCase());
  const found = COLUMNS.map((column) => known.findIndex((name) => column.some((c) => c === name)));
  return found.every((index) => index >= 0) ? found : undefined;
}

/** Records of comma-separated values (RFC 4180); a quoted field may hold commas, line ends and doubled quotation marks. */
function* csvRecords(text: string, name: string): Generator<Rec> {
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
    yield pairOfObject((value ?? {}) as Record<string, unknown>, name, line);
  }
}

/**
 * The pair in an object of JSON or Parquet, under any of the names that `parsePairs` knows.
 * @throws FormatError with file and line for other objects
 */
export function pairOfObject(
  object: Readonly<Record<string, unknown>>,
  name: string,
  line: number,
): PairRow {
  const names = Object.keys(object);
  const [score, a, b] = COLUMNS.map(
    (column) => object[names.find((key) => column.some((c) => c === key.toLowerCase())) ?? ""],
  );
  if (typeof a !== "string" || typeof b !== "string") {
    throw new FormatError(
      `${name}:${line}: expected "score", "sentence1" and "sentence2", the sentences as strings, found ` +
        (names.length === 0
          ? "none"
          : names
              .map((key) => `${key}: ${typeof object[key]}`)
              .join(", ")
              .slice(0, 80)),
    );
  }
  const given = score ?? "";
  if (typeof given === "string" || typeof given === "number" || typeof given === "bigint") {
    return { line, score: String(given), a, b };
  }
  throw new FormatError(
    `${name}:${line}: the score must be a number, found ${JSON.stringify(given).slice(0, 40)}`,
  );
}

/**
 * The words two sentences share over the words of both (Jaccard 1912), in [0, 1]: what a model has to beat. A word is a
 * run of letters, marks and digits in lower case, and each Chinese or Japanese character is one; 0 without any word.
 */
export function wordOverlap(a: string, b: string): number {
  const first = words(a);
  const second = words(b);
  const shared = [...first].filter((word) => second.has(word)).length;
  return shared === 0 ? 0 : shared / (first.size + second.size - shared);
}

/**
 * F1 of two sentences as bags of words, in [0, 1]: twice the words they share over the words of both, each as often as it is
 * there. SimCSE's paper compares training sets by its mean.
 */
export function sharedWords(a: string, b: string): number {
  const first = bagOf(a);
  const second = bagOf(b);
  const left = new Map<string, number>();
  for (const word of first) left.set(word, (left.get(word) ?? 0) + 1);
  let shared = 0;
  for (const word of second) {
    const times = left.get(word) ?? 0;
    if (times > 0) shared++;
    left.set(word, times - 1);
  }
  return shared === 0 ? 0 : (2 * shared) / (first.length + second.length);
}

const WORD =
  /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]|[[\p{L}\p{M}\p{N}]--[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]]+/gv;

function words(sentence: string): Set<string> {
  return new Set(bagOf(sentence));
}

function bagOf(sentence: string): readonly string[] {
  return sentence.toLowerCase().match(WORD) ?? [];
}
