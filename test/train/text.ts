import { RandomStream } from "../../src/train/random.ts";

const WORDS =
  "a the file folder reads writes quickly slowly server client returns opens closes value error name".split(
    " ",
  );

/** Sentences of our own making, of 5 to 12 words: any text does. */
export function sentences(count: number, seed: number): string[] {
  const random = new RandomStream(seed, 9);
  const sentence = (): string =>
    Array.from({ length: 5 + random.below(8) }, () => WORDS[random.below(WORDS.length)]).join(" ");
  return Array.from({ length: count }, sentence);
}
