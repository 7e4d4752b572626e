/** What `simcse start` trains: a model in the box on what this text says of things, or one from nothing. */
import { resolve } from "node:path";
import { collectCorpus, readCorpus } from "../node/corpus.ts";
import { writeFileAtomic } from "../node/files.ts";
import { PACKAGE } from "../node/package.ts";
import { average } from "./average.ts";
import { init } from "./init.ts";
import { count, note } from "./terminal.ts";
import { train } from "./train.ts";
import type { TrainOptions } from "./train-options.ts";
import { vocab } from "./vocab.ts";

/** Announces the next step. */
export type Announce = (step: string) => void;

export interface Text {
  /** A file of sentences. */
  readonly corpus: string;
  readonly sentences: readonly string[];
  /** Sentences and the names of what they are about, where the text has names. */
  readonly names?: { readonly file: string; readonly count: number };
}

type Run = Pick<TrainOptions, "output" | "steps" | "threads">;

/** The text of a file of one's own; or else that of the installed packages, written to these files. */
export async function readText(
  own: string | undefined,
  corpus: string,
  names: string,
): Promise<Text> {
  if (own !== undefined) return { corpus: own, sentences: await readCorpus(own) };
  const collected = await collectCorpus(resolve(PACKAGE, "node_modules"));
  const write = async (file: string, lines: readonly string[]): Promise<void> =>
    writeFileAtomic(file, new TextEncoder().encode(`${lines.join("\n")}\n`));
  await write(corpus, collected.sentences);
  await write(names, ["sentence\tname", ...collected.names.map((pair) => pair.join("\t"))]);
  note(`read ${count(collected.files)} files of the packages installed here`);
  note(`${names}: ${count(collected.names.length)} sentences and the names of what they are about`);
  return {
    corpus,
    sentences: collected.sentences,
    names: { file: names, count: collected.names.length },
  };
}

/** Options of every run; an interrupted one goes on where it stopped, unless the corpus or an option has changed. */
const SETTINGS = {
  warmup: 0.05,
  weightDecay: 0.01,
  maxGradientNorm: 1,
  seed: 42,
  checkpointEvery: 100,
  resume: true,
  force: true,
} as const;

/** Pairs that are enough: they are read twice at most, and more would teach no more in the minute there is. */
const PAIRS_SEEN = 56_000;

/** Share of what was learnt in the model that comes out; the rest is what it knew. */
const LEARNT = 0.75;

/**
 * Fine-tunes a model that has seen more than this text, and averages the weights with those it began with, so that it keeps what
 * it knew. A sentence and the name of what it is about are a pair; of a text without names, a sentence and the next one are,
 * which teaches less, and more slowly. docs/model-log.md has what else was tried.
 */
export async function fineTune(
  { model, tuned }: { model: string; tuned: string },
  { corpus, sentences, names }: Text,
  { output, ...run }: Run,
  announce: Announce,
): Promise<void> {
  const text = names ? `--train ${names.file}` : `--corpus ${corpus} --neighbours 1`;
  const averaged = [`${model}:${1 - LEARNT}`, `${tuned}:${LEARNT}`];
  announce(
    `simcse train --model ${model} ${text} --output ${tuned}, then ` +
      `simcse average --model ${averaged.join(" ")} --output ${output}`,
  );
  const pairs = names?.count ?? sentences.length;
  await train({
    ...SETTINGS,
    ...run,
    model,
    output: tuned,
    ...(names
      ? { train: [names.file], learningRate: 2e-3 }
      : { corpus, neighbours: 1, learningRate: 3e-4 }),
    epochs: Math.min(2, PAIRS_SEEN / pairs),
    batchSize: 256,
    temperature: 0.2,
    dropout: false,
    maxLength: 48,
  });
  await average({ model: averaged, output });
}

/** A small corpus is read several times: fewer steps than these teach little. */
const SENTENCES_SEEN = 40_000;

/** Makes a vocabulary of the text and a model of random weights, and trains it by dropout alone. */
export async function trainFromScratch(
  { tokenizer, untrained }: { tokenizer: string; untrained: string },
  { corpus, sentences }: Text,
  run: Run,
  announce: Announce,
): Promise<void> {
  announce(`simcse vocab --corpus ${corpus} --output ${tokenizer}`);
  await vocab({ corpus, output: tokenizer, size: 2048, minFrequency: 2 });

  announce(
    `simcse init, then simcse train --model ${untrained} --corpus ${corpus} --output ${run.output}`,
  );
  await init({
    tokenizer,
    output: untrained,
    layers: 2,
    hidden: 128,
    heads: 4,
    intermediate: 512,
    maxLength: 64,
    pooling: "avg",
    dropout: 0.4,
    seed: 42,
  });
  await train({
    ...SETTINGS,
    ...run,
    model: untrained,
    corpus,
    epochs: Math.max(1, SENTENCES_SEEN / sentences.length),
    batchSize: 64,
    learningRate: 1e-3,
    temperature: 0.1,
    maxLength: 32,
  });
}
