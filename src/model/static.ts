/**
 * A static model in training: a vector and a weight for each token, and their mean for a sentence. No layer sees the order
 * of the tokens, so a step costs little more than its loss.
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Kernels, Pointer } from "../runtime/kernels.ts";
import type { Batch } from "./batch.ts";
import type { EncoderConfig } from "./config.ts";
import type { BatchSize, DropoutKey } from "./encoder.ts";
import type { ParameterSet } from "./parameters.ts";

export interface StaticParameters extends ParameterSet {
  readonly weights: Tensor; // [vocab]
}

/** Lays out the parameters, under model2vec's names; `rows` are those of the table. */
export function planStatic(
  arena: Arena,
  { vocabSize, hiddenSize }: EncoderConfig,
  rows: number,
  prefix = "",
): StaticParameters {
  const plan = (name: string, ...shape: number[]): Tensor => ({
    ...arena.tensor(prefix + name, ...shape),
    name,
  });
  const table = plan("embeddings", rows, hiddenSize);
  const start = arena.top;
  const weights = plan("weights", vocabSize);
  return {
    named: [table, weights],
    table,
    weights,
    decayed: { ptr: start, count: 0 },
    plain: { ptr: start, count: (arena.top - start) / 4 },
  };
}

/** Where the mean has its dropout. */
const SITE = 0;

/** Sentence vectors `y` [sequences, hidden]; `mapping` [vocab] int32 is the row of each token. */
export function staticForward(
  k: Kernels,
  { hiddenSize: hidden, hiddenDropout }: EncoderConfig,
  p: StaticParameters,
  mapping: Tensor,
  batch: Batch,
  y: Pointer,
  { sequences }: BatchSize,
  { seed, step, enabled, firstSequence = 0 }: DropoutKey,
): void {
  const rate = enabled ? hiddenDropout : 0;
  // prettier-ignore
  k.staticMeanForward(y, batch.tokenIds.ptr, batch.offsets.ptr, p.table.ptr, mapping.ptr, p.weights.ptr, sequences, hidden);
  k.dropoutOrigin(firstSequence);
  if (rate > 0) k.dropoutForward(y, y, 0, 0, sequences, hidden, rate, seed, step, SITE);
}

/** Adds to the gradients `g`, from the gradient `dy` of the sentence vectors; `dots` [tokens] is scratch. */
export function staticBackward(
  k: Kernels,
  { hiddenSize: hidden, hiddenDropout }: EncoderConfig,
  p: StaticParameters,
  g: StaticParameters,
  mapping: Tensor,
  batch: Batch,
  dots: Tensor,
  dy: Pointer,
  { sequences }: BatchSize,
  { seed, step, enabled, firstSequence = 0 }: DropoutKey,
): void {
  const rate = enabled ? hiddenDropout : 0;
  k.dropoutOrigin(firstSequence);
  if (rate > 0) k.dropoutBackward(dy, dy, 0, sequences, hidden, rate, seed, step, SITE);
  // prettier-ignore
  k.staticMeanBackward(g.table.ptr, g.weights.ptr, dots.ptr, dy, batch.tokenIds.ptr, batch.offsets.ptr, p.table.ptr, mapping.ptr, p.weights.ptr, sequences, hidden);
}
