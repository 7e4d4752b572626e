/**
 * The seven transfer tasks of the SimCSE paper by SentEval's protocol: a logistic regression on frozen vectors tells how
 * much of a sentence they hold. Vectors are neither normalised nor standardised.
 */
import { FormatError } from "../errors.ts";
import { permutation, RandomStream, STREAM } from "../train/random.ts";
import type { Classifier, Examples } from "./classifier.ts";
import { linesBelowHeader, numberedLines } from "./pairs.ts";
import { mean } from "./statistics.ts";

export const TRANSFER_TASKS = ["MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC"] as const;
/** Entailment by the same protocol; SentEval has it, the paper's average does not. */
export const ENTAILMENT_TASK = "SICK-E";
export type TransferTask = (typeof TRANSFER_TASKS)[number] | typeof ENTAILMENT_TASK;

/** Texts of one split and their classes; MRPC and SICK-E have two texts an example. */
export interface LabelledTexts {
  readonly texts: readonly (readonly string[])[];
  readonly labels: readonly number[];
}

/** A task without `test` is scored by nested folds, one without `dev` picks λ by folds of `train`. */
export interface TransferData<T = LabelledTexts> {
  readonly train: T;
  readonly dev?: T;
  readonly test?: T;
}

/** Accuracies times 100. */
export interface TransferScore {
  readonly accuracy: number;
  /** Of the λ that was picked, on the data that picked it. */
  readonly devAccuracy: number;
  readonly examples: number;
}

/** SentEval's grid of λ. */
export const GRID = [1e-5, 1e-4, 1e-3, 1e-2] as const;
type L2 = (typeof GRID)[number];
/** Share of the training data that stops the last fit. */
const HELD_OUT = 0.05;
const SEED = 1111;

/** Scores frozen vectors by a classifier that takes all of `GRID` at once; `folds` as its protocol says. */
export function scoreTransfer(
  { train, dev, test }: TransferData<Examples>,
  classifier: Classifier,
  folds: number,
): TransferScore {
  if (test === undefined) {
    const outer = stratifiedFolds(train.labels, folds).map(([rest, fold]) => {
      const inner = pick(train, rest);
      const found = bestByFolds(inner, classifier, folds);
      return { ...found, accuracy: refit(inner, pick(train, fold), classifier, found.l2) };
    });
    return {
      accuracy: mean(outer.map(({ accuracy }) => accuracy)),
      devAccuracy: mean(outer.map(({ devAccuracy }) => devAccuracy)),
      examples: train.rows.length,
    };
  }
  if (dev === undefined) {
    const { l2, devAccuracy } = bestByFolds(train, classifier, folds);
    const accuracy = refit(train, test, classifier, l2);
    return { accuracy, devAccuracy, examples: test.rows.length };
  }
  const { l2, devAccuracy } = best(classifier.fit(train, dev, GRID));
  const accuracy = 100 * classifier.score(test)[GRID.indexOf(l2)]!;
  return { accuracy, devAccuracy, examples: test.rows.length };
}

function bestByFolds(
  examples: Examples,
  classifier: Classifier,
  folds: number,
): { l2: L2; devAccuracy: number } {
  const accuracies = stratifiedFolds(examples.labels, folds).map(([rest, fold]) =>
    classifier.fit(pick(examples, rest), pick(examples, fold), GRID),
  );
  return best(GRID.map((_, i) => mean(accuracies.map((found) => found[i]!))));
}

/** The first λ of the grid with the highest accuracy, compared with two decimals as SentEval does. */
function best(accuracies: readonly number[]): { l2: L2; devAccuracy: number } {
  const scores = accuracies.map((accuracy) => Number((100 * accuracy).toFixed(2)));
  const devAccuracy = Math.max(...scores);
  return { l2: GRID[scores.indexOf(devAccuracy)]!, devAccuracy };
}

/** Trains with λ on all but a twentieth, which stops the training, and scores on `test`. */
function refit(train: Examples, test: Examples, classifier: Classifier, l2: L2): number {
  const order = permutation(train.rows.length, new RandomStream(SEED, STREAM.order));
  const held = Math.max(1, Math.floor(HELD_OUT * order.length));
  classifier.fit(pick(train, order.subarray(held)), pick(train, order.subarray(0, held)), [l2]);
  return 100 * classifier.score(test)[0]!;
}

/**
 * Splits of the indices of `labels` into all but a fold, and the fold, with each class shared out evenly.
 * @throws RangeError for fewer examples than folds
 */
export function stratifiedFolds(
  labels: readonly number[],
  folds: number,
): (readonly [rest: Uint32Array, fold: Uint32Array])[] {
  if (labels.length < folds) {
    throw new RangeError(`${folds} folds need as many examples, found ${labels.length}`);
  }
  const order = permutation(labels.length, new RandomStream(SEED, STREAM.order));
  const byClass = order.toSorted((i, j) => labels[i]! - labels[j]!);
  const foldOf = new Uint32Array(labels.length);
  byClass.forEach((example, position) => (foldOf[example] = position % folds));
  const indices = Uint32Array.from(labels, (_, i) => i);
  return Array.from({ length: folds }, (_, fold) => [
    indices.filter((i) => foldOf[i] !== fold),
    indices.filter((i) => foldOf[i] === fold),
  ]);
}

function pick({ rows, labels }: Examples, indices: Uint32Array): Examples {
  return {
    rows: Array.from(indices, (i) => rows[i]!),
    labels: Array.from(indices, (i) => labels[i]!),
  };
}

/** What a classifier sees of an example: the vector of its text, or |u - v| and u · v of those of a pair. */
export function transferFeatures(rows: readonly Float32Array[]): Float32Array {
  const [u, v] = rows;
  if (v === undefined) return u!;
  return Float32Array.of(
    ...u!.map((value, j) => Math.abs(value - v[j]!)),
    ...u!.map((value, j) => value * v[j]!),
  );
}

/** A text a line, all of one class: `rt-polarity.pos` and the like. SentEval reads a blank line as a full stop. */
export function parseClassFile(text: string, label: number, name: string): LabelledTexts {
  const lines = text.trimEnd() === "" ? [] : text.replace(/\r?\n$/, "").split(/\r?\n/);
  const texts = lines.map((line) => [line.trim() || "."]);
  const labels = texts.map(() => label);
  return labelled(texts, labels, name, 1);
}

/** SST2: a text, a tab, and 0 or 1. */
export function parseSst(text: string, name: string): LabelledTexts {
  const texts: string[][] = [];
  const labels: number[] = [];
  for (const [line, content] of numberedLines(text)) {
    const [sentence, label, ...more] = content.split("\t");
    texts.push([sentence!.trim()]);
    labels.push(binary(more.length === 0 ? label : undefined, `${name}:${line}`));
  }
  return labelled(texts, labels, name);
}

const QUESTION_CLASSES = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"] as const;

/** TREC: `NUM:dist How far is it ?`; the coarse class counts. */
export function parseTrec(text: string, name: string): LabelledTexts {
  const texts: string[][] = [];
  const labels: number[] = [];
  for (const [line, content] of numberedLines(text)) {
    const [, coarse, question] = /^([A-Z]+):\S+ (.+)$/.exec(content) ?? [];
    const label = QUESTION_CLASSES.findIndex((known) => known === coarse);
    if (label < 0) {
      throw new FormatError(
        `${name}:${line}: expected a class and a question, as in "NUM:dist How far is it ?" with one of ` +
          `${QUESTION_CLASSES.join(", ")}, found ${JSON.stringify(content.slice(0, 40))}`,
      );
    }
    texts.push([question!.trim()]);
    labels.push(label);
  }
  return labelled(texts, labels, name);
}

/** MRPC: tabs and a header; 1 or 0, two numbers, two sentences. */
export function parseMrpc(text: string, name: string): LabelledTexts {
  const texts: string[][] = [];
  const labels: number[] = [];
  for (const [line, content] of linesBelowHeader(text, name)) {
    const [label, , , a, b] = content.split("\t");
    labels.push(binary(b === undefined ? undefined : label, `${name}:${line}`));
    texts.push([a!.trim(), b!.trim()]);
  }
  return labelled(texts, labels, name);
}

const ENTAILMENT_CLASSES = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"] as const;

/** SICK-E: tabs and a header; a number, two sentences, relatedness and the class. */
export function parseSickEntailment(text: string, name: string): LabelledTexts {
  const texts: string[][] = [];
  const labels: number[] = [];
  for (const [line, content] of linesBelowHeader(text, name)) {
    const [, a, b, , judgement = ""] = content.split("\t");
    const label = ENTAILMENT_CLASSES.findIndex((known) => known === judgement.trim());
    if (label < 0) {
      throw new FormatError(
        `${name}:${line}: expected number, sentence, sentence, relatedness and one of ` +
          `${ENTAILMENT_CLASSES.join(", ")} with tabs between them, found ${JSON.stringify(judgement || content.slice(0, 40))}`,
      );
    }
    texts.push([a!.trim(), b!.trim()]);
    labels.push(label);
  }
  return labelled(texts, labels, name);
}

function binary(label: string | undefined, where: string): number {
  if (label === "0" || label === "1") return Number(label);
  throw new FormatError(
    `${where}: expected the label 0 or 1 and the other fields with tabs between them, found ${JSON.stringify(label ?? "other fields")}`,
  );
}

function labelled(
  texts: readonly (readonly string[])[],
  labels: readonly number[],
  name: string,
  classes = 2,
): LabelledTexts {
  if (texts.length === 0) {
    throw new FormatError(`${name}: expected labelled sentences, found none; the file is empty`);
  }
  if (new Set(labels).size >= classes) return { texts, labels };
  throw new FormatError(
    `${name}: expected sentences of ${classes} classes at least, found ${texts.length} of one; is the file cut off?`,
  );
}
