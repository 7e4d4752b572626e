/**
 * Exhaustive search: a score of a query against every row, in three number formats. The score is the inner product, which
 * is the cosine where both are unit vectors; of signs it is the cosine of the vectors ±1 that they stand for.
 *
 *   innerProducts       scores[i] = vectors[i] · query
 *   innerProductsInt8   scores[i] = scales[i] · (codes[i] · q) · s,     query ≈ s · q,  s = max |query| / 8191
 *   signAgreements      scores[i] = 1 - 2 · |bits[i] xor query| / cols
 *
 *   scores [rows]
 *   vectors [rows, cols] f32     query [cols] f32    cols % 4 == 0
 *   codes [rows, cols] i8        query [cols] f32    cols % 16 == 0, cols <= 8192    scales [rows]
 *   bits [rows, cols] bits       query [cols] bits   rows begin at multiples of 16 bytes and are zero behind cols
 *   scratch of innerProductsInt8: q [cols] i16
 *
 * Sums of int8 and of signs are exact, so their scores have the same bits on every target.
 */
import { fma, maxLanes, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

/** Computes scores of f32 rows, one after the other: memory is fastest as one stream. */
export function innerProducts(
  scores: usize,
  vectors: usize,
  query: usize,
  rows: usize,
  cols: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const vector = vectors + row * stride;
    let s0 = f32x4.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let j: usize = 0;
    for (; j + 64 <= stride; j += 64) {
      s0 = fma(v128.load(vector + j), v128.load(query + j), s0);
      s1 = fma(v128.load(vector + j, 16), v128.load(query + j, 16), s1);
      s2 = fma(v128.load(vector + j, 32), v128.load(query + j, 32), s2);
      s3 = fma(v128.load(vector + j, 48), v128.load(query + j, 48), s3);
    }
    for (; j < stride; j += 16) s0 = fma(v128.load(vector + j), v128.load(query + j), s0);
    store<f32>(scores + (row << 2), sumLanes(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3))));
  }
  barrier();
}

/** Largest code of a query: 8192 products with codes of 127, a quarter of them in a lane, still fit 32 bits. */
const QUERY_LIMIT: f32 = 8191;

/** Computes scores of int8 rows; the query keeps 14 bits, so that its own rounding does not show. */
export function innerProductsInt8(
  scores: usize,
  codes: usize,
  scales: usize,
  query: usize,
  rows: usize,
  cols: usize,
  scratch: usize,
): void {
  assert((cols & 15) == 0 && cols <= 8192, "cols must be a multiple of 16, at most 8192");
  let high = f32x4.splat(0);
  for (let j: usize = 0, bytes = cols << 2; j < bytes; j += 16)
    high = f32x4.pmax(high, f32x4.abs(v128.load(query + j)));
  const largest = maxLanes(high);
  const inverse = f32x4.splat(largest > 0 ? QUERY_LIMIT / largest : 0);
  for (let quad = begin(cols >> 2), last = end(cols >> 2); quad < last; quad++) {
    const code = f32x4.nearest(f32x4.mul(v128.load(query + (quad << 4)), inverse));
    const ints = i32x4.trunc_sat_f32x4_s(code);
    v128.store64_lane(scratch + (quad << 3), i16x8.narrow_i32x4_s(ints, ints), 0);
  }
  barrier();

  const scale = largest / QUERY_LIMIT;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const vector = codes + row * cols;
    let even = i32x4.splat(0);
    let odd = even;
    for (let j: usize = 0; j < cols; j += 16) {
      const q = scratch + (j << 1);
      // Widened as they are loaded: what is loaded as a whole takes two instructions more to widen.
      const low = i32x4.dot_i16x8_s(v128.load8x8_s(vector + j), v128.load(q));
      const top = i32x4.dot_i16x8_s(v128.load8x8_s(vector + j, 8), v128.load(q, 16));
      even = i32x4.add(even, low);
      odd = i32x4.add(odd, top);
    }
    const sum = <f32>sumInts(i32x4.add(even, odd));
    store<f32>(scores + (row << 2), load<f32>(scales + (row << 2)) * scale * sum);
  }
  barrier();
}

/** Vectors of bits whose counts, eight at most in a byte each, add up to less than 256. */
const COUNTED: usize = 31 << 4;

/** Number of bits in which a row differs from the query, in four parts. */
function differences(vector: usize, query: usize, stride: usize): v128 {
  const ones = i16x8.splat(1);
  let total = i32x4.splat(0);
  for (let j: usize = 0; j < stride;) {
    let counts = i8x16.splat(0);
    for (const stop = min(j + COUNTED, stride); j < stop; j += 16) {
      const different = v128.xor(v128.load(vector + j), v128.load(query + j));
      counts = i8x16.add(counts, i8x16.popcnt(different));
    }
    total = i32x4.add(total, i32x4.dot_i16x8_s(i16x8.extadd_pairwise_i8x16_u(counts), ones));
  }
  return total;
}

/** Computes scores of sign bits; the sums of four rows are added side by side. */
export function signAgreements(
  scores: usize,
  bits: usize,
  query: usize,
  rows: usize,
  cols: usize,
): void {
  const stride = ((cols + 127) >> 7) << 4;
  const step = f32x4.splat(<f32>2 / <f32>cols);
  const one = f32x4.splat(1);
  let row = begin(rows);
  for (const last = end(rows); row < last; row += 4) {
    const left = last - row;
    const v = bits + row * stride;
    const d0 = differences(v, query, stride);
    const d1 = differences(left > 1 ? v + stride : v, query, stride);
    const d2 = differences(left > 2 ? v + stride * 2 : v, query, stride);
    const d3 = differences(left > 3 ? v + stride * 3 : v, query, stride);
    const low = i32x4.add(
      v128.shuffle<i32>(d0, d1, 0, 4, 1, 5),
      v128.shuffle<i32>(d0, d1, 2, 6, 3, 7),
    );
    const high = i32x4.add(
      v128.shuffle<i32>(d2, d3, 0, 4, 1, 5),
      v128.shuffle<i32>(d2, d3, 2, 6, 3, 7),
    );
    const sums = i32x4.add(v128.shuffle<i64>(low, high, 0, 2), v128.shuffle<i64>(low, high, 1, 3));
    const score = f32x4.sub(one, f32x4.mul(step, f32x4.convert_i32x4_s(sums)));
    const to = scores + (row << 2);
    if (left > 3) v128.store(to, score);
    else storeFirst(to, score, left);
  }
  barrier();
}

/** The first of four floats, one to three of them. */
function storeFirst(address: usize, v: v128, count: usize): void {
  store<f32>(address, f32x4.extract_lane(v, 0));
  if (count > 1) store<f32>(address, f32x4.extract_lane(v, 1), 4);
  if (count > 2) store<f32>(address, f32x4.extract_lane(v, 2), 8);
}

/** Sum of the four lanes of integers, which need not fit 32 bits. */
function sumInts(a: v128): i64 {
  return (
    <i64>i32x4.extract_lane(a, 0) +
    <i64>i32x4.extract_lane(a, 1) +
    <i64>i32x4.extract_lane(a, 2) +
    <i64>i32x4.extract_lane(a, 3)
  );
}
