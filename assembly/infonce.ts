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
import { multiplyTogether, packTogether, packedBytes } from "./gemm";
import { exp4, log4 } from "./math";
import { normalizeForward } from "./pooling";
import { Exact, Fused, maxLanes, mulAdd, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

const MASKED: f32 = -1e30;

/** Up to four floats; the lanes past `count` hold `fill`. */
function loadUpTo(address: usize, count: usize, fill: f32 = MASKED): v128 {
  if (count >= 4) return v128.load(address);
  let v = f32x4.splat(fill);
  v = f32x4.replace_lane(v, 0, load<f32>(address));
  if (count > 1) v = f32x4.replace_lane(v, 1, load<f32>(address, 4));
  if (count > 2) v = f32x4.replace_lane(v, 2, load<f32>(address, 8));
  return v;
}

function storeUpTo(address: usize, v: v128, count: usize): void {
  if (count >= 4) {
    v128.store(address, v);
    return;
  }
  store<f32>(address, f32x4.extract_lane(v, 0));
  if (count > 1) store<f32>(address, f32x4.extract_lane(v, 1), 4);
  if (count > 2) store<f32>(address, f32x4.extract_lane(v, 2), 8);
}

/** log Σ exp of a row of any length. */
function logSumExpRow(row: usize, cols: usize): f32 {
  let high = f32x4.splat(MASKED);
  for (let j: usize = 0; j < cols; j += 4)
    high = f32x4.pmax(high, loadUpTo(row + (j << 2), cols - j));
  const top = maxLanes(high);
  const tops = f32x4.splat(top);
  let sum = f32x4.splat(0);
  for (let j: usize = 0; j < cols; j += 4) {
    sum = f32x4.add(sum, exp4<Exact>(f32x4.sub(loadUpTo(row + (j << 2), cols - j), tops)));
  }
  return top + f32x4.extract_lane(log4(f32x4.splat(sumLanes(sum))), 0);
}

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
  if (cosine) {
    normalizeForward(anchorUnits, anchorScales, anchors, rows, dimension);
    normalizeForward(keyUnits, keyScales, keys, cols, dimension);
    anchors = anchorUnits;
    keys = keyUnits;
  }
  packTogether(scratch, keys, dimension << 2, dimension, cols, true);
  multiplyTogether<Fused>(
    logits,
    cols << 2,
    anchors,
    dimension << 2,
    false,
    scratch,
    rows,
    dimension,
    cols,
    0,
    false,
    0,
    0,
    0,
    scratch + packedBytes(dimension, cols),
  );

  const inverse = f32x4.splat(<f32>1 / temperature);
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    const row = logits + ((i * cols) << 2);
    for (let j: usize = 0; j < cols; j += 4) {
      const at = row + (j << 2);
      storeUpTo(at, f32x4.mul(loadUpTo(at, cols - j), inverse), cols - j);
    }
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
  // No product reads the logits before the barrier of the packing.

  const stride = dimension << 2;
  packTogether(scratch, keyUnits, stride, cols, dimension, false);
  multiplyTogether<Fused>(
    dAnchors,
    stride,
    logits,
    cols << 2,
    false,
    scratch,
    rows,
    cols,
    dimension,
    0,
    false,
    0,
    0,
    0,
    scratch + packedBytes(cols, dimension),
  );
  packTogether(scratch, anchorUnits, stride, rows, dimension, false);
  multiplyTogether<Fused>(
    dKeys,
    stride,
    logits,
    cols << 2,
    true,
    scratch,
    cols,
    rows,
    dimension,
    0,
    false,
    0,
    0,
    0,
    scratch + packedBytes(rows, dimension),
  );
  if (cosine) {
    normalizeBackward(dAnchors, anchorUnits, anchorScales, rows, dimension);
    normalizeBackward(dKeys, keyUnits, keyScales, cols, dimension);
  }
  barrier();
}

/** dx = (dx̂ - x̂ (x̂ · dx̂)) / |x|, in place. */
function normalizeBackward(dx: usize, units: usize, scales: usize, rows: usize, cols: usize): void {
  const stride = cols << 2;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const di = dx + row * stride;
    const ui = units + row * stride;
    let sum = f32x4.splat(0);
    for (let j: usize = 0; j < stride; j += 16)
      sum = mulAdd(v128.load(di + j), v128.load(ui + j), sum);
    const along = f32x4.splat(sumLanes(sum));
    const scale = v128.load32_splat(scales + (row << 2));
    for (let j: usize = 0; j < stride; j += 16) {
      const across = f32x4.sub(v128.load(di + j), f32x4.mul(v128.load(ui + j), along));
      v128.store(di + j, f32x4.mul(across, scale));
    }
  }
}
