import { MASKED } from "./infonce.ts";
import { normalize } from "./pooling.ts";

/** The problem of a batch whose similarities a teacher gives. */
export interface Distill {
  readonly rows: number;
  readonly cols: number;
  readonly dimension: number;
  readonly teacherDimension: number;
  readonly temperature: number;
  readonly anchorIds: ArrayLike<number>;
  readonly keyIds: ArrayLike<number>;
}

/** Cosines / τ of rows of unit vectors, with those of equal sentences masked, and their softmax by row, in float64. */
function distributions(
  a: ArrayLike<number>,
  k: ArrayLike<number>,
  dimension: number,
  { rows, cols, temperature, anchorIds, keyIds }: Distill,
): { logits: Float64Array; logSumExp: Float64Array } {
  const logits = new Float64Array(rows * cols);
  const logSumExp = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      let sum = 0;
      for (let d = 0; d < dimension; d++) sum += a[i * dimension + d]! * k[j * dimension + d]!;
      logits[i * cols + j] = anchorIds[i] === keyIds[j] ? MASKED : sum / temperature;
    }
    const row = logits.subarray(i * cols, (i + 1) * cols);
    const top = Math.max(...row);
    logSumExp[i] = top + Math.log(row.reduce((sum, l) => sum + Math.exp(l - top), 0));
  }
  return { logits, logSumExp };
}

/** mean over i of the Kullback-Leibler divergence of the student's similarities from the teacher's. */
export function distill(
  anchors: ArrayLike<number>,
  keys: ArrayLike<number>,
  anchorTeachers: ArrayLike<number>,
  keyTeachers: ArrayLike<number>,
  problem: Distill,
): Record<"loss" | "p" | "s" | "logSumExp", Float64Array> {
  const { rows, cols, dimension, teacherDimension } = problem;
  const a = normalize(anchors, rows, dimension).y;
  const k = normalize(keys, cols, dimension).y;
  const { logits: s, logSumExp } = distributions(a, k, dimension, problem);
  const teacher = distributions(anchorTeachers, keyTeachers, teacherDimension, problem);
  const p = teacher.logits.map((t, at) => Math.exp(t - teacher.logSumExp[Math.floor(at / cols)]!));
  let loss = 0;
  p.forEach((share, at) => {
    const i = Math.floor(at / cols);
    if (share > 0) loss += (share * (Math.log(share) - (s[at]! - logSumExp[i]!))) / rows;
  });
  return { loss: Float64Array.of(loss), p, s, logSumExp };
}

/** mean over rows of |x / |x| - v|². */
export function distance(
  x: ArrayLike<number>,
  teachers: ArrayLike<number>,
  rows: number,
  dimension: number,
): number {
  const { y } = normalize(x, rows, dimension);
  return y.reduce((sum, u, i) => sum + (u - teachers[i]!) ** 2, 0) / rows;
}
