/**
 * What a step minimises, from sentence vectors to their gradient: InfoNCE, and what teachers say of the sentences. Both may be
 * the mean over beginnings of the vectors too (Matryoshka representation learning, Kusupati et al. 2022,
 * https://arxiv.org/abs/2205.13147).
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { infoNceScratch } from "../runtime/scratch.ts";

export const SIMILARITIES = ["cos", "dot"] as const;
export type Similarity = (typeof SIMILARITIES)[number];

export const OBJECTIVES = ["contrastive", "mlm", "distill"] as const;
export type Objective = (typeof OBJECTIVES)[number];

export const DISTILLATIONS = ["similarity", "mse"] as const;

/** What is learned from teachers; the equations are in `assembly/distill.ts`. */
export interface DistillOptions {
  /** The teachers' similarities within the batch, or one teacher's vectors. */
  readonly kind: (typeof DISTILLATIONS)[number];
  /** Of its loss beside the others. */
  readonly weight: number;
  /** τ of both distributions of similarities. */
  readonly temperature: number;
  /** Numbers of a teacher's vector, or of all teachers' end to end. */
  readonly dimension: number;
}

export interface ObjectiveOptions {
  /** `mlm` compares no sentences, `distill` only as teachers do; by default InfoNCE is a part of the loss. */
  readonly objective?: Objective;
  readonly distill?: DistillOptions;
  /** Rows of a batch: sentences, pairs or triplets. */
  readonly batchSize: number;
  /** Sentences of a row: 2 (anchor and positive), or 3 with a hard negative; the most of any batch. 1 where nothing is compared. */
  readonly columns: 1 | 2 | 3;
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
  readonly loss: Tensor; // [dimensions], of which InfoNCE is the mean; [0] where it is no part of the objective
  readonly ids: Tensor; // [columns · batchSize] int32, equal for sentences that are the same
  readonly logits: Tensor;
  readonly logSumExp: Tensor;
  readonly columnLogSumExp: Tensor;
  readonly units: Tensor; // [sequences, hidden], embeddings on the unit sphere
  readonly unitScales: Tensor;
  readonly beginning: Tensor | undefined; // [sequences, hidden], vectors cut short
  readonly part: Tensor | undefined; // [sequences, hidden], the gradient of one loss of several
  readonly taught: TaughtPlan | undefined;
  readonly scratch: Tensor;
}

/** What teachers say. */
export interface TaughtPlan {
  /** [sequences, dimension], on the unit sphere: several teachers' vectors end to end, so that inner products are their mean cosines. */
  readonly teachers: Tensor;
  readonly targets: Tensor; // [batchSize, keys], distributions
  readonly losses: Tensor; // [dimensions], of which the loss is the mean
  readonly rowLosses: Tensor; // [sequences]
  /** Of the loss in that of the step. */
  readonly weight: number;
}

/** @throws RangeError for a beginning that is none of vectors of `hidden` numbers, and a teacher of another dimension */
export function planObjective(
  arena: Arena,
  options: ObjectiveOptions,
  hidden: number,
  ranks: number,
): ObjectivePlan {
  const { objective = "contrastive", batchSize, columns, beginnings = [], distill } = options;
  for (const dimension of beginnings) {
    if (!(dimension > 0 && dimension < hidden && dimension % 4 === 0)) {
      throw new RangeError(
        `matryoshka dimension ${dimension}: expected a multiple of 4 below ${hidden}, the dimension of the vectors`,
      );
    }
  }
  if (distill?.kind === "mse" && distill.dimension !== hidden) {
    throw new RangeError(
      `teacher of ${distill.dimension} numbers: expected ${hidden}, the dimension of the vectors that should equal its own; ` +
        `learn its similarities instead`,
    );
  }
  const dimensions = [...new Set([...beginnings, hidden])];
  const sequences = batchSize * columns;
  const keys = (columns - 1) * batchSize;
  const vectors = (name: string, needed: boolean): Tensor | undefined =>
    needed ? arena.tensor(name, sequences, hidden) : undefined;
  return {
    dimensions,
    loss: arena.tensor("loss", objective === "contrastive" ? dimensions.length : 0),
    ids: arena.reserve("batch.ids", "I32", [sequences]),
    logits: arena.tensor("logits", batchSize, keys),
    logSumExp: arena.tensor("logSumExp", batchSize),
    columnLogSumExp: arena.tensor("columnLogSumExp", batchSize),
    units: arena.tensor("units", sequences, hidden),
    unitScales: arena.tensor("unitScales", sequences),
    beginning: vectors("beginning", dimensions.length > 1),
    part: vectors("part", dimensions.length > 1 || distill !== undefined),
    taught: distill && {
      teachers: arena.tensor("teachers", sequences, distill.dimension),
      targets: arena.tensor("targets", batchSize, keys),
      losses: arena.tensor("distillLosses", distill.kind === "mse" ? 1 : dimensions.length),
      rowLosses: arena.tensor("distillLosses.rows", sequences),
      weight: distill.weight,
    },
    scratch: arena.scratch(
      "loss.scratch",
      infoNceScratch(batchSize, keys, Math.max(hidden, distill?.dimension ?? 0), ranks),
    ),
  };
}

/** Vectors of a dimension that are compared: where they are, where their gradient goes, and their loss. */
interface Comparison {
  readonly loss: number;
  readonly dVectors: Tensor;
  /** [rows · columns, dimension], the anchors first. */
  readonly vectors: Tensor;
  readonly rows: number;
  readonly columns: number;
  readonly dimension: number;
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
  const { dimensions, beginning, part, loss, taught } = plan;
  const { objective = "contrastive", distill } = options;
  const hidden = dimensions.at(-1)!;
  if (!part) {
    const all = { loss: loss.ptr, dVectors, vectors, rows, columns, dimension: hidden };
    return infoNce(k, plan, options, all);
  }
  const sequences = rows * columns;
  const share = 1 / dimensions.length;
  k.zero(dVectors.ptr, 4 * sequences * hidden);
  dimensions.forEach((dimension, i) => {
    const add = (scale: number): void =>
      k.addColumns(dVectors.ptr, part.ptr, sequences, dimension, hidden, dimension, scale);
    const x = dimension < hidden ? beginning! : vectors;
    if (x !== vectors) {
      k.copyColumns(x.ptr, vectors.ptr, sequences, dimension, dimension, hidden);
    }
    const own = { dVectors: part, vectors: x, rows, columns, dimension };
    if (objective === "contrastive") {
      infoNce(k, plan, options, { loss: loss.ptr + 4 * i, ...own });
      add(share);
    }
    if (distill?.kind === "similarity") {
      learnSimilarities(k, plan, distill, { loss: taught!.losses.ptr + 4 * i, ...own });
      add(share * distill.weight);
    }
  });
  if (distill?.kind === "mse") {
    const { units, unitScales } = plan;
    const { teachers, losses, rowLosses } = taught!;
    // prettier-ignore
    k.distanceForward(losses.ptr, rowLosses.ptr, units.ptr, unitScales.ptr, vectors.ptr, teachers.ptr, sequences, hidden);
    k.distanceBackward(part.ptr, units.ptr, unitScales.ptr, teachers.ptr, sequences, hidden);
    k.addColumns(dVectors.ptr, part.ptr, sequences, hidden, hidden, hidden, distill.weight);
  }
}

/** Where the keys begin in a matrix of `width` columns, after so many anchors. */
const keysAfter = (rows: number) => (tensor: Tensor, width: number) =>
  tensor.ptr + 4 * rows * width;

/** InfoNCE, and its gradient. */
function infoNce(
  k: Kernels,
  plan: ObjectivePlan,
  { temperature, hardNegativeWeight, symmetric, similarity }: ObjectiveOptions,
  { loss, dVectors, vectors, rows, columns, dimension }: Comparison,
): void {
  const cols = rows * (columns - 1);
  const columnLogSumExp = symmetric ? plan.columnLogSumExp.ptr : 0;
  const cosine = similarity === "dot" ? 0 : 1;
  const keys = keysAfter(rows);
  // prettier-ignore
  {
    k.infoNceForward(loss, plan.logits.ptr, plan.logSumExp.ptr, columnLogSumExp, plan.units.ptr, keys(plan.units, dimension), plan.unitScales.ptr, keys(plan.unitScales, 1), vectors.ptr, keys(vectors, dimension), plan.ids.ptr, keys(plan.ids, 1), rows, cols, dimension, temperature, hardNegativeWeight, cosine, plan.scratch.ptr);
    const units = cosine ? plan.units : vectors;
    k.infoNceBackward(dVectors.ptr, keys(dVectors, dimension), plan.logits.ptr, plan.logSumExp.ptr, columnLogSumExp, units.ptr, keys(units, dimension), plan.unitScales.ptr, keys(plan.unitScales, 1), rows, cols, dimension, temperature, cosine, plan.scratch.ptr);
  }
}

/** Distance of the vectors' similarities from the teachers', and its gradient. */
function learnSimilarities(
  k: Kernels,
  plan: ObjectivePlan,
  { temperature, dimension: teacherDimension }: DistillOptions,
  { loss, dVectors, vectors, rows, columns, dimension }: Comparison,
): void {
  const { logits, logSumExp, units, unitScales, ids } = plan;
  const { teachers, targets, rowLosses } = plan.taught!;
  const cols = rows * (columns - 1);
  const keys = keysAfter(rows);
  // prettier-ignore
  {
    k.distillForward(loss, targets.ptr, logits.ptr, logSumExp.ptr, rowLosses.ptr, units.ptr, keys(units, dimension), unitScales.ptr, keys(unitScales, 1), vectors.ptr, keys(vectors, dimension), teachers.ptr, keys(teachers, teacherDimension), ids.ptr, keys(ids, 1), rows, cols, dimension, teacherDimension, temperature, plan.scratch.ptr);
    k.distillBackward(dVectors.ptr, keys(dVectors, dimension), logits.ptr, targets.ptr, logSumExp.ptr, units.ptr, keys(units, dimension), unitScales.ptr, keys(unitScales, 1), rows, cols, dimension, temperature, plan.scratch.ptr);
  }
}

/** The loss of the last comparison: its parts, where they are of the objective, and their weighed sum. */
export function readComparison(
  buffer: ArrayBufferLike,
  { loss, taught }: ObjectivePlan,
): { loss: number; contrastive?: number; distillation?: number } {
  const mean = ({ ptr, shape }: Tensor): number => {
    const losses = new Float32Array(buffer, ptr, shape[0]);
    return losses.reduce((sum, value) => sum + value, 0) / losses.length;
  };
  const contrastive = loss.shape[0] === 0 ? undefined : mean(loss);
  const distillation = taught && mean(taught.losses);
  return {
    loss: (contrastive ?? 0) + (taught ? taught.weight * distillation! : 0),
    ...(contrastive !== undefined && { contrastive }),
    ...(distillation !== undefined && { distillation }),
  };
}
