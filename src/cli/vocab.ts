import type { Command } from "commander";
import { readCorpus } from "../node/corpus.ts";
import { writeFileAtomic } from "../node/files.ts";
import { trainWordPiece } from "../tokenizer/wordpiece.ts";
import { wholeNumber } from "./options.ts";
import { count, note } from "./terminal.ts";

export interface VocabOptions {
  readonly corpus: string;
  readonly output: string;
  readonly size: number;
  readonly minFrequency: number;
  readonly cased?: boolean;
}

/** Trains a WordPiece vocabulary and writes it as a tokenizer.json. */
export async function vocab({
  corpus,
  output,
  size,
  minFrequency,
  cased,
}: VocabOptions): Promise<void> {
  const sentences = await readCorpus(corpus);
  const json = trainWordPiece(sentences, { vocabSize: size, minFrequency, lowercase: !cased });
  await writeFileAtomic(output, new TextEncoder().encode(`${JSON.stringify(json, null, 1)}\n`));
  const pieces = Object.keys(json.model.vocab).length;
  note(`${output}: ${count(pieces)} word pieces from ${count(sentences.length)} sentences`);
}

export function addVocab(program: Command): void {
  program
    .command("vocab")
    .description("train a WordPiece vocabulary")
    .requiredOption("--corpus <file>", "text file, one sentence a line")
    .requiredOption("--output <file>", "tokenizer.json to write")
    .option("--size <n>", "word pieces, specials included", wholeNumber(100), 8192)
    .option("--min-frequency <n>", "least count of a pair that is merged", wholeNumber(1), 2)
    .option("--cased", "keep upper case and accents")
    .action((options: VocabOptions) => vocab(options));
}
