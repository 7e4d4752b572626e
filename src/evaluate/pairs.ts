import { FormatError } from "../errors.ts";

/** Two sentences and how alike people found them, most often from 0 (unrelated) to 5 (the same). */
export interface GradedPair {
  readonly score: number;
  readonly a: string;
  readonly b: string;
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

/**
 * Reads a table of lines `score<TAB>sentence<TAB>sentence` without a header. A quotation mark is text, as in the STS
 * files; blank lines are skipped, and white space round a field is dropped. `name` is the file's, for errors.
 * @throws FormatError with file and line for a line that is not a pair, and for a file without any
 */
export function parsePairs(text: string, name: string): GradedPair[] {
  const pairs: GradedPair[] = [];
  text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .forEach((line, index) => {
      if (/^ *$/.test(line)) return;
      const where = `${name}:${index + 1}`;
      const fields = line.split("\t").map((field) => field.trim());
      const [grade, a, b] = fields;
      if (grade === undefined || a === undefined || b === undefined || fields.length > 3) {
        throw new FormatError(
          `${where}: expected 3 fields with tabs between them (score, sentence, sentence), found ${fields.length}`,
        );
      }
      const score = Number(grade);
      if (!NUMBER.test(grade) || !Number.isFinite(score)) {
        throw new FormatError(
          `${where}: the score must be a number, found ${JSON.stringify(grade.slice(0, 40))}; ` +
            `a table has no header, and its first field is the score`,
        );
      }
      if (a === "" || b === "") {
        throw new FormatError(
          `${where}: the ${a === "" ? "first" : "second"} sentence is empty; remove the line`,
        );
      }
      pairs.push({ score, a, b });
    });
  if (pairs.length === 0) {
    throw new FormatError(
      `${name}: expected lines of score, sentence, sentence, found none; the file is empty`,
    );
  }
  return pairs;
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
