/**
 * Similarities of all anchors with all keys, and the way back from them; losses over a batch are made of these.
 *
 *   s_ij = â_i · k̂_j with x̂ = x / |x|, or a_i · k_j without `cosine`        dâ = ds · k̂    dk̂ = dsᵀ · â    dx = (dx̂ - x̂ (x̂ · dx̂)) / |x|
 *
 *   a [rows, dimension]    k [cols, dimension]    s [rows, cols]    dimension % 4 == 0
 *   scratch: `packedBytes` of the largest operand, then `RANK_SCRATCH` for each rank
 */
import { multiplyTogether } from "./gemm";
import { packedBytes, packTogether } from "./pack";
import { exp4, log4 } from "./math";
import { normalizeForward } from "./pooling";
import { Exact, Fused, maxLanes, mulAdd, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

/** The logit of what is no candidate. */
export const MASKED: f32 = -1e30;

/** Up to four floats; the lanes past `count` hold `fill`. */
export function loadUpTo(address: usize, count: usize, fill: f32 = MASKED): v128 {
  if (count >= 4) return v128.load(address);
  let v = f32x4.splat(fill);
  v = f32x4.replace_lane(v, 0, load<f32>(address));
  if (count > 1) v = f32x4.replace_lane(v, 1, load<f32>(address, 4));
  if (count > 2) v = f32x4.replace_lane(v, 2, load<f32>(address, 8));
  return v;
}

export function storeUpTo(address: usize, v: v128, count: usize): void {
  if (count >= 4) {
    v128.store(address, v);
    return;
  }
  store<f32>(address, f32x4.extract_lane(v, 0));
  if (count > 1) store<f32>(address, f32x4.extract_lane(v, 1), 4);
  if (count > 2) store<f32>(address, f32x4.extract_lane(v, 2), 8);
}

/** Scales a row of any length in place. */
export function scaleRow(row: usize, cols: usize, factor: v128): void {
  for (let j: usize = 0; j < cols; j += 4) {
    const at = row + (j << 2);
    storeUpTo(at, f32x4.mul(loadUpTo(at, cols - j), factor), cols - j);
  }
}

/** log Σ exp of a row of any length. */
export function logSumExpRow(row: usize, cols: usize): f32 {
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

/** Computes s, and with `cosine` unit vectors and 1 / |x| for the way back. */
export function similarities(
  s: usize,
  anchorUnits: usize,
  keyUnits: usize,
  anchorScales: usize,
  keyScales: usize,
  anchors: usize,
  keys: usize,
  rows: usize,
  cols: usize,
  dimension: usize,
  cosine: usize,
  scratch: usize,
): void {
  if (cosine) {
    normalizeForward(anchorUnits, anchorScales, anchors, rows, dimension);
    normalizeForward(keyUnits, keyScales, keys, cols, dimension);
    anchors = anchorUnits;
    keys = keyUnits;
  }
  packTogether(scratch, keys, dimension << 2, dimension, cols, true);
  multiplyTogether<Fused>(
    s,
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
}

/** Overwrites dAnchors and dKeys. Without `cosine` the units are the vectors themselves. */
export function similaritiesBackward(
  dAnchors: usize,
  dKeys: usize,
  ds: usize,
  anchorUnits: usize,
  keyUnits: usize,
  anchorScales: usize,
  keyScales: usize,
  rows: usize,
  cols: usize,
  dimension: usize,
  cosine: usize,
  scratch: usize,
): void {
  // No product reads ds before the barrier of the packing.
  const stride = dimension << 2;
  packTogether(scratch, keyUnits, stride, cols, dimension, false);
  multiplyTogether<Fused>(
    dAnchors,
    stride,
    ds,
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
    ds,
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
export function normalizeBackward(
  dx: usize,
  units: usize,
  scales: usize,
  rows: usize,
  cols: usize,
): void {
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
