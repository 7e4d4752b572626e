/** The baseline under every encoder: the mean of the vectors of a text's words (GloVe, Pennington et al. 2014). */
import { FormatError } from "../errors.ts";

/** Words, and every other character but white space by itself, as such files have them. */
export function wordsOf(text: string): string[] {
  return text.match(/[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu) ?? [];
}

/**
 * Picks vectors out of a text file of them: a word and its numbers a line, as GloVe and word2vec write them, whose first line
 * may be the number of words and of dimensions. A word may hold spaces, as ". . ." of GloVe's does.
 * @throws FormatError with file and line for a wanted vector of another length or with something else than numbers, and for a
 * file that ends too early
 */
export async function readWordVectors(
  lines: AsyncIterable<string>,
  wanted: ReadonlySet<string>,
  name: string,
): Promise<{ vectors: ReadonlyMap<string, Float32Array>; dimension: number }> {
  const vectors = new Map<string, Float32Array>();
  let dimension = 0;
  let promised: number | undefined;
  let words = 0;
  let line = 0;
  let last = "";
  const parse = (content: string): readonly [word: string, vector: Float32Array] => {
    const fields = content.trimEnd().split(" ");
    const length = dimension || fields.length - 1;
    const word = fields.slice(0, -length).join(" ");
    const numbers = fields.slice(-length).map((field) => (field === "" ? NaN : Number(field)));
    if (word === "" || numbers.length !== length || !numbers.every(Number.isFinite)) {
      throw new FormatError(
        `${name}:${line}: expected a word and ${dimension || "its"} numbers with spaces between them, ` +
          `found ${JSON.stringify(content.slice(0, 60))}`,
      );
    }
    return [word, Float32Array.from(numbers)];
  };
  for await (const content of lines) {
    line++;
    const [header, count, size] = (line === 1 && /^(\d+) (\d+)\s*$/.exec(content)) || [];
    if (header !== undefined) {
      [promised, dimension] = [Number(count), Number(size)];
      continue;
    }
    if (content.trim() === "") continue;
    words++;
    last = content;
    // Most lines of a file of gigabytes are of no use; only their first words are looked at.
    if (dimension > 0 && !wanted.has(content.slice(0, content.indexOf(" ")))) continue;
    const [word, vector] = parse(content);
    dimension ||= vector.length;
    if (wanted.has(word)) vectors.set(word, vector);
  }
  if (words === 0) {
    throw new FormatError(`${name}: expected lines of a word and its vector, found none`);
  }
  parse(last); // a file that was cut off is, most often, in the middle of a line
  if (promised !== undefined && words !== promised) {
    throw new FormatError(
      `${name}:${line}: the file ends after ${words} words, its first line promises ${promised}; is it cut off?`,
    );
  }
  return { vectors, dimension };
}

/** Mean vector of each text's words, in lower case where a word is not there as it is; zeros without any. */
export function averageWords(
  texts: readonly string[],
  vectors: ReadonlyMap<string, Float32Array>,
  dimension: number,
): Float32Array[] {
  return texts.map((text) => {
    const found = wordsOf(text)
      .map((word) => vectors.get(word) ?? vectors.get(word.toLowerCase()))
      .filter((vector) => vector !== undefined);
    return Float32Array.from({ length: dimension }, (_, j) =>
      found.length === 0 ? 0 : found.reduce((sum, vector) => sum + vector[j]!, 0) / found.length,
    );
  });
}
