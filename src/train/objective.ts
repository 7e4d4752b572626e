/**
 * What a step minimises, from sentence vectors to their gradient: InfoNCE, or its mean over beginnings of the vectors too
 * (Matryoshka representation learning, Kusupati et al. 2022, https://arxiv.org/abs/2205.13147).
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { infoNceScratch } from "../runtime/scratch.ts";

export const SIMILARITIES = ["cos", "dot"] as const;
export type Similarity = (typeof SIMILARITIES)[number];

export interface ObjectiveOptions {
  /** Rows of a batch: sentences, pairs or triplets. */
  readonly batchSize: number;
  /** Sentences compared in a row: 2 (anchor and positive), or 3 with a hard negative; the most of any batch. */
  readonly columns: 2 | 3;
  /** τ in cos / τ. */
  readonly temperature: number;
  /** Added to an anchor's own hard-negative logit: the log of its weight α. */
  readonly hardNegativeWeight: number;
  /** The mean of the loss in both directions, anchors to keys and back, instead of the first alone; default false. */
  readonly symmetric?: boolean;
  /** What is compared: the cosine (default), or the inner product (the paper's ablation). */
  readonly similarity?: Similarity;
  /** First so many numbers of a vector that are compared beside all of them; each a multiple of 4, below the dimension. */
  readonly beginnings?: readonly number[];
}

export interface ObjectivePlan {
  readonly dimensions: readonly number[];
  readonly loss: Tensor; // [dimensions], of which the loss is the mean
  readonly ids: Tensor; // [columns · batchSize] int32, equal for sentences that are the same
  readonly logits: Tensor;
  readonly logSumExp: Tensor;
  readonly columnLogSumExp: Tensor;
  readonly units: Tensor; // [sequences, hidden], embeddings on the unit sphere
  readonly unitScales: Tensor;
  readonly beginning: Tensor | undefined; // [sequences, hidden], vectors cut short
  readonly dBeginning: Tensor | undefined;
  readonly scratch: Tensor;
}

/** @throws RangeError for a beginning that is none of vectors of `hidden` numbers */
export function planObjective(
  arena: Arena,
  { batchSize, columns, beginnings = [] }: ObjectiveOptions,
  hidden: number,
  ranks: number,
): ObjectivePlan {
  for (const dimension of beginnings) {
    if (!(dimension > 0 && dimension < hidden && dimension % 4 === 0)) {
      throw new RangeError(
        `matryoshka dimension ${dimension}: expected a multiple of 4 below ${hidden}, the dimension of the vectors`,
      );
    }
  }
  const dimensions = [...new Set([...beginnings, hidden])];
  const sequences = batchSize * columns;
  const cut = (name: string): Tensor | undefined =>
    dimensions.length > 1 ? arena.tensor(name, sequences, hidden) : undefined;
  return {
    dimensions,
    loss: arena.tensor("loss", dimensions.length),
    ids: arena.reserve("batch.ids", "I32", [sequences]),
    logits: arena.tensor("logits", batchSize, (columns - 1) * batchSize),
    logSumExp: arena.tensor("logSumExp", batchSize),
    columnLogSumExp: arena.tensor("columnLogSumExp", batchSize),
    units: arena.tensor("units", sequences, hidden),
    unitScales: arena.tensor("unitScales", sequences),
    beginning: cut("beginning"),
    dBeginning: cut("dBeginning"),
    scratch: arena.scratch(
      "loss.scratch",
      infoNceScratch(batchSize, (columns - 1) * batchSize, hidden, ranks),
    ),
  };
}

/** Overwrites the gradient of `vectors` [rows · columns, hidden], and leaves a loss for each dimension. */
export function compare(
  k: Kernels,
  plan: ObjectivePlan,
  options: ObjectiveOptions,
  dVectors: Tensor,
  vectors: Tensor,
  rows: number,
  columns: number,
): void {
  const { dimensions, beginning, dBeginning, loss } = plan;
  const hidden = dimensions.at(-1)!;
  if (!beginning || !dBeginning) {
    return infoNce(k, plan, options, loss.ptr, dVectors, vectors, rows, columns, hidden);
  }
  const sequences = rows * columns;
  k.zero(dVectors.ptr, 4 * sequences * hidden);
  dimensions.forEach((dimension, i) => {
    k.copyColumns(beginning.ptr, vectors.ptr, sequences, dimension, dimension, hidden);
    // prettier-ignore
    infoNce(k, plan, options, loss.ptr + 4 * i, dBeginning, beginning, rows, columns, dimension);
    // prettier-ignore
    k.addColumns(dVectors.ptr, dBeginning.ptr, sequences, dimension, hidden, dimension, 1 / dimensions.length);
  });
}

/** One loss of vectors of `dimension` numbers, the anchors first, and their gradient. */
function infoNce(
  k: Kernels,
  plan: ObjectivePlan,
  { temperature, hardNegativeWeight, symmetric, similarity }: ObjectiveOptions,
  loss: number,
  dVectors: Tensor,
  vectors: Tensor,
  rows: number,
  columns: number,
  dimension: number,
): void {
  const cols = rows * (columns - 1);
  const columnLogSumExp = symmetric ? plan.columnLogSumExp.ptr : 0;
  const cosine = similarity === "dot" ? 0 : 1;
  // Where the keys begin in a matrix of `width` columns.
  const keys = (tensor: Tensor, width: number): number => tensor.ptr + 4 * rows * width;
  // prettier-ignore
  {
    k.infoNceForward(loss, plan.logits.ptr, plan.logSumExp.ptr, columnLogSumExp, plan.units.ptr, keys(plan.units, dimension), plan.unitScales.ptr, keys(plan.unitScales, 1), vectors.ptr, keys(vectors, dimension), plan.ids.ptr, keys(plan.ids, 1), rows, cols, dimension, temperature, hardNegativeWeight, cosine, plan.scratch.ptr);
    const units = cosine ? plan.units : vectors;
    k.infoNceBackward(dVectors.ptr, keys(dVectors, dimension), plan.logits.ptr, plan.logSumExp.ptr, columnLogSumExp, units.ptr, keys(units, dimension), plan.unitScales.ptr, keys(plan.unitScales, 1), rows, cols, dimension, temperature, cosine, plan.scratch.ptr);
  }
}
