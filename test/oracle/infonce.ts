import { normalize } from "./pooling.ts";

/** The problem of a contrastive batch. */
export interface InfoNce {
  readonly rows: number;
  readonly cols: number;
  readonly dimension: number;
  readonly temperature: number;
  readonly hardNegativeWeight: number;
  readonly anchorIds?: ArrayLike<number> | undefined;
  readonly keyIds?: ArrayLike<number> | undefined;
  /** The mean of both directions. */
  readonly symmetric?: boolean;
  /** The inner product instead of the cosine. */
  readonly dot?: boolean;
}

/** What the kernel stores for a false negative. */
export const MASKED = -1e30;

/** mean over i of log Σ_j exp l_ij - l_ii with l_ij = cos(a_i, k_j) / τ, in float64. */
export function infoNce(
  anchors: ArrayLike<number>,
  keys: ArrayLike<number>,
  problem: InfoNce,
): Record<"loss" | "logits" | "logSumExp" | "columnLogSumExp", Float64Array> {
  const { rows, cols, dimension, temperature, hardNegativeWeight, anchorIds, keyIds } = problem;
  const a = problem.dot ? anchors : normalize(anchors, rows, dimension).y;
  const k = problem.dot ? keys : normalize(keys, cols, dimension).y;
  const logits = new Float64Array(rows * cols);
  const logSumExp = new Float64Array(rows);
  let loss = 0;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      let cosine = 0;
      for (let d = 0; d < dimension; d++) cosine += a[i * dimension + d]! * k[j * dimension + d]!;
      const masked = anchorIds && keyIds && j !== i && anchorIds[i] === keyIds[j];
      const weight = j === rows + i ? hardNegativeWeight : 0;
      logits[i * cols + j] = masked ? MASKED : cosine / temperature + weight;
    }
    const row = logits.subarray(i * cols, (i + 1) * cols);
    logSumExp[i] = logSumExpOf(row);
    loss += (logSumExp[i]! - row[i]!) / rows;
  }
  const columnLogSumExp = Float64Array.from({ length: rows }, (_, j) =>
    logSumExpOf(logits.filter((__, at) => at % cols === j)),
  );
  if (problem.symmetric) {
    const back = columnLogSumExp.reduce((sum, l, j) => sum + (l - logits[j * cols + j]!) / rows, 0);
    loss = (loss + back) / 2;
  }
  return { loss: Float64Array.of(loss), logits, logSumExp, columnLogSumExp };
}

function logSumExpOf(values: Float64Array): number {
  const top = Math.max(...values);
  return top + Math.log(values.reduce((sum, l) => sum + Math.exp(l - top), 0));
}
