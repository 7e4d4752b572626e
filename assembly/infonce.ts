/**
 * InfoNCE over in-batch negatives (van den Oord et al. 2018; SimCSE's equations 1 and 5, https://arxiv.org/abs/2104.08821),
 * also known as NT-Xent in one direction, or multiple negatives ranking loss.
 *
 *   l_ij = cos(a_i, k_j) / τ (+ w where k_j is the hard negative of a_i); without `cosine`, a_i · k_j / τ
 *   loss = mean_i (log Σ_j exp l_ij - l_ii);  symmetric: its mean with mean_j (log Σ_i exp l_ij - l_jj), j < rows
 *   dl_ij = (exp(l_ij - log Σ exp l_i) - [i = j]) / (rows · τ),  then through cos = â · k̂:  dx = (dx̂ - x̂ (x̂ · dx̂)) / |x|
 *
 *   a [rows, dimension]    k [cols, dimension], cols = rows, or 2 · rows with a hard negative each    logits [rows, cols]
 *   columnLogSumExp [rows], absent in one direction    dimension % 4 == 0
 *   ids [rows], [cols] int32 or absent: a key with the anchor's id that is not its own is no negative
 *   scratch: `packedBytes` of the largest operand, then `RANK_SCRATCH` for each rank
 */
import { exp4, log4 } from "./math";
import { Exact } from "./simd";
import {
  loadUpTo,
  logSumExpRow,
  MASKED,
  scaleRow,
  similarities,
  similaritiesBackward,
  storeUpTo,
} from "./similarity";
import { barrier, begin, end, rankOf } from "./team";

/** Writes loss [1] and all that the backward pass needs: logits, their log Σ exp, unit vectors and 1 / |x|. */
export function infoNceForward(
  loss: usize,
  logits: usize,
  logSumExp: usize,
  columnLogSumExp: usize,
  anchorUnits: usize,
  keyUnits: usize,
  anchorScales: usize,
  keyScales: usize,
  anchors: usize,
  keys: usize,
  anchorIds: usize,
  keyIds: usize,
  rows: usize,
  cols: usize,
  dimension: usize,
  temperature: f32,
  hardNegativeWeight: f32,
  cosine: usize,
  scratch: usize,
): void {
  assert(cols == rows || cols == rows * 2, "cols must be rows or 2 rows");
  // prettier-ignore
  similarities(logits, anchorUnits, keyUnits, anchorScales, keyScales, anchors, keys, rows, cols, dimension, cosine, scratch);

  const inverse = f32x4.splat(<f32>1 / temperature);
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    const row = logits + ((i * cols) << 2);
    scaleRow(row, cols, inverse);
    if (cols > rows) {
      const own = row + ((rows + i) << 2);
      store<f32>(own, load<f32>(own) + hardNegativeWeight);
    }
    if (anchorIds) {
      const id = load<i32>(anchorIds + (i << 2));
      for (let j: usize = 0; j < cols; j++) {
        if (j != i && load<i32>(keyIds + (j << 2)) == id) store<f32>(row + (j << 2), MASKED);
      }
    }
    store<f32>(logSumExp + (i << 2), logSumExpRow(row, cols));
  }
  barrier();

  if (columnLogSumExp) logSumExpColumns(columnLogSumExp, logits, rows, cols);
  if (rankOf() == 0) {
    let sum: f64 = 0;
    for (let i: usize = 0; i < rows; i++) {
      const own = load<f32>(logits + ((i * cols + i) << 2));
      const across = load<f32>(logSumExp + (i << 2)) - own;
      sum += columnLogSumExp
        ? 0.5 * <f64>(across + load<f32>(columnLogSumExp + (i << 2)) - own)
        : <f64>across;
    }
    store<f32>(loss, <f32>(sum / <f64>rows));
  }
  barrier();
}

/** log Σ exp of each of the first `rows` columns, four side by side. */
function logSumExpColumns(sums: usize, logits: usize, rows: usize, cols: usize): void {
  const stride = cols << 2;
  const quads = (rows + 3) >> 2;
  for (let quad = begin(quads), last = end(quads); quad < last; quad++) {
    const j = quad << 2;
    const column = logits + (j << 2);
    let top = f32x4.splat(MASKED);
    for (let i: usize = 0; i < rows; i++)
      top = f32x4.pmax(top, loadUpTo(column + i * stride, rows - j));
    let sum = f32x4.splat(0);
    for (let i: usize = 0; i < rows; i++) {
      sum = f32x4.add(sum, exp4<Exact>(f32x4.sub(loadUpTo(column + i * stride, rows - j), top)));
    }
    storeUpTo(sums + (j << 2), f32x4.add(top, log4(sum)), rows - j);
  }
  barrier();
}

/**
 * Overwrites dAnchors and dKeys; logits become their own gradient. Without `cosine` the units are the vectors themselves.
 */
export function infoNceBackward(
  dAnchors: usize,
  dKeys: usize,
  logits: usize,
  logSumExp: usize,
  columnLogSumExp: usize,
  anchorUnits: usize,
  keyUnits: usize,
  anchorScales: usize,
  keyScales: usize,
  rows: usize,
  cols: usize,
  dimension: usize,
  temperature: f32,
  cosine: usize,
  scratch: usize,
): void {
  const weight = <f32>1 / (<f32>rows * temperature);
  const weights = f32x4.splat(columnLogSumExp ? 0.5 * weight : weight);
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    const row = logits + ((i * cols) << 2);
    const lse = f32x4.splat(load<f32>(logSumExp + (i << 2)));
    for (let j: usize = 0; j < cols; j += 4) {
      const at = row + (j << 2);
      const l = loadUpTo(at, cols - j);
      let p = exp4<Exact>(f32x4.sub(l, lse));
      if (columnLogSumExp && j < rows) {
        // Columns past the last anchor have no sum of their own: an infinite one makes them no difference.
        const columns = loadUpTo(columnLogSumExp + (j << 2), rows - j, -MASKED);
        p = f32x4.add(p, exp4<Exact>(f32x4.sub(l, columns)));
      }
      storeUpTo(at, f32x4.mul(p, weights), cols - j);
    }
    const own = row + (i << 2);
    store<f32>(own, load<f32>(own) - weight);
  }
  // prettier-ignore
  similaritiesBackward(dAnchors, dKeys, logits, anchorUnits, keyUnits, anchorScales, keyScales, rows, cols, dimension, cosine, scratch);
}
