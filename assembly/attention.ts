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
import { KEPT, dropThreshold, keepRows, keepScale, originRow } from "./random";
import { Exact, Fused, fma, sumLanes } from "./simd";
import { LOG2E, finishSums, scoreStride, softmaxBackwardRow, softmaxRow } from "./softmax";
import { barrier, begin, end, rankOf } from "./team";

const ROWS: usize = 48; // rows of S in memory at a time: no L × L matrix exists

/** Counters of dropout bits that a row of S takes. */
function keepBlocks(length: usize): usize {
  return (length + 15) >> 4;
}

/** Bytes of what `keepRows` writes of ROWS rows, and behind them. */
function keptBytes(length: usize): usize {
  return ROWS * (keepBlocks(length) << 4) + KEPT;
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
          softmaxBackwardRow(
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
