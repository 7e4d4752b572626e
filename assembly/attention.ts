/**
 * Multi-head self-attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762) over ragged sequences, bidirectional.
 *
 *   S = Q · Kᵀ / √headDim      P = softmax(S)      O = dropout(P) · V                per sequence and head
 *
 * Backward recomputes P from the saved log-sum-exp and replays the dropout bits (Dao et al. 2022,
 * https://arxiv.org/abs/2205.14135), with M the mask over 1 - p and D = Σ dO ∘ O per row:
 *
 *   dV = (P ∘ M)ᵀ · dO      dS = P ∘ ((dO · Vᵀ) ∘ M - D)      dQ = dS · K / √headDim      dK = dSᵀ · Q / √headDim
 *
 *   qkv dqkv [tokens, 3 · hidden]    O dO [tokens, hidden]    logSumExp [heads, tokens]    headDim % 4 == 0
 *   offsets [sequences + 1] int32    a row of P draws the bits of row token · heads + head
 *
 * Where only the first token of each sequence asks, its queries lie apart, and no sequence is empty:
 *
 *   queries dQueries [sequences, hidden]    qkv dqkv are kv dkv [tokens, 2 · hidden]
 *   O dO [sequences, hidden]    logSumExp [heads, sequences]
 */
import { RANK_SCRATCH, multiplyAlone } from "./gemm";
import { packAlone, packedBytes } from "./pack";
import { exp4, expShifted8, log4 } from "./math";
import { dropThreshold, keepMask, keepScale, originRow, philox } from "./random";
import { Exact, Fused, fma, maxLanes, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

const ROWS: usize = 48; // rows of S in memory at a time: no L × L matrix exists
const MASKED: f32 = -1e30;

/** Bytes between rows of S: whole vectors. */
function scoreStride(length: usize): usize {
  return ((length + 7) & ~7) << 2;
}

/**
 * Turns a row of S into exp(S - max S), and drops what dropout drops; what fills the last vectors becomes negligible.
 * Returns keepScale / Σ exp(S - max S) at `inverse`, and log Σ exp S at `logSumExp` unless that is 0. Dividing is left to
 * the rows of O, which are shorter.
 */
export function softmaxRow<Rounding>(
  row: usize,
  length: usize,
  inverse: usize,
  logSumExp: usize,
  threshold: i32,
  seed: usize,
  step: usize,
  site: usize,
  line: usize,
): void {
  const bytes = scoreStride(length);
  for (let j = length << 2; j < bytes; j += 4) store<f32>(row + j, MASKED);

  let high0 = f32x4.splat(MASKED);
  let high1 = high0;
  for (let j: usize = 0; j < bytes; j += 32) {
    high0 = f32x4.pmax(high0, v128.load(row + j));
    high1 = f32x4.pmax(high1, v128.load(row + j, 16));
  }
  const top = maxLanes(f32x4.pmax(high0, high1));
  const tops = f32x4.splat(top);

  let sums = f32x4.splat(0);
  for (let j: usize = 0; j < bytes; j += 32)
    sums = f32x4.add(sums, expShifted8<Rounding>(row + j, tops));
  const sum = sumLanes(sums);
  store<f32>(inverse, keepScale(threshold) / sum);
  if (logSumExp) store<f32>(logSumExp, top + f32x4.extract_lane(log4(f32x4.splat(sum)), 0));

  if (!threshold) return;
  const thresholds = i32x4.splat(threshold);
  for (let j: usize = 0; j < bytes; j += 16) {
    if (!(j & 127)) philox(seed, step, site, line, j >> 7);
    v128.store(row + j, v128.and(v128.load(row + j), keepMask((j >> 4) & 7, thresholds)));
  }
}

/** Multiplies whole vectors by a number. */
function scaleRow(row: usize, bytes: usize, scale: f32): void {
  const s = f32x4.splat(scale);
  for (let j: usize = 0; j < bytes; j += 16) v128.store(row + j, f32x4.mul(v128.load(row + j), s));
}

function forward<Rounding>(
  context: usize,
  logSumExp: usize,
  queries: usize,
  qkv: usize,
  offsets: usize,
  sequences: usize,
  maxLength: usize,
  heads: usize,
  headDim: usize,
  rate: f32,
  seed: usize,
  step: usize,
  site: usize,
  scratch: usize,
): void {
  assert((headDim & 3) == 0, "headDim must be a multiple of 4");
  const hidden = heads * headDim;
  const stride = hidden << 2;
  const kvStride = queries ? stride * 2 : stride * 3;
  const qStride = queries ? stride : kvStride;
  const askers = queries ? sequences : <usize>load<u32>(offsets + (sequences << 2));
  const scale = <f32>1 / sqrt<f32>(<f32>headDim);
  const threshold = dropThreshold(rate);

  const packedK = scratch + rankOf() * forwardScratch(maxLength, headDim);
  const packedV = packedK + packedBytes(headDim, maxLength);
  const scores = packedV + packedBytes(maxLength, headDim);
  const inverses = scores + ROWS * scoreStride(maxLength);
  const own = inverses + ROWS * 4;

  // Heads are the outer index: with as many heads as ranks, or a multiple, all shares are the same sequences.
  for (let item = begin(heads * sequences), last = end(heads * sequences); item < last; item++) {
    const head = item / sequences;
    const sequence = item % sequences;
    const start = <usize>load<u32>(offsets + (sequence << 2));
    const length = <usize>load<u32>(offsets + (sequence << 2), 4) - start;
    assert(length <= maxLength, "a sequence is longer than maxLength");
    assert(!queries || length > 0, "a sequence without a first token");
    const asking: usize = queries ? 1 : length;
    const asker = queries ? sequence : start; // its row in O
    const column = (head * headDim) << 2;
    const v = qkv + (start + 1) * kvStride - stride + column;
    const k = v - stride;
    const q = queries ? queries + asker * stride + column : k - stride;
    const rowStride = scoreStride(length);

    packAlone(packedK, k, kvStride, headDim, length, true);
    scaleRow(packedK, packedBytes(headDim, length), scale);
    packAlone(packedV, v, kvStride, length, headDim, false);
    for (let i: usize = 0; i < asking; i += ROWS) {
      const rows = min(ROWS, asking - i);
      multiplyAlone<Rounding>(
        scores,
        rowStride,
        q + i * qStride,
        qStride,
        false,
        packedK,
        rows,
        headDim,
        length,
        false,
        own,
      );
      for (let row: usize = 0; row < rows; row++) {
        const r = i + row;
        softmaxRow<Rounding>(
          scores + row * rowStride,
          length,
          inverses + (row << 2),
          logSumExp ? logSumExp + ((head * askers + asker + r) << 2) : 0,
          threshold,
          seed,
          step,
          site,
          (originRow() + start + r) * heads + head,
        );
      }
      const o = context + (asker + i) * stride + column;
      multiplyAlone<Rounding>(
        o,
        stride,
        scores,
        rowStride,
        false,
        packedV,
        rows,
        length,
        headDim,
        false,
        own,
      );
      for (let row: usize = 0; row < rows; row++)
        scaleRow(o + row * stride, headDim << 2, load<f32>(inverses + (row << 2)));
    }
  }
  barrier();
}

/** Bytes a rank needs; `src/runtime/scratch.ts` knows it too. */
function forwardScratch(maxLength: usize, headDim: usize): usize {
  return (
    packedBytes(headDim, maxLength) +
    packedBytes(maxLength, headDim) +
    ROWS * scoreStride(maxLength) +
    ROWS * 4 +
    RANK_SCRATCH
  );
}
function backwardScratch(maxLength: usize, headDim: usize): usize {
  return (
    packedBytes(headDim, maxLength) * 2 +
    packedBytes(maxLength, headDim) +
    packedBytes(ROWS, headDim) * 2 +
    ROWS * scoreStride(maxLength) * 2 +
    RANK_SCRATCH
  );
}

/** Computes O and keeps log Σ exp S for the backward pass. */
export function attentionForward(
  context: usize,
  logSumExp: usize,
  queries: usize,
  qkv: usize,
  offsets: usize,
  sequences: usize,
  maxLength: usize,
  heads: usize,
  headDim: usize,
  rate: f32,
  seed: usize,
  step: usize,
  site: usize,
  scratch: usize,
): void {
  forward<Fused>(
    context,
    logSumExp,
    queries,
    qkv,
    offsets,
    sequences,
    maxLength,
    heads,
    headDim,
    rate,
    seed,
    step,
    site,
    scratch,
  );
}

/** Computes O without dropout, with the same bits on every target: the attention of quantised models. */
export function attentionExactForward(
  context: usize,
  queries: usize,
  qkv: usize,
  offsets: usize,
  sequences: usize,
  maxLength: usize,
  heads: usize,
  headDim: usize,
  scratch: usize,
): void {
  forward<Exact>(
    context,
    0,
    queries,
    qkv,
    offsets,
    sequences,
    maxLength,
    heads,
    headDim,
    0,
    0,
    0,
    0,
    scratch,
  );
}

/** P and P ∘ M from scores, and dS from dP = dO · Vᵀ, for one row. On return `p` holds P ∘ M and `dp` dS / √headDim. */
function backwardRow(
  p: usize,
  dp: usize,
  length: usize,
  scale: f32,
  lse: f32,
  delta: f32,
  threshold: i32,
  seed: usize,
  step: usize,
  site: usize,
  line: usize,
): void {
  const scales = f32x4.splat(scale);
  const lses = f32x4.splat(lse);
  const deltas = f32x4.splat(delta);
  const thresholds = i32x4.splat(threshold);
  const keep = f32x4.splat(keepScale(threshold));
  for (let j: usize = 0, bytes = length << 2; j < bytes; j += 16) {
    const probability = exp4<Fused>(f32x4.sub(v128.load(p + j), lses));
    let dropped = probability;
    let d = v128.load(dp + j);
    if (threshold) {
      if (!(j & 127)) philox(seed, step, site, line, j >> 7);
      const mask = v128.and(keepMask((j >> 4) & 7, thresholds), keep);
      dropped = f32x4.mul(probability, mask);
      d = f32x4.mul(d, mask);
    }
    v128.store(p + j, dropped);
    v128.store(dp + j, f32x4.mul(f32x4.mul(probability, f32x4.sub(d, deltas)), scales));
  }
}

/** Σ a · b over n floats. */
function dot(a: usize, b: usize, n: usize): f32 {
  let sum = f32x4.splat(0);
  for (let j: usize = 0, bytes = n << 2; j < bytes; j += 16)
    sum = fma(v128.load(a + j), v128.load(b + j), sum);
  return sumLanes(sum);
}

/** Overwrites dqkv, and dQueries if queries are given. Blocks of rows add to dK and dV in order, all by the rank that owns the sequence and head. */
export function attentionBackward(
  dQueries: usize,
  dqkv: usize,
  dContext: usize,
  queries: usize,
  qkv: usize,
  context: usize,
  logSumExp: usize,
  offsets: usize,
  sequences: usize,
  maxLength: usize,
  heads: usize,
  headDim: usize,
  rate: f32,
  seed: usize,
  step: usize,
  site: usize,
  scratch: usize,
): void {
  assert((headDim & 3) == 0, "headDim must be a multiple of 4");
  const hidden = heads * headDim;
  const stride = hidden << 2;
  const kvStride = queries ? stride * 2 : stride * 3;
  const qStride = queries ? stride : kvStride;
  const askers = queries ? sequences : <usize>load<u32>(offsets + (sequences << 2));
  const scale = <f32>1 / sqrt<f32>(<f32>headDim);
  const threshold = dropThreshold(rate);

  const columnsK = scratch + rankOf() * backwardScratch(maxLength, headDim);
  const columnsV = columnsK + packedBytes(headDim, maxLength);
  const rowsK = columnsV + packedBytes(headDim, maxLength);
  const rowsQ = rowsK + packedBytes(maxLength, headDim);
  const rowsDO = rowsQ + packedBytes(ROWS, headDim);
  const p = rowsDO + packedBytes(ROWS, headDim);
  const dp = p + ROWS * scoreStride(maxLength);
  const own = dp + ROWS * scoreStride(maxLength);

  for (let item = begin(heads * sequences), last = end(heads * sequences); item < last; item++) {
    const head = item / sequences;
    const sequence = item % sequences;
    const start = <usize>load<u32>(offsets + (sequence << 2));
    const length = <usize>load<u32>(offsets + (sequence << 2), 4) - start;
    assert(length <= maxLength, "a sequence is longer than maxLength");
    assert(!queries || length > 0, "a sequence without a first token");
    const asking: usize = queries ? 1 : length;
    const asker = queries ? sequence : start; // its row in O
    const column = (head * headDim) << 2;
    const value = (start + 1) * kvStride - stride + column;
    const v = qkv + value;
    const k = v - stride;
    const q = queries ? queries + asker * stride + column : k - stride;
    const dv = dqkv + value;
    const dk = dv - stride;
    const dq = queries ? dQueries + asker * stride + column : dk - stride;
    const rowStride = scoreStride(length);

    packAlone(columnsK, k, kvStride, headDim, length, true);
    scaleRow(columnsK, packedBytes(headDim, length), scale);
    packAlone(columnsV, v, kvStride, headDim, length, true);
    packAlone(rowsK, k, kvStride, length, headDim, false);
    for (let i: usize = 0; i < asking; i += ROWS) {
      const rows = min(ROWS, asking - i);
      const qi = q + i * qStride;
      const dO = dContext + (asker + i) * stride + column;
      const o = context + (asker + i) * stride + column;
      multiplyAlone<Fused>(
        p,
        rowStride,
        qi,
        qStride,
        false,
        columnsK,
        rows,
        headDim,
        length,
        false,
        own,
      );
      multiplyAlone<Fused>(
        dp,
        rowStride,
        dO,
        stride,
        false,
        columnsV,
        rows,
        headDim,
        length,
        false,
        own,
      );
      for (let row: usize = 0; row < rows; row++) {
        const r = i + row;
        backwardRow(
          p + row * rowStride,
          dp + row * rowStride,
          length,
          scale,
          load<f32>(logSumExp + ((head * askers + asker + r) << 2)),
          dot(dO + row * stride, o + row * stride, headDim),
          threshold,
          seed,
          step,
          site,
          (originRow() + start + r) * heads + head,
        );
      }
      packAlone(rowsQ, qi, qStride, rows, headDim, false);
      packAlone(rowsDO, dO, stride, rows, headDim, false);
      multiplyAlone<Fused>(
        dq + i * qStride,
        qStride,
        dp,
        rowStride,
        false,
        rowsK,
        rows,
        length,
        headDim,
        false,
        own,
      );
      multiplyAlone<Fused>(
        dk,
        kvStride,
        dp,
        rowStride,
        true,
        rowsQ,
        length,
        rows,
        headDim,
        i > 0,
        own,
      );
      multiplyAlone<Fused>(
        dv,
        kvStride,
        p,
        rowStride,
        true,
        rowsDO,
        length,
        rows,
        headDim,
        i > 0,
        own,
      );
    }
  }
  barrier();
}
