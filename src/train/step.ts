/**
 * One step of training: encode, compare, go back; guess what is masked, go back; so for each of its batches; update. Every rank of a team runs `trainStep`
 * over one shared memory, with the same plan and the same header.
 */
import { type Batch, type BatchLimits, planBatch } from "../model/batch.ts";
import type { DropoutKey } from "../model/encoder.ts";
import { flat } from "../model/parameters.ts";
import { Arena, type Tensor } from "../runtime/arena.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { gradientNormScratch, MISSED_STEPS } from "../runtime/scratch.ts";
import { type Architecture, type ArchitectureOptions, planArchitecture } from "./architecture.ts";
import { type Chunk, chunkOffsets, readChunks, writeChunks } from "./chunks.ts";
import { type MaskedBatch, NOTHING_MASKED } from "./masking.ts";
import { type MaskedPlan, planMasked, readMasked, readMaskedLoss, writeMasked } from "./mlm.ts";
import {
  compare,
  type ObjectiveOptions,
  type ObjectivePlan,
  planObjective,
  readComparison,
} from "./objective.ts";
import { planRates, type RateOptions, type Rates } from "./rates.ts";

/** Everything that shapes a step, fixed for a whole run; plain data, so that it travels to ranks and into checkpoints. */
export interface StepOptions extends ArchitectureOptions, ObjectiveOptions, RateOptions {
  /** Tokens of the longest sentence, specials included. */
  readonly maxLength: number;
  /**
   * Sentences encoded at a time (Gao et al. 2021, https://arxiv.org/abs/2101.06983); all by default. Fewer need less memory, and
   * each but the last of a batch is encoded once more; the result is the same up to rounding.
   */
  readonly chunkSize?: number;
  /** Batches of a step, which takes the mean of their gradients; 1 by default. Sentences are compared within a batch. */
  readonly accumulate?: number;
  /** False trains without dropout noise. */
  readonly dropout: boolean;
  /** Anchors, positives and hard negatives have the same masks: the ablation in which equal sentences get equal vectors. */
  readonly fixedDropout?: boolean;
  readonly seed: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Steps of Adam that its moments have seen before the run; 0 by default. */
  readonly adamSteps?: number;
  readonly weightDecay: number;
  /** Gradients are clipped to this global norm; 0 switches clipping off. */
  readonly maxGradientNorm: number;
}

export interface TrainingPlan {
  readonly arena: Arena;
  /** Of a chunk. */
  readonly limits: BatchLimits;
  readonly model: Architecture;
  readonly rates: Rates;
  /** Of all chunks; each has its own offsets, which begin at 0. */
  readonly batch: Batch;
  readonly touched: Tensor; // [tokens of a step] int32, the rows of the table that its batches need
  readonly last: Tensor; // [rows] int32, the step of Adam whose weights a row of the table holds
  readonly factors: Tensor; // [MISSED_STEPS, 4], what late rows need of each step
  readonly vectors: Tensor; // [sequences, dimension]
  readonly dVectors: Tensor;
  readonly norm: Tensor;
  readonly partials: Tensor;
  readonly objective: ObjectivePlan;
  /** Where something is guessed. */
  readonly masked: MaskedPlan | undefined;
}

/** The memory of a training run, as a pure function: every rank derives the same addresses. */
export function planTraining(options: StepOptions, ranks: number): TrainingPlan {
  const { encoder, batchSize, columns, maxLength } = options;
  const sequences = batchSize * columns;
  const compared = options.objective === "mlm" ? 0 : batchSize;
  const chunk = options.fixedDropout
    ? batchSize
    : Math.min(options.chunkSize ?? sequences, sequences);
  const limits = { tokens: chunk * maxLength, sequences: chunk, maxLength };
  const arena = new Arena();
  const model = planArchitecture(arena, options, limits, ranks);
  const [rows] = model.weights.table.shape as [number, number];
  const tokens = compared * columns * maxLength;
  const offsets = chunkOffsets(compared * columns, limits);
  // Every word is a candidate for what is masked.
  const needed = tokens * (options.accumulate ?? 1);
  const touched = options.mlmWeight === undefined ? Math.min(needed, rows) : rows;
  return {
    arena,
    limits,
    model,
    rates: planRates(model.weights, encoder.numLayers, options),
    batch: planBatch(arena, { tokens, sequences: offsets - 1, maxLength }),
    touched: arena.reserve("batch.touched", "I32", [touched]),
    last: arena.reserve("adam.last", "I32", [rows]),
    factors: arena.tensor("adam.factors", MISSED_STEPS, 4),
    vectors: arena.tensor("vectors", compared * columns, model.dimension),
    dVectors: arena.tensor("dVectors", compared * columns, model.dimension),
    norm: arena.tensor("gradientNorm", 1),
    partials: arena.scratch(
      "gradientNorm.partials",
      gradientNormScratch(flat(model.weights).count, touched),
    ),
    objective: planObjective(arena, { ...options, batchSize: compared }, model.dimension, ranks),
    masked:
      options.mlmWeight === undefined
        ? undefined
        : planMasked(arena, sequences, limits, options.mlmWeight),
  };
}

/** What differs from step to step, and from batch to batch of one that accumulates. */
export interface StepHeader {
  /** Of the batch; 0 takes no step, and brings all rows of the table to `step`: before the weights are read. */
  readonly rows: number;
  /** From 1. */
  readonly step: number;
  /** Of the batch in its step, from 0, which it is by default; the last one updates the weights. */
  readonly part?: number;
  /** Rows of the table that batches of the step before this one needed; none by default. */
  readonly known?: number;
  /** Rows of the table that the step needs so far, with this batch. */
  readonly touched: number;
  readonly learningRate: number;
  /** Of this batch, where it has fewer than the options say: sources of a mixture differ. */
  readonly columns?: 1 | 2 | 3;
}

/** The number of a batch of a run, from 1: what its data and its dropout are functions of, with the seed. */
export function batchNumber({ accumulate = 1 }: StepOptions, step: number, part: number): number {
  return (step - 1) * accumulate + part + 1;
}

/**
 * Writes the sequences of a batch, the masked copies to guess from, and the rows of the table they need, after the `known` ones
 * that batches of the same step need.
 * @throws RangeError as `writeBatch` does
 */
export function writeTrainingBatch(
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  { encoder }: StepOptions,
  sequences: readonly ArrayLike<number>[],
  masked: MaskedBatch = NOTHING_MASKED,
  known = 0,
): { tokens: number; touched: number } {
  const { model, limits } = plan;
  const { vocabSize } = encoder;
  const chunks = writeChunks(buffer, plan.batch, limits, vocabSize, sequences);
  const tokens = chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
  if (plan.masked) {
    const copied = writeMasked(buffer, plan.masked, limits, vocabSize, masked);
    const all = new Int32Array(buffer, plan.touched.ptr, vocabSize);
    all.forEach((_, row) => (all[row] = row));
    return { tokens: tokens + copied, touched: vocabSize };
  }
  const ids = new Int32Array(buffer, plan.batch.tokenIds.ptr, tokens);
  const mapping = model.mapping && new Int32Array(buffer, model.mapping.ptr, vocabSize);
  const before = new Set(new Int32Array(buffer, plan.touched.ptr, known));
  const rows = new Set(mapping ? ids.map((id) => mapping[id]!) : ids).difference(before);
  const own = new Int32Array(buffer, plan.touched.ptr + 4 * known, rows.size);
  own.set(Int32Array.from(rows).toSorted());
  return { tokens, touched: known + rows.size };
}

/** Steps from one move of the average to the next: each is a sweep over all weights. */
const AVERAGE_EVERY = 16;

/**
 * Runs one step, or a part of it; the batch holds the anchors, then the positives, then the hard negatives. Leaves the loss and,
 * of a step's last batch, the gradient's norm in memory. One that is not finite updates nothing: every rank sees it and returns.
 */
export function trainStep(
  k: Kernels,
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  options: StepOptions,
  header: StepHeader,
): void {
  const { rows, step, part = 0, known = 0, touched, learningRate } = header;
  const { columns = options.columns } = header;
  if (rows === 0) return settle(k, plan, options, step);
  const { encoder, seed, accumulate = 1, adamSteps = 0 } = options;
  const { model, rates, vectors, dVectors } = plan;
  const { weights: p, gradients: g } = model;
  const { hiddenSize: hidden } = encoder;
  const { dimension } = model;
  const gradient = flat(g);
  /** The vector of sequence i. */
  const at = ({ ptr }: Tensor, i: number): number => ptr + 4 * i * dimension;

  const batch = batchNumber(options, step, part);
  const compared = options.objective === "mlm" ? 0 : rows * columns;
  const chunks = readChunks(buffer, plan.batch, plan.limits, compared);
  const keyOf = ({ firstToken, firstSequence }: Chunk): DropoutKey => ({
    seed,
    step: batch,
    enabled: options.dropout,
    firstToken: options.fixedDropout ? 0 : firstToken,
    firstSequence: options.fixedDropout ? 0 : firstSequence,
  });
  const forward = (chunk: Chunk): void => {
    const y = at(vectors, chunk.firstSequence);
    model.forward(k, y, chunk.batch, chunk, keyOf(chunk));
  };

  const fresh = { ptr: plan.touched.ptr + 4 * known, count: touched - known };
  if (part === 0) k.zero(gradient.ptr, 4 * gradient.count);
  k.zeroRows(g.table.ptr, fresh.ptr, fresh.count, hidden);
  settle(k, plan, options, step - 1, fresh);
  for (const chunk of chunks) forward(chunk);

  if (compared > 0) compare(k, plan.objective, options, dVectors, vectors, rows, columns);
  if (accumulate > 1) {
    // Times 1 / n.
    const [y, n] = [dVectors.ptr, dimension];
    k.addColumns(y, y, compared, n, n, n, 1 / accumulate - 1);
  }
  for (const chunk of chunks.toReversed()) {
    if (chunk !== chunks.at(-1)) forward(chunk); // with the same dropout, as its bits are a function
    const [dy, y] = [dVectors, vectors].map((tensor) => at(tensor, chunk.firstSequence));
    model.backward(k, dy!, y!, chunk.batch, chunk, keyOf(chunk));
  }
  if (plan.masked && model.predictMasked) {
    // Copies come after the sentences, for dropout: they share no bits.
    const before = chunks.reduce((sum, { tokens }) => sum + tokens, 0);
    const weight = plan.masked.weight / accumulate;
    for (const chunk of readMasked(buffer, plan.masked, plan.limits, weight)) {
      const firstToken = before + chunk.firstToken;
      const key = { seed, step: batch, enabled: options.dropout, firstToken };
      model.predictMasked(k, chunk, chunk, key);
    }
  }
  if (part < accumulate - 1) return;

  for (const { offset, count, scale } of rates.groups) {
    if (scale === 0) k.zero(gradient.ptr + offset, 4 * count);
  }
  // prettier-ignore
  k.gradientNorm(plan.norm.ptr, gradient.ptr, gradient.count, g.table.ptr, plan.touched.ptr, rates.table === 0 ? 0 : touched, hidden, plan.partials.ptr);

  const { loss, norm } = readLoss(buffer, plan);
  if (!Number.isFinite(loss) || !Number.isFinite(norm)) return;
  const maxNorm = options.maxGradientNorm || Infinity;
  const { first, second } = model;
  const { beta1, beta2, epsilon, weightDecay } = options;
  const t = adamSteps + step;
  k.adamWFactors(plan.factors.ptr, learningRate * rates.table, beta1, beta2, weightDecay, t);
  // prettier-ignore
  k.adamWRows(p.table.ptr, g.table.ptr, first.table.ptr, second.table.ptr, plan.last.ptr, plan.touched.ptr, touched, hidden, plan.norm.ptr, plan.factors.ptr, maxNorm, beta1, beta2, epsilon, t);
  for (const { offset, count, scale, decays } of rates.groups) {
    const [w, dw, m, v] = [p, g, first, second].map((set) => flat(set).ptr + offset);
    // prettier-ignore
    k.adamWStep(w!, dw!, m!, v!, plan.norm.ptr, count, maxNorm, learningRate * scale, beta1, beta2, epsilon, decays ? weightDecay : 0, t);
  }
  if (model.average && step % AVERAGE_EVERY === 0) {
    settle(k, plan, options, step);
    const share = averageShare(options.averageDecay!, step);
    const { table, decayed, plain } = model.average;
    k.moveAverage(table.ptr, p.table.ptr, table.shape[0]! * hidden, share);
    k.moveAverage(decayed.ptr, p.decayed.ptr, decayed.count + plain.count, share);
  } else if (step % (MISSED_STEPS / 2) === 0) {
    settle(k, plan, options, step);
  }
}

/** What the average takes of the weights: the first ones, which are the worst, must not stay in it for long. */
function averageShare(decay: number, step: number): number {
  const moves = step / AVERAGE_EVERY;
  return Math.max(1 - decay ** AVERAGE_EVERY, 9 / (9 + moves));
}

/** Brings rows of the table to a step, all or those in a list [count] int32: see `assembly/adamw.ts`. */
function settle(
  k: Kernels,
  { model, last, norm, factors }: TrainingPlan,
  { beta1, beta2, epsilon, adamSteps = 0 }: StepOptions,
  step: number,
  list?: { readonly ptr: number; readonly count: number },
): void {
  const { weights, first, second } = model;
  const [count, cols] = weights.table.shape as [number, number];
  // prettier-ignore
  k.adamWRows(weights.table.ptr, 0, first.table.ptr, second.table.ptr, last.ptr, list?.ptr ?? 0, list?.count ?? count, cols, norm.ptr, factors.ptr, Infinity, beta1, beta2, epsilon, adamSteps + step);
}

/** What came of a step. */
export interface StepLoss {
  /** What is minimised: the losses below, weighed. */
  readonly loss: number;
  /** Of the gradient, before it is clipped. */
  readonly norm: number;
  /** InfoNCE, if it is a part of the loss. */
  readonly contrastive?: number;
  /** Distance from what teachers say, if there are any. */
  readonly distillation?: number;
  /** The mean cross-entropy of masked tokens, if any are guessed, … */
  readonly mlm?: number;
  /** … and the share of them that were guessed. */
  readonly accuracy?: number;
}

/** The losses and the gradient's norm of the last step. */
export function readLoss(buffer: ArrayBufferLike, plan: TrainingPlan): StepLoss {
  const compared = readComparison(buffer, plan.objective);
  const norm = new Float32Array(buffer, plan.norm.ptr, 1)[0]!;
  if (!plan.masked) return { ...compared, norm };
  const { loss: mlm, accuracy } = readMaskedLoss(buffer, plan.masked, plan.limits);
  return { ...compared, loss: compared.loss + plan.masked.weight * mlm, norm, mlm, accuracy };
}
