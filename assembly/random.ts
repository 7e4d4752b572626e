/**
 * Counter-based random bits: Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, https://doi.org/10.1145/2063384.2063405).
 *
 * The bits of a dropout mask are a function of (seed, step, site, row, column) and of nothing else: not of the team, the
 * batch or the order of evaluation. So the backward pass replays them instead of keeping a mask, and a resumed run
 * continues with the same ones.
 *
 * Where a batch is encoded in chunks, a row counts from the beginning of the batch: the chunks then have the bits of the whole.
 *
 * Element j of a row has 16 bits. The upper eight are byte j mod 16 of the words of counter (⌊j / 16⌋, row, site, step); the lower
 * eight are the same byte of that counter with its top bit set, which is drawn only where the upper ones leave the matter open: for
 * one element in 256. So a counter serves 16 elements, and four of them run in the four lanes of a vector.
 */
import { lookup } from "./simd";

// In memory, as splat constants inside a loop would be rebuilt at every turn.
const PHILOX = memory.data<i32>([0xd2511f53, 0xcd9e8d57, 0x9e3779b9, 0xbb67ae85]);
const SPREAD = memory.data<u8>([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);

const LOWER: i32 = i32.MIN_VALUE; // the bit of a counter of lower bits

// Globals belong to an instance, that is to one rank, and V8 keeps them out of linear memory.
let word0: v128 = i32x4(0, 0, 0, 0);
let word1: v128 = i32x4(0, 0, 0, 0);
let word2: v128 = i32x4(0, 0, 0, 0);
let word3: v128 = i32x4(0, 0, 0, 0);

let origin: usize = 0;

/** Which row of a batch the next calls have as their first. */
export function dropoutOrigin(row: usize): void {
  origin = row;
}

/** That row, for sites whose rows are not tokens. */
export function originRow(): usize {
  return origin;
}

function mulHigh(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 1, 3, 5, 7);
}

function mulLow(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 0, 2, 4, 6);
}

/** The words of the counters (c0, c1, site, step), one in each lane. */
function philox(c0: v128, c1: v128, seed: usize, step: usize, site: usize): void {
  let k0 = i32x4.splat(<i32>seed);
  let k1 = i32x4.splat(0);
  let c2 = i32x4.splat(<i32>site);
  let c3 = i32x4.splat(<i32>step);
  for (let round = 0; round < 10; round++) {
    const m0 = v128.load32_splat(PHILOX);
    const m1 = v128.load32_splat(PHILOX, 4);
    const low0 = i64x2.extmul_low_i32x4_u(c0, m0);
    const high0 = i64x2.extmul_high_i32x4_u(c0, m0);
    const low1 = i64x2.extmul_low_i32x4_u(c2, m1);
    const high1 = i64x2.extmul_high_i32x4_u(c2, m1);
    c0 = v128.xor(v128.xor(mulHigh(low1, high1), c1), k0);
    c1 = mulLow(low1, high1);
    c2 = v128.xor(v128.xor(mulHigh(low0, high0), c3), k1);
    c3 = mulLow(low0, high0);
    k0 = i32x4.add(k0, v128.load32_splat(PHILOX, 8));
    k1 = i32x4.add(k1, v128.load32_splat(PHILOX, 12));
  }
  word0 = c0;
  word1 = c1;
  word2 = c2;
  word3 = c3;
}

/**
 * Writes a byte for each element of `rows` rows: all ones where dropout keeps it, zeros where it drops it. A row has `blocks` times
 * 16 of them, and the line by which it draws is `lineStep` more than that of the row before. Up to 48 bytes behind the last row are
 * overwritten. The threshold is that of a rate above 0.
 */
export function keepRows(
  keep: usize,
  rows: usize,
  blocks: usize,
  line: usize,
  lineStep: usize,
  threshold: i32,
  seed: usize,
  step: usize,
  site: usize,
): void {
  const last = keep + ((rows * blocks) << 4);
  if (threshold > 0xffff) {
    memory.fill(keep, 0, last - keep);
    return;
  }
  const upper = i8x16.splat(<i8>(threshold >> 8));
  const lower = i8x16.splat(<i8>threshold);
  // Four counters of consecutive blocks, which may be those of several rows.
  const n = <i32>blocks;
  const width = i32x4.splat(n);
  const lineSteps = i32x4.splat(<i32>lineStep);
  const further = i32x4.splat(4 % n);
  const jump = i32x4.mul(i32x4.splat(4 / n), lineSteps);
  let c0 = i32x4(0, 1 % n, 2 % n, 3 % n);
  let c1 = i32x4.mul(i32x4(0, 1 / n, 2 / n, 3 / n), lineSteps);
  c1 = i32x4.add(i32x4.splat(<i32>line), c1);
  for (; keep < last; keep += 64) {
    philox(c0, c1, seed, step, site);
    let k0 = i8x16.gt_u(word0, upper);
    let k1 = i8x16.gt_u(word1, upper);
    let k2 = i8x16.gt_u(word2, upper);
    let k3 = i8x16.gt_u(word3, upper);
    const open0 = i8x16.eq(word0, upper);
    const open1 = i8x16.eq(word1, upper);
    const open2 = i8x16.eq(word2, upper);
    const open3 = i8x16.eq(word3, upper);
    if (v128.any_true(v128.or(v128.or(open0, open1), v128.or(open2, open3)))) {
      philox(v128.or(c0, i32x4.splat(LOWER)), c1, seed, step, site);
      k0 = v128.or(k0, v128.and(open0, i8x16.ge_u(word0, lower)));
      k1 = v128.or(k1, v128.and(open1, i8x16.ge_u(word1, lower)));
      k2 = v128.or(k2, v128.and(open2, i8x16.ge_u(word2, lower)));
      k3 = v128.or(k3, v128.and(open3, i8x16.ge_u(word3, lower)));
    }
    // Lane l of the four words are the 16 bytes of counter l.
    const low01 = v128.shuffle<i32>(k0, k1, 0, 4, 1, 5);
    const low23 = v128.shuffle<i32>(k2, k3, 0, 4, 1, 5);
    const high01 = v128.shuffle<i32>(k0, k1, 2, 6, 3, 7);
    const high23 = v128.shuffle<i32>(k2, k3, 2, 6, 3, 7);
    v128.store(keep, v128.shuffle<i64>(low01, low23, 0, 2));
    v128.store(keep, v128.shuffle<i64>(low01, low23, 1, 3), 16);
    v128.store(keep, v128.shuffle<i64>(high01, high23, 0, 2), 32);
    v128.store(keep, v128.shuffle<i64>(high01, high23, 1, 3), 48);

    c0 = i32x4.add(c0, further);
    c1 = i32x4.add(c1, jump);
    const past = i32x4.ge_s(c0, width);
    c0 = i32x4.sub(c0, v128.and(past, width));
    c1 = i32x4.add(c1, v128.and(past, lineSteps));
  }
}

/** The mask of four elements from the bytes at `keep`: all ones in the lanes of those that dropout keeps. */
export function keepMask(keep: usize): v128 {
  return lookup(v128.load32_splat(keep), v128.load(SPREAD));
}

/** Dropout at `rate` drops an element whose 16 bits are below this. */
export function dropThreshold(rate: f32): i32 {
  return <i32>nearest<f32>(rate * 65536);
}

/** What a kept element is multiplied by, so that its expectation stays. */
export function keepScale(threshold: i32): f32 {
  return <f32>65536 / <f32>(<i32>65536 - threshold);
}
