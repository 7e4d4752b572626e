/**
 * What a student learns from a teacher's vectors v, on the unit sphere like its own, x̂ = x / |x|.
 *
 * Similarities (Tung & Mori 2019, https://arxiv.org/abs/1907.09682; as distributions over the batch: ListNet, Cao et al. 2007, and for
 * sentences RankCSE, Liu et al. 2023, https://arxiv.org/abs/2305.16726):
 *
 *   s_ij = â_i · k̂_j / τ    t_ij = v_i · v_j / τ    p_i = softmax_j t_ij    q_i = softmax_j s_ij    over keys j of another sentence than i
 *   loss = mean_i Σ_j p_ij (log p_ij - log q_ij)        ds_ij = (q_ij - p_ij) / (rows · τ), on through the cosine
 *
 * Distances (Reimers & Gurevych 2020, https://arxiv.org/abs/2004.09813):
 *
 *   loss = mean_i |x̂_i - v_i|²        dx̂_i = 2 (x̂_i - v_i) / rows        dx = (dx̂ - x̂ (x̂ · dx̂)) / |x|
 *
 *   a x v [rows, dimension]    k [cols, dimension]    ids [rows], [cols] int32: equal for equal sentences
 *   dimension % 4 == 0, teacherDimension % 4 == 0    rowLosses [rows]: each row's own
 *   scratch: `packedBytes` of the largest operand, then `RANK_SCRATCH` for each rank
 */
import { exp4 } from "./math";
import { normalizeForward } from "./pooling";
import { Exact, mulAdd, sumLanes } from "./simd";
import {
  loadUpTo,
  logSumExpRow,
  MASKED,
  normalizeBackward,
  scaleRow,
  similarities,
  similaritiesBackward,
  storeUpTo,
} from "./similarity";
import { barrier, begin, end, rankOf } from "./team";

/** The mean of the rows' losses, by one rank. */
function meanOf(loss: usize, rowLosses: usize, rows: usize): void {
  barrier();
  if (rankOf() == 0) {
    let sum: f64 = 0;
    for (let i: usize = 0; i < rows << 2; i += 4) sum += <f64>load<f32>(rowLosses + i);
    store<f32>(loss, <f32>(sum / <f64>rows));
  }
  barrier();
}

/** Writes loss [1], p and s [rows, cols], log Σ exp s_i, and units and scales for the way back. */
export function distillForward(
  loss: usize,
  p: usize,
  s: usize,
  logSumExp: usize,
  rowLosses: usize,
  anchorUnits: usize,
  keyUnits: usize,
  anchorScales: usize,
  keyScales: usize,
  anchors: usize,
  keys: usize,
  anchorTeachers: usize,
  keyTeachers: usize,
  anchorIds: usize,
  keyIds: usize,
  rows: usize,
  cols: usize,
  dimension: usize,
  teacherDimension: usize,
  temperature: f32,
  scratch: usize,
): void {
  assert((teacherDimension & 3) == 0, "teacherDimension must be a multiple of 4");
  // prettier-ignore
  similarities(s, anchorUnits, keyUnits, anchorScales, keyScales, anchors, keys, rows, cols, dimension, 1, scratch);
  // prettier-ignore
  similarities(p, 0, 0, 0, 0, anchorTeachers, keyTeachers, rows, cols, teacherDimension, 0, scratch);
  const inverse = f32x4.splat(<f32>1 / temperature);
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    const student = s + ((i * cols) << 2);
    const teacher = p + ((i * cols) << 2);
    scaleRow(student, cols, inverse);
    scaleRow(teacher, cols, inverse);
    const id = load<i32>(anchorIds + (i << 2));
    for (let j: usize = 0; j < cols << 2; j += 4) {
      if (load<i32>(keyIds + j) != id) continue;
      store<f32>(student + j, MASKED);
      store<f32>(teacher + j, MASKED);
    }
    const lse = logSumExpRow(student, cols);
    const students = f32x4.splat(lse);
    const teachers = f32x4.splat(logSumExpRow(teacher, cols));
    let sum = f32x4.splat(0);
    for (let j: usize = 0; j < cols; j += 4) {
      const at = j << 2;
      const n = cols - j;
      const logP = f32x4.sub(loadUpTo(teacher + at, n), teachers);
      const logQ = f32x4.sub(loadUpTo(student + at, n), students);
      const share = exp4<Exact>(logP);
      sum = mulAdd(share, f32x4.sub(logP, logQ), sum);
      storeUpTo(teacher + at, share, n);
    }
    store<f32>(logSumExp + (i << 2), lse);
    store<f32>(rowLosses + (i << 2), sumLanes(sum));
  }
  meanOf(loss, rowLosses, rows);
}

/** Overwrites dAnchors and dKeys; s becomes its own gradient. */
export function distillBackward(
  dAnchors: usize,
  dKeys: usize,
  s: usize,
  p: usize,
  logSumExp: usize,
  anchorUnits: usize,
  keyUnits: usize,
  anchorScales: usize,
  keyScales: usize,
  rows: usize,
  cols: usize,
  dimension: usize,
  temperature: f32,
  scratch: usize,
): void {
  const weight = f32x4.splat(<f32>1 / (<f32>rows * temperature));
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    const lse = f32x4.splat(load<f32>(logSumExp + (i << 2)));
    for (let j: usize = 0; j < cols; j += 4) {
      const at = (i * cols + j) << 2;
      const n = cols - j;
      const q = exp4<Exact>(f32x4.sub(loadUpTo(s + at, n), lse));
      storeUpTo(s + at, f32x4.mul(f32x4.sub(q, loadUpTo(p + at, n)), weight), n);
    }
  }
  // prettier-ignore
  similaritiesBackward(dAnchors, dKeys, s, anchorUnits, keyUnits, anchorScales, keyScales, rows, cols, dimension, 1, scratch);
}

/** Writes loss [1], and units and scales for the way back. */
export function distanceForward(
  loss: usize,
  rowLosses: usize,
  units: usize,
  scales: usize,
  x: usize,
  teachers: usize,
  rows: usize,
  dimension: usize,
): void {
  normalizeForward(units, scales, x, rows, dimension);
  const stride = dimension << 2;
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    let sum = f32x4.splat(0);
    for (let j: usize = 0; j < stride; j += 16) {
      const at = i * stride + j;
      const d = f32x4.sub(v128.load(units + at), v128.load(teachers + at));
      sum = mulAdd(d, d, sum);
    }
    store<f32>(rowLosses + (i << 2), sumLanes(sum));
  }
  meanOf(loss, rowLosses, rows);
}

/** Overwrites dx. */
export function distanceBackward(
  dx: usize,
  units: usize,
  scales: usize,
  teachers: usize,
  rows: usize,
  dimension: usize,
): void {
  const stride = dimension << 2;
  const weight = f32x4.splat(<f32>2 / <f32>rows);
  for (let at = begin(rows) * stride, last = end(rows) * stride; at < last; at += 16) {
    const d = f32x4.sub(v128.load(units + at), v128.load(teachers + at));
    v128.store(dx + at, f32x4.mul(d, weight));
  }
  normalizeBackward(dx, units, scales, rows, dimension);
  barrier();
}
