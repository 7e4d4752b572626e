/** The baseline under every encoder: the mean of the vectors of a text's words (GloVe, Pennington et al. 2014). */
import { FormatError } from "../errors.ts";

/** Words, and every other character but white space by itself, as such files have them. */
export function wordsOf(text: string): string[] {
  return text.match(/[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu) ?? [];
}

/**
 * Picks vectors out of a text file of them: a word and its numbers a line, as GloVe and word2vec write them, whose first line
 * may be the number of words and of dimensions.
 * @throws FormatError with file and line for a vector of another length or with something else than numbers
 */
export async function readWordVectors(
  lines: AsyncIterable<string>,
  wanted: ReadonlySet<string>,
  name: string,
): Promise<{ vectors: ReadonlyMap<string, Float32Array>; dimension: number }> {
  const vectors = new Map<string, Float32Array>();
  let dimension = 0;
  let line = 0;
  for await (const content of lines) {
    line++;
    if (line === 1 && /^\d+ \d+\s*$/.test(content)) continue;
    const first = dimension === 0;
    if (content.trim() === "") continue;
    const word = content.slice(0, content.indexOf(" "));
    if (!first && !wanted.has(word)) continue;
    const numbers = content.slice(word.length).trim().split(" ").map(Number);
    if (first) dimension = numbers.length;
    if (word === "" || numbers.length !== dimension || !numbers.every(Number.isFinite)) {
      throw new FormatError(
        `${name}:${line}: expected a word and ${first ? "its" : dimension} numbers with spaces between them, ` +
          `found ${JSON.stringify(content.slice(0, 60))}`,
      );
    }
    if (wanted.has(word)) vectors.set(word, Float32Array.from(numbers));
  }
  if (dimension === 0) {
    throw new FormatError(`${name}: expected lines of a word and its vector, found none`);
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
