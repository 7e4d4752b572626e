/**
 * Counter-based random bits: Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, https://doi.org/10.1145/2063384.2063405).
 *
 * The bits of a dropout mask are a function of (seed, step, site, row, column) and of nothing else: not of the team, the
 * batch or the order of evaluation. So the backward pass replays them instead of keeping a mask, and a resumed run
 * continues with the same ones.
 *
 * Where a batch is encoded in chunks, a row counts from the beginning of the batch: the chunks then have the bits of the whole.
 *
 * One call fills 32 columns of a row with 16 bits each: element 32 b + 8 w + l is the 16-bit lane l of word w of the
 * four counters (4 b … 4 b + 3, row, site, step), which run in the four lanes of a vector.
 */
const M0: i32 = 0xd2511f53;
const M1: i32 = 0xcd9e8d57;
const W0: i32 = 0x9e3779b9;
const W1: i32 = 0xbb67ae85;

// The last block of bits. Globals belong to an instance, that is to one rank, and V8 keeps them out of linear memory.
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

/** Generates the 32 elements of block `b` of a row; `keepMask` reads them. */
export function philox(seed: usize, step: usize, site: usize, row: usize, b: usize): void {
  const m0 = i32x4.splat(M0);
  const m1 = i32x4.splat(M1);
  let k0 = i32x4.splat(<i32>seed);
  let k1 = i32x4.splat(0);
  let c0 = i32x4.add(i32x4.splat(<i32>(b << 2)), i32x4(0, 1, 2, 3));
  let c1 = i32x4.splat(<i32>row);
  let c2 = i32x4.splat(<i32>site);
  let c3 = i32x4.splat(<i32>step);
  for (let round = 0; round < 10; round++) {
    const low0 = i64x2.extmul_low_i32x4_u(c0, m0);
    const high0 = i64x2.extmul_high_i32x4_u(c0, m0);
    const low1 = i64x2.extmul_low_i32x4_u(c2, m1);
    const high1 = i64x2.extmul_high_i32x4_u(c2, m1);
    c0 = v128.xor(v128.xor(mulHigh(low1, high1), c1), k0);
    c1 = mulLow(low1, high1);
    c2 = v128.xor(v128.xor(mulHigh(low0, high0), c3), k1);
    c3 = mulLow(low0, high0);
    k0 = i32x4.add(k0, i32x4.splat(W0));
    k1 = i32x4.add(k1, i32x4.splat(W1));
  }
  word0 = c0;
  word1 = c1;
  word2 = c2;
  word3 = c3;
}

/** All ones in the lanes of columns 4 quad … 4 quad + 3 (of 32) that dropout keeps, zeros in those it drops. */
export function keepMask(quad: usize, threshold: v128): v128 {
  const pair = quad >> 1;
  const word = pair == 0 ? word0 : pair == 1 ? word1 : pair == 2 ? word2 : word3;
  const bits = quad & 1 ? i32x4.extend_high_i16x8_u(word) : i32x4.extend_low_i16x8_u(word);
  return i32x4.ge_s(bits, threshold);
}

/** Dropout at `rate` drops an element whose 16 bits are below this. */
export function dropThreshold(rate: f32): i32 {
  return <i32>nearest<f32>(rate * 65536);
}

/** What a kept element is multiplied by, so that its expectation stays. */
export function keepScale(threshold: i32): f32 {
  return <f32>65536 / <f32>(<i32>65536 - threshold);
}
