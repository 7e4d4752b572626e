/**
 * The softmax of attention, row by row: P from scores S, and the gradient of S. A row lies in memory as whole vectors, `scoreStride` bytes;
 * scores come in units of ln 2, in which exp is a power of 2.
 */
import { exp2Row, log4 } from "./math";
import { keepMask } from "./random";
import { Fused, fma, maxLanes, sumLanes } from "./simd";

const MASKED: f32 = -1e30;
const LN2: f32 = 0.6931471805599453;
export const LOG2E: f32 = 1.4426950408889634;

/** Bytes between rows of S: whole vectors. */
export function scoreStride(length: usize): usize {
  return ((length + 7) & ~7) << 2;
}

/**
 * Turns a row of S · log₂ e into exp(S - max S), and drops what the bytes at `keep` drop, if there are any; what fills the last
 * vectors becomes negligible. Returns Σ exp(S - max S) at `sum`, and max S at `logSumExp` unless that is 0. Dividing is left to the
 * rows of O, which are shorter.
 */
export function softmaxRow<Rounding>(
  row: usize,
  length: usize,
  sum: usize,
  logSumExp: usize,
  keep: usize,
): void {
  const bytes = scoreStride(length);
  for (let j = length << 2; j < bytes; j += 4) store<f32>(row + j, MASKED);

  let high0 = f32x4.splat(MASKED);
  let high1 = high0;
  let j: usize = 0;
  for (; j + 64 <= bytes; j += 64) {
    high0 = f32x4.pmax(high0, f32x4.pmax(v128.load(row + j), v128.load(row + j, 32)));
    high1 = f32x4.pmax(high1, f32x4.pmax(v128.load(row + j, 16), v128.load(row + j, 48)));
  }
  if (j < bytes) {
    high0 = f32x4.pmax(high0, v128.load(row + j));
    high1 = f32x4.pmax(high1, v128.load(row + j, 16));
  }
  const top = maxLanes(f32x4.pmax(high0, high1));

  store<f32>(sum, sumLanes(exp2Row<Rounding>(row, bytes, f32x4.splat(top), keep)));
  if (logSumExp) store<f32>(logSumExp, top * LN2);
}

/** Turns max S at `logSumExp` into log Σ exp S, and the sums of the rows into `scale` / Σ exp(S - max S), up to three behind them too. */
export function finishSums(sums: usize, logSumExp: usize, rows: usize, scale: f32): void {
  const bytes = rows << 2;
  if (logSumExp) {
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) {
      const logs = log4(v128.load(sums + i));
      v128.store(logSumExp + i, f32x4.add(v128.load(logSumExp + i), logs));
    }
    for (; i < bytes; i += 4) {
      const log = f32x4.extract_lane(log4(v128.load32_splat(sums + i)), 0);
      store<f32>(logSumExp + i, load<f32>(logSumExp + i) + log);
    }
  }
  for (let i: usize = 0; i < bytes; i += 16)
    v128.store(sums + i, f32x4.div(f32x4.splat(scale), v128.load(sums + i)));
}

/**
 * P ∘ M from S · log₂ e at `p`, and dS / √headDim from dP = dO · Vᵀ at `dp`, for one row, in their places. `kept` are the bytes of M
 * if there is dropout, `keep` is what it multiplies by, `delta` is D.
 */
export function softmaxBackwardRow(
  p: usize,
  dp: usize,
  length: usize,
  scale: f32,
  logSumExp: f32,
  delta: f32,
  kept: usize,
  keep: f32,
): void {
  const bytes = scoreStride(length);
  exp2Row<Fused>(p, bytes, f32x4.splat(logSumExp * LOG2E), 0);
  const scales = f32x4.splat(scale);
  const shift = f32x4.splat(-delta * scale);
  const keeps = f32x4.splat(keep);
  for (let j: usize = 0; j < bytes; j += 16) {
    const probability = v128.load(p + j);
    let d = v128.load(dp + j);
    if (kept) {
      const mask = v128.and(keepMask(kept + (j >> 2)), keeps);
      v128.store(p + j, f32x4.mul(probability, mask));
      d = f32x4.mul(d, mask);
    }
    v128.store(dp + j, f32x4.mul(probability, fma(d, scales, shift)));
  }
}
