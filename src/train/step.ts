/**
 * One step of contrastive training: encode, compare, go back, update. Every rank of a team runs `trainStep` over one
 * shared memory, with the same plan and the same header.
 */
import { type Batch, type BatchLimits, planBatch } from "../model/batch.ts";
import type { EncoderConfig, Pooling } from "../model/config.ts";
import {
  type Activations,
  encoderBackward,
  encoderForward,
  planActivations,
  poolBackward,
  poolForward,
} from "../model/encoder.ts";
import { type Parameters, type Region, planParameters } from "../model/parameters.ts";
import { Arena, type Tensor } from "../runtime/arena.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { gradientNormScratch, infoNceScratch } from "../runtime/scratch.ts";

export const SIMILARITIES = ["cos", "dot"] as const;
export type Similarity = (typeof SIMILARITIES)[number];

/** Everything that shapes a step, fixed for a whole run; plain data, so that it travels to ranks and into checkpoints. */
export interface StepOptions {
  readonly encoder: EncoderConfig;
  readonly pooling: Pooling;
  /** Rows of a batch: sentences, pairs or triplets. */
  readonly batchSize: number;
  /** Sentences compared in a row: 2 (anchor and positive), or 3 with a hard negative; the most of any batch. */
  readonly columns: 2 | 3;
  /** Tokens of the longest sentence, specials included. */
  readonly maxLength: number;
  /** τ in cos / τ. */
  readonly temperature: number;
  /** Added to an anchor's own hard-negative logit: the log of its weight α. */
  readonly hardNegativeWeight: number;
  /** The mean of the loss in both directions, anchors to keys and back, instead of the first alone; default false. */
  readonly symmetric?: boolean;
  /** What is compared: the cosine (default), or the inner product (the paper's ablation). */
  readonly similarity?: Similarity;
  /** False trains without dropout noise. */
  readonly dropout: boolean;
  readonly seed: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Gradients are clipped to this global norm; 0 switches clipping off. */
  readonly maxGradientNorm: number;
}

export interface TrainingPlan {
  readonly arena: Arena;
  readonly limits: BatchLimits;
  readonly weights: Parameters;
  readonly gradients: Parameters;
  readonly first: Parameters;
  readonly second: Parameters;
  readonly batch: Batch;
  readonly ids: Tensor; // [columns · batchSize] int32, equal for sentences that are the same
  readonly activations: Activations;
  readonly loss: Tensor;
  readonly norm: Tensor;
  readonly partials: Tensor;
  readonly logits: Tensor;
  readonly logSumExp: Tensor;
  readonly columnLogSumExp: Tensor;
  readonly units: Tensor; // [sequences, hidden], embeddings on the unit sphere
  readonly unitScales: Tensor;
  readonly lossScratch: Tensor;
}

/** The memory of a training run, as a pure function: every rank derives the same addresses. */
export function planTraining(options: StepOptions, ranks: number): TrainingPlan {
  const { encoder, batchSize, columns, maxLength } = options;
  const sequences = batchSize * columns;
  const limits = { tokens: sequences * maxLength, sequences, maxLength };
  const hidden = encoder.hiddenSize;
  const head = options.pooling === "cls";
  const arena = new Arena();
  return {
    arena,
    limits,
    weights: planParameters(arena, encoder, head),
    gradients: planParameters(arena, encoder, head, "gradient."),
    first: planParameters(arena, encoder, head, "adam.first."),
    second: planParameters(arena, encoder, head, "adam.second."),
    batch: planBatch(arena, limits),
    ids: arena.reserve("batch.ids", "I32", [sequences]),
    activations: planActivations(arena, encoder, limits, options.pooling, ranks),
    loss: arena.tensor("loss", 1),
    norm: arena.tensor("gradientNorm", 1),
    partials: arena.scratch(
      "gradientNorm.partials",
      gradientNormScratch(flat(planParameters(new Arena(), encoder, head)).count),
    ),
    logits: arena.tensor("logits", batchSize, (columns - 1) * batchSize),
    logSumExp: arena.tensor("logSumExp", batchSize),
    columnLogSumExp: arena.tensor("columnLogSumExp", batchSize),
    units: arena.tensor("units", sequences, hidden),
    unitScales: arena.tensor("unitScales", sequences),
    lossScratch: arena.scratch(
      "loss.scratch",
      infoNceScratch(batchSize, (columns - 1) * batchSize, hidden, ranks),
    ),
  };
}

/** What differs from step to step. */
export interface StepHeader {
  readonly rows: number;
  readonly tokens: number;
  /** From 1. */
  readonly step: number;
  readonly learningRate: number;
  /** Of this batch, where it has fewer than the options say: sources of a mixture differ. */
  readonly columns?: 2 | 3;
}

/** All parameters as one run of floats. */
export function flat({ decayed, plain }: Parameters): Region {
  return { ptr: decayed.ptr, count: decayed.count + plain.count };
}

/**
 * Runs one step; the batch holds the anchors, then the positives, then the hard negatives. Leaves the loss and the
 * gradient's norm in memory. A loss or gradient that is not finite updates nothing: every rank sees it and returns.
 */
export function trainStep(
  k: Kernels,
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  options: StepOptions,
  { rows, tokens, step, learningRate, columns = options.columns }: StepHeader,
): void {
  const { encoder, pooling, maxLength, temperature, hardNegativeWeight, seed } = options;
  const { weights: p, gradients: g, first, second, batch, activations: a } = plan;
  const hidden = encoder.hiddenSize;
  const sequences = rows * columns;
  const cols = rows * (columns - 1);
  const size = { tokens, sequences };
  const dropout = { seed, step, enabled: options.dropout };
  const gradient = flat(g);
  const columnLogSumExp = options.symmetric ? plan.columnLogSumExp.ptr : 0;
  const cosine = options.similarity === "dot" ? 0 : 1;

  k.zero(gradient.ptr, 4 * gradient.count);
  const tokenVectors = encoderForward(k, encoder, p, a, batch, size, maxLength, dropout);
  const vectors = poolForward(k, hidden, pooling, p, a, batch, tokenVectors, sequences);

  // Row i of a matrix of `width` columns, from the row of the first key on.
  const keys = (tensor: Tensor, width: number): number => tensor.ptr + 4 * rows * width;
  // prettier-ignore
  {
    k.infoNceForward(plan.loss.ptr, plan.logits.ptr, plan.logSumExp.ptr, columnLogSumExp, plan.units.ptr, keys(plan.units, hidden), plan.unitScales.ptr, keys(plan.unitScales, 1), vectors.ptr, keys(vectors, hidden), plan.ids.ptr, keys(plan.ids, 1), rows, cols, hidden, temperature, hardNegativeWeight, cosine, plan.lossScratch.ptr);
    const units = cosine ? plan.units : vectors;
    k.infoNceBackward(a.dPooled.ptr, keys(a.dPooled, hidden), plan.logits.ptr, plan.logSumExp.ptr, columnLogSumExp, units.ptr, keys(units, hidden), plan.unitScales.ptr, keys(plan.unitScales, 1), rows, cols, hidden, temperature, cosine, plan.lossScratch.ptr);
  }
  poolBackward(k, hidden, pooling, p, g, a, batch, sequences);
  encoderBackward(k, encoder, p, g, a, batch, size, maxLength, dropout);
  k.gradientNorm(plan.norm.ptr, gradient.ptr, gradient.count, plan.partials.ptr);

  const { loss, norm } = readLoss(buffer, plan);
  if (!Number.isFinite(loss) || !Number.isFinite(norm)) return;
  const maxNorm = options.maxGradientNorm || Infinity;
  for (const [region, decay] of [
    ["decayed", options.weightDecay],
    ["plain", 0],
  ] as const) {
    const { ptr, count } = p[region];
    // prettier-ignore
    k.adamWStep(ptr, g[region].ptr, first[region].ptr, second[region].ptr, plan.norm.ptr, count, maxNorm, learningRate, options.beta1, options.beta2, options.epsilon, decay, step);
  }
}

/** The loss and the gradient's norm of the last step. */
export function readLoss(
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
): { loss: number; norm: number } {
  return {
    loss: new Float32Array(buffer, plan.loss.ptr, 1)[0]!,
    norm: new Float32Array(buffer, plan.norm.ptr, 1)[0]!,
  };
}
