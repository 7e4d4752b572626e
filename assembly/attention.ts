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
import { exp2Row, log4 } from "./math";
import { KEPT, dropThreshold, keepMask, keepRows, keepScale, originRow } from "./random";
import { Exact, Fused, fma, maxLanes, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

const ROWS: usize = 48; // rows of S in memory at a time: no L × L matrix exists
const MASKED: f32 = -1e30;
const LN2: f32 = 0.6931471805599453;
const LOG2E: f32 = 1.4426950408889634; // scores are made in units of ln 2, in which exp is a power of 2

/** Bytes between rows of S: whole vectors. */
function scoreStride(length: usize): usize {
  return ((length + 7) & ~7) << 2;
}

/** Counters of dropout bits that a row of S takes. */
function keepBlocks(length: usize): usize {
  return (length + 15) >> 4;
}

/** Bytes of what `keepRows` writes of ROWS rows, and behind them. */
function keptBytes(length: usize): usize {
  return ROWS * (keepBlocks(length) << 4) + KEPT;
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
function finishSums(sums: usize, logSumExp: usize, rows: usize, scale: f32): void {
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

/** Multiplies whole vectors by a number. */
function scaleRow(row: usize, bytes: usize, scale: f32): void {
  const s = f32x4.splat(scale);
  for (let j: usize = 0; j < bytes; j += 16) v128.store(row + j, f32x4.mul(v128.load(row + j), s));
}

/**
 * Pairs of head and sequence are shared out with heads outermost, pair head · sequences + sequence: with as many heads as ranks, or a multiple, all
 * shares are the same sequences. A rank goes through its share sequence by sequence, so that lines and pages of one serve all heads; this is its first
 * head of a sequence, if the share begins with pair `first`.
 */
function firstHead(first: usize, sequence: usize, sequences: usize): usize {
  return first > sequence ? (first - sequence + sequences - 1) / sequences : 0;
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
  const sums = scores + ROWS * scoreStride(maxLength);
  const kept = sums + ROWS * 4;
  const own = kept + keptBytes(maxLength);

  const first = begin(heads * sequences);
  const last = end(heads * sequences);
  for (let sequence: usize = 0; sequence < sequences; sequence++) {
    const start = <usize>load<u32>(offsets + (sequence << 2));
    const length = <usize>load<u32>(offsets + (sequence << 2), 4) - start;
    assert(length <= maxLength, "a sequence is longer than maxLength");
    assert(!queries || length > 0, "a sequence without a first token");
    const asking: usize = queries ? 1 : length;
    const asker = queries ? sequence : start; // its row in O
    const rowStride = scoreStride(length);
    const blocks = keepBlocks(length);
    for (
      let head = firstHead(first, sequence, sequences);
      head * sequences + sequence < last;
      head++
    ) {
      const column = (head * headDim) << 2;
      const v = qkv + (start + 1) * kvStride - stride + column;
      const k = v - stride;
      const q = queries ? queries + asker * stride + column : k - stride;

      packAlone(packedK, k, kvStride, headDim, length, true);
      scaleRow(packedK, packedBytes(headDim, length), scale * LOG2E);
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
          rowStride >> 2, // all of the row, as tiles are fastest whole
          false,
          own,
        );
        if (threshold) {
          const line = (originRow() + start + i) * heads + head;
          keepRows(kept, rows, blocks, line, heads, threshold, seed, step, site);
        }
        const logs = logSumExp ? logSumExp + ((head * askers + asker + i) << 2) : 0;
        for (let row: usize = 0; row < rows; row++) {
          softmaxRow<Rounding>(
            scores + row * rowStride,
            length,
            sums + (row << 2),
            logs ? logs + (row << 2) : 0,
            threshold ? kept + row * (blocks << 4) : 0,
          );
        }
        finishSums(sums, logs, rows, keepScale(threshold));
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
          scaleRow(o + row * stride, headDim << 2, load<f32>(sums + (row << 2)));
      }
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
    keptBytes(maxLength) +
    RANK_SCRATCH
  );
}
function backwardScratch(maxLength: usize, headDim: usize): usize {
  return (
    packedBytes(headDim, maxLength) * 2 +
    packedBytes(maxLength, headDim) +
    packedBytes(ROWS, headDim) * 2 +
    ROWS * scoreStride(maxLength) * 2 +
    keptBytes(maxLength) +
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

/**
 * P ∘ M from S · log₂ e at `p`, and dS / √headDim from dP = dO · Vᵀ at `dp`, for one row, in their places. `kept` are the bytes of M
 * if there is dropout, `keep` is what it multiplies by, `delta` is D.
 */
function backwardRow(
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
  const kept = dp + ROWS * scoreStride(maxLength);
  const own = kept + keptBytes(maxLength);

  const first = begin(heads * sequences);
  const last = end(heads * sequences);
  for (let sequence: usize = 0; sequence < sequences; sequence++) {
    const start = <usize>load<u32>(offsets + (sequence << 2));
    const length = <usize>load<u32>(offsets + (sequence << 2), 4) - start;
    assert(length <= maxLength, "a sequence is longer than maxLength");
    assert(!queries || length > 0, "a sequence without a first token");
    const asking: usize = queries ? 1 : length;
    const asker = queries ? sequence : start; // its row in O
    const rowStride = scoreStride(length);
    const blocks = keepBlocks(length);
    for (
      let head = firstHead(first, sequence, sequences);
      head * sequences + sequence < last;
      head++
    ) {
      const column = (head * headDim) << 2;
      const value = (start + 1) * kvStride - stride + column;
      const v = qkv + value;
      const k = v - stride;
      const q = queries ? queries + asker * stride + column : k - stride;
      const dv = dqkv + value;
      const dk = dv - stride;
      const dq = queries ? dQueries + asker * stride + column : dk - stride;

      packAlone(columnsK, k, kvStride, headDim, length, true);
      scaleRow(columnsK, packedBytes(headDim, length), scale * LOG2E);
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
          rowStride >> 2,
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
          rowStride >> 2,
          false,
          own,
        );
        if (threshold) {
          const line = (originRow() + start + i) * heads + head;
          keepRows(kept, rows, blocks, line, heads, threshold, seed, step, site);
        }
        for (let row: usize = 0; row < rows; row++) {
          backwardRow(
            p + row * rowStride,
            dp + row * rowStride,
            length,
            scale,
            load<f32>(logSumExp + ((head * askers + asker + i + row) << 2)),
            dot(dO + row * stride, o + row * stride, headDim),
            threshold ? kept + row * (blocks << 4) : 0,
            keepScale(threshold),
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
  }
  barrier();
}
