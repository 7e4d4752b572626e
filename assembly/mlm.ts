/**
 * Cross-entropy over a vocabulary, the end of BERT's masked language model (Devlin et al. 2019), with the word table as decoder:
 *
 *   l_iv = x_i · W_v + b_v        loss = mean_i (log Σ_v exp l_iv - l_i,label)
 *   dl_iv = scale · (exp(l_iv - log Σ exp l_i) - [v = label_i]) / rows        dx = dl · W    dW += dlᵀ · x    db += Σ dl over rows
 *
 *   x dx [rows, hidden], masked tokens alone    W dW [vocab, hidden]    b db [vocab]    labels [rows] int32    hidden % 4 == 0
 *   loss [2]: the loss, and the share of rows whose label has the highest logit    logSumExp [rows]
 *   scratch: logits [rows, BLOCK], `packedBytes` of the largest operand, then `RANK_SCRATCH` for each rank
 *
 * The vocabulary passes in blocks, so that no [rows, vocab] matrix exists: forward keeps a running log Σ exp, backward makes the
 * logits of each block again.
 */
import { multiplyTogether } from "./gemm";
import { packedBytes, packTogether } from "./pack";
import { exp4 } from "./math";
import { Fused, maxLanes, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

const BLOCK: usize = 1024; // words of a block; `src/runtime/scratch.ts` knows it too
const NONE: f32 = -1e30; // the logit of no word

/** Logits of words first … first + width - 1; those up to a multiple of four behind them are of no word. */
function blockLogits(
  logits: usize,
  x: usize,
  words: usize,
  bias: usize,
  first: usize,
  width: usize,
  rows: usize,
  hidden: usize,
  packed: usize,
  own: usize,
): void {
  const stride = hidden << 2;
  packTogether(packed, words + first * stride, stride, hidden, width, true);
  multiplyTogether<Fused>(
    logits,
    BLOCK << 2,
    x,
    stride,
    false,
    packed,
    rows,
    hidden,
    width,
    bias + (first << 2),
    false,
    0,
    0,
    0,
    own,
  );
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    for (let j = width; j & 3; j++) store<f32>(logits + ((i * BLOCK + j) << 2), NONE);
  }
}

function scratchOfRanks(packed: usize, rows: usize, hidden: usize): usize {
  const block = max(packedBytes(hidden, BLOCK), packedBytes(BLOCK, hidden));
  return packed + max(block, packedBytes(rows, hidden));
}

/** Computes loss, and log Σ exp for the backward pass. */
export function crossEntropyForward(
  loss: usize,
  logSumExp: usize,
  own: usize,
  tops: usize,
  x: usize,
  words: usize,
  bias: usize,
  labels: usize,
  rows: usize,
  hidden: usize,
  vocab: usize,
  scratch: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const packed = scratch + ((rows * BLOCK) << 2);
  const ranks = scratchOfRanks(packed, rows, hidden);
  const firstRow = begin(rows);
  const lastRow = end(rows);
  for (let i = firstRow; i < lastRow; i++) {
    store<f32>(tops + (i << 2), NONE);
    store<f32>(logSumExp + (i << 2), 0); // Σ exp(l - top) until the last block
  }
  for (let first: usize = 0; first < vocab; first += BLOCK) {
    const width = min(BLOCK, vocab - first);
    blockLogits(scratch, x, words, bias, first, width, rows, hidden, packed, ranks);
    const bytes = width << 2;
    for (let i = firstRow; i < lastRow; i++) {
      const row = scratch + ((i * BLOCK) << 2);
      let high = f32x4.splat(load<f32>(tops + (i << 2)));
      const before = f32x4.extract_lane(high, 0);
      for (let j: usize = 0; j < bytes; j += 16) high = f32x4.pmax(high, v128.load(row + j));
      const top = maxLanes(high);
      const topSplat = f32x4.splat(top);
      let sum = f32x4.splat(0);
      for (let j: usize = 0; j < bytes; j += 16)
        sum = f32x4.add(sum, exp4<Fused>(f32x4.sub(v128.load(row + j), topSplat)));
      const shrink = f32x4.extract_lane(exp4<Fused>(f32x4.splat(before - top)), 0);
      store<f32>(logSumExp + (i << 2), load<f32>(logSumExp + (i << 2)) * shrink + sumLanes(sum));
      store<f32>(tops + (i << 2), top);
      const label = <usize>load<u32>(labels + (i << 2));
      if (label >= first && label < first + width)
        store<f32>(own + (i << 2), load<f32>(row + ((label - first) << 2)));
    }
    barrier(); // before the next block takes the place of this one's logits and panels
  }
  for (let i = firstRow; i < lastRow; i++) {
    const sum = <f64>load<f32>(logSumExp + (i << 2));
    store<f32>(logSumExp + (i << 2), load<f32>(tops + (i << 2)) + <f32>Math.log(sum));
  }
  barrier();
  if (rankOf() == 0) {
    let sum: f64 = 0;
    let correct: f64 = 0;
    for (let i: usize = 0; i < rows << 2; i += 4) {
      sum += <f64>(load<f32>(logSumExp + i) - load<f32>(own + i));
      if (load<f32>(own + i) >= load<f32>(tops + i)) correct += 1;
    }
    const count = <f64>max<usize>(rows, 1);
    store<f32>(loss, <f32>(sum / count));
    store<f32>(loss, <f32>(correct / count), 4);
  }
  barrier();
}

/** Overwrites dx, adds to dWords and dBias. */
export function crossEntropyBackward(
  dx: usize,
  dWords: usize,
  dBias: usize,
  x: usize,
  words: usize,
  bias: usize,
  labels: usize,
  logSumExp: usize,
  rows: usize,
  hidden: usize,
  vocab: usize,
  scale: f32,
  scratch: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  if (rows == 0) return;
  const packed = scratch + ((rows * BLOCK) << 2);
  const ranks = scratchOfRanks(packed, rows, hidden);
  const stride = hidden << 2;
  const weight = scale / <f32>rows;
  const weights = f32x4.splat(weight);
  for (let first: usize = 0; first < vocab; first += BLOCK) {
    const width = min(BLOCK, vocab - first);
    blockLogits(scratch, x, words, bias, first, width, rows, hidden, packed, ranks);
    for (let i = begin(rows), last = end(rows); i < last; i++) {
      const row = scratch + ((i * BLOCK) << 2);
      const lse = v128.load32_splat(logSumExp + (i << 2));
      for (let j: usize = 0; j < width << 2; j += 16)
        v128.store(row + j, f32x4.mul(exp4<Fused>(f32x4.sub(v128.load(row + j), lse)), weights));
      const label = <usize>load<u32>(labels + (i << 2));
      if (label >= first && label < first + width) {
        const at = row + ((label - first) << 2);
        store<f32>(at, load<f32>(at) - weight);
      }
    }
    barrier();
    // Panels of W, then of x, take turns in `packed`: each product ends in a barrier.
    packTogether(packed, words + first * stride, stride, width, hidden, false);
    multiplyTogether<Fused>(
      dx,
      stride,
      scratch,
      BLOCK << 2,
      false,
      packed,
      rows,
      width,
      hidden,
      0,
      first > 0,
      0,
      0,
      0,
      ranks,
    );
    packTogether(packed, x, stride, rows, hidden, false);
    multiplyTogether<Fused>(
      dWords + first * stride,
      stride,
      scratch,
      BLOCK << 2,
      true,
      packed,
      width,
      rows,
      hidden,
      0,
      true,
      0,
      0,
      0,
      ranks,
    );
    for (let j = begin(width), last = end(width); j < last; j++) {
      let sum = load<f32>(dBias + ((first + j) << 2));
      for (let i: usize = 0; i < rows; i++) sum += load<f32>(scratch + ((i * BLOCK + j) << 2));
      store<f32>(dBias + ((first + j) << 2), sum);
    }
    barrier();
  }
}
