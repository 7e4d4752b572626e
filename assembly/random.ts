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
// prettier-ignore
const SPREAD = memory.data<u8>([
  0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
  4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7,
  8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 11,
  12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15,
]);

const LOWER: i32 = i32.MIN_VALUE; // the bit of a counter of lower bits
export const KEPT: usize = 128; // bytes of eight counters

let origin: usize = 0;

/** Which row of a batch the next calls have as their first. */
export function dropoutOrigin(row: usize): void {
  origin = row;
}

/** That row, for sites whose rows are not tokens. */
export function originRow(): usize {
  return origin;
}

/** The high halves of products; the low ones are multiplied again, which leaves more room for shuffles. */
function mulHigh(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 1, 3, 5, 7);
}

/** Lane l of four words are the 16 bytes of counter l. */
function storeBytes(to: usize, w0: v128, w1: v128, w2: v128, w3: v128): void {
  const low01 = v128.shuffle<i32>(w0, w1, 0, 4, 1, 5);
  const low23 = v128.shuffle<i32>(w2, w3, 0, 4, 1, 5);
  const high01 = v128.shuffle<i32>(w0, w1, 2, 6, 3, 7);
  const high23 = v128.shuffle<i32>(w2, w3, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(low01, low23, 0, 2));
  v128.store(to, v128.shuffle<i64>(low01, low23, 1, 3), 16);
  v128.store(to, v128.shuffle<i64>(high01, high23, 0, 2), 32);
  v128.store(to, v128.shuffle<i64>(high01, high23, 1, 3), 48);
}

/**
 * Writes the 128 bytes of eight counters (a0 or b0, a1 or b1, site, step), the four of `a` first. Two chains side by side, as each waits
 * for its multiplications.
 */
function philox(
  to: usize,
  a0: v128,
  a1: v128,
  b0: v128,
  b1: v128,
  seed: usize,
  step: usize,
  site: usize,
): void {
  let k0 = i32x4.splat(<i32>seed);
  let k1 = i32x4.splat(0);
  let a2 = i32x4.splat(<i32>site);
  let a3 = i32x4.splat(<i32>step);
  let b2 = a2;
  let b3 = a3;
  for (let round = 0; round < 10; round++) {
    const m0 = v128.load32_splat(PHILOX);
    const m1 = v128.load32_splat(PHILOX + 4);
    let product = i32x4.mul(a0, m0);
    let low0 = i64x2.extmul_low_i32x4_u(a0, m0);
    let high0 = i64x2.extmul_high_i32x4_u(a0, m0);
    let low1 = i64x2.extmul_low_i32x4_u(a2, m1);
    let high1 = i64x2.extmul_high_i32x4_u(a2, m1);
    a0 = v128.xor(v128.xor(mulHigh(low1, high1), a1), k0);
    a1 = i32x4.mul(a2, m1);
    a2 = v128.xor(v128.xor(mulHigh(low0, high0), a3), k1);
    a3 = product;
    product = i32x4.mul(b0, m0);
    low0 = i64x2.extmul_low_i32x4_u(b0, m0);
    high0 = i64x2.extmul_high_i32x4_u(b0, m0);
    low1 = i64x2.extmul_low_i32x4_u(b2, m1);
    high1 = i64x2.extmul_high_i32x4_u(b2, m1);
    b0 = v128.xor(v128.xor(mulHigh(low1, high1), b1), k0);
    b1 = i32x4.mul(b2, m1);
    b2 = v128.xor(v128.xor(mulHigh(low0, high0), b3), k1);
    b3 = product;
    k0 = i32x4.add(k0, v128.load32_splat(PHILOX + 8));
    k1 = i32x4.add(k1, v128.load32_splat(PHILOX + 12));
  }
  storeBytes(to, a0, a1, a2, a3);
  storeBytes(to + 64, b0, b1, b2, b3);
}

/**
 * Writes a byte for each of the 128 elements of eight counters, as `philox` takes them: all ones where dropout keeps it, zeros where it
 * drops it. The 128 bytes behind them are scratch. The threshold is that of a rate above 0.
 */
export function keepBytes(
  keep: usize,
  a0: v128,
  a1: v128,
  b0: v128,
  b1: v128,
  threshold: i32,
  seed: usize,
  step: usize,
  site: usize,
): void {
  if (threshold > 0xffff) {
    memory.fill(keep, 0, KEPT);
    return;
  }
  const upper = i8x16.splat(<i8>(threshold >> 8));
  const lower = i8x16.splat(<i8>threshold);
  philox(keep, a0, a1, b0, b1, seed, step, site);
  let open = i8x16.splat(0);
  for (let i: usize = 0; i < KEPT; i += 16)
    open = v128.or(open, i8x16.eq(v128.load(keep + i), upper));
  if (threshold & 0xff && v128.any_true(open)) {
    const bit = i32x4.splat(LOWER);
    philox(keep + KEPT, v128.or(a0, bit), a1, v128.or(b0, bit), b1, seed, step, site);
  }
  for (let i: usize = 0; i < KEPT; i += 16) {
    const bytes = v128.load(keep + i);
    const isBelow = v128.andnot(
      i8x16.eq(bytes, upper),
      i8x16.ge_u(v128.load(keep + i, 128), lower),
    );
    v128.store(keep + i, v128.andnot(i8x16.ge_u(bytes, upper), isBelow));
  }
}

/**
 * The same for `rows` rows of `blocks` times 16 elements, end to end. The line by which a row draws is `lineStep` more than that of
 * the row before. Up to 240 bytes behind the last row are overwritten.
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
  // Counters of consecutive blocks, which may be those of several rows.
  const n = <i32>blocks;
  const width = i32x4.splat(n);
  const lineSteps = i32x4.splat(<i32>lineStep);
  const further = i32x4.splat(4 % n);
  const jump = i32x4.mul(i32x4.splat(4 / n), lineSteps);
  let a0 = i32x4(0, 1 % n, 2 % n, 3 % n);
  let a1 = i32x4.mul(i32x4(0, 1 / n, 2 / n, 3 / n), lineSteps);
  a1 = i32x4.add(i32x4.splat(<i32>line), a1);
  for (const last = keep + ((rows * blocks) << 4); keep < last; keep += KEPT) {
    let b0 = i32x4.add(a0, further);
    let past = i32x4.ge_s(b0, width);
    b0 = i32x4.sub(b0, v128.and(past, width));
    const b1 = i32x4.add(i32x4.add(a1, jump), v128.and(past, lineSteps));
    keepBytes(keep, a0, a1, b0, b1, threshold, seed, step, site);
    a0 = i32x4.add(b0, further);
    past = i32x4.ge_s(a0, width);
    a0 = i32x4.sub(a0, v128.and(past, width));
    a1 = i32x4.add(i32x4.add(b1, jump), v128.and(past, lineSteps));
  }
}

/** The mask of four elements from the bytes at `keep`: all ones in the lanes of those that dropout keeps. */
export function keepMask(keep: usize): v128 {
  return keepMaskOf(v128.load32_splat(keep), 0);
}

/** The same from the bytes of sixteen elements, of which it takes the i-th four. */
export function keepMaskOf(bytes: v128, i: usize): v128 {
  return lookup(bytes, v128.load(SPREAD + (i << 4)));
}

/** Dropout at `rate` drops an element whose 16 bits are below this. */
export function dropThreshold(rate: f32): i32 {
  return <i32>nearest<f32>(rate * 65536);
}

/** What a kept element is multiplied by, so that its expectation stays. */
export function keepScale(threshold: i32): f32 {
  return <f32>65536 / <f32>(<i32>65536 - threshold);
}
