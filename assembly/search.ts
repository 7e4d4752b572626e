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

/** Computes scores of f32 rows; four at a time share the loads of the query, each with the sums it would have alone. */
export function innerProducts(
  scores: usize,
  vectors: usize,
  query: usize,
  rows: usize,
  cols: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  let row = begin(rows);
  const last = end(rows);
  for (; row + 4 <= last; row += 4) {
    let v0 = vectors + row * stride;
    let v1 = v0 + stride;
    let v2 = v1 + stride;
    let v3 = v2 + stride;
    let s0 = f32x4.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    for (let j: usize = 0; j < stride; j += 16, v0 += 16, v1 += 16, v2 += 16, v3 += 16) {
      const q = v128.load(query + j);
      s0 = fma(v128.load(v0), q, s0);
      s1 = fma(v128.load(v1), q, s1);
      s2 = fma(v128.load(v2), q, s2);
      s3 = fma(v128.load(v3), q, s3);
    }
    const score = scores + (row << 2);
    store<f32>(score, sumLanes(s0));
    store<f32>(score, sumLanes(s1), 4);
    store<f32>(score, sumLanes(s2), 8);
    store<f32>(score, sumLanes(s3), 12);
  }
  for (; row < last; row++) {
    const vector = vectors + row * stride;
    let sum = f32x4.splat(0);
    for (let j: usize = 0; j < stride; j += 16)
      sum = fma(v128.load(vector + j), v128.load(query + j), sum);
    store<f32>(scores + (row << 2), sumLanes(sum));
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
      const c = v128.load(vector + j);
      const q = scratch + (j << 1);
      const low = i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(c), v128.load(q));
      const top = i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(c), v128.load(q, 16));
      even = i32x4.add(even, low);
      odd = i32x4.add(odd, top);
    }
    const sum = <f32>sumInts(i32x4.add(even, odd));
    store<f32>(scores + (row << 2), load<f32>(scales + (row << 2)) * scale * sum);
  }
  barrier();
}

/** Computes scores of sign bits. */
export function signAgreements(
  scores: usize,
  bits: usize,
  query: usize,
  rows: usize,
  cols: usize,
): void {
  const stride = ((cols + 127) >> 7) << 4;
  const step = <f32>2 / <f32>cols;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const vector = bits + row * stride;
    let counts = i16x8.splat(0);
    for (let j: usize = 0; j < stride; j += 16) {
      const different = i8x16.popcnt(v128.xor(v128.load(vector + j), v128.load(query + j)));
      counts = i16x8.add(counts, i16x8.extadd_pairwise_i8x16_u(different));
    }
    const distance = sumInts(i32x4.extadd_pairwise_i16x8_u(counts));
    store<f32>(scores + (row << 2), <f32>1 - step * <f32>distance);
  }
  barrier();
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
