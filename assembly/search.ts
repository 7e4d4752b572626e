/**
 * Exhaustive search: a score of a query against every row, in three number formats. The score is the inner product, which
 * is the cosine where both are unit vectors; of signs it is the cosine of the vectors ±1 that they stand for.
 *
 *   innerProducts       scores[i] = vectors[i] · query
 *   innerProductsInt8   scores[i] = scales[i] · (codes[i] · q) · s,     query ≈ s · q,  s = max |query| / 8191
 *   signAgreements      scores[i] = 1 - 2 · |bits[i] xor query| / cols
 *
 *   selectScores        which of the scores are large enough
 *   hopefulInt8         which of the scores of int8 rows may be, in less time than the scores take
 *   sumCodes            what it needs of the rows: sums[i] = Σ codes[i]
 *
 *   scores, sums [rows]    found [1 + rows] int32
 *   vectors [rows, cols] f32     query [cols] f32    cols % 4 == 0
 *   codes [rows, cols] i8        query [cols] f32    cols % 16 == 0, cols <= 8192    scales [rows]
 *   bits [rows, cols] bits       query [cols] bits   rows begin at multiples of 16 bytes and are zero behind cols
 *   scratch of innerProductsInt8: q [cols] i16; of hopefulInt8 also h [cols] u8 and ones [8] i16
 *
 * Sums of int8 and of signs are exact, so their scores have the same bits on every target.
 */
import { dotPairs, fma, FUSED, maxLanes, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

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

/** Writes this rank's share of a query [cols] in 14 bits; returns the scale of all. */
function quantizeQuery(q: usize, query: usize, cols: usize): f32 {
  assert((cols & 15) == 0 && cols <= 8192, "cols must be a multiple of 16, at most 8192");
  let high = f32x4.splat(0);
  for (let j: usize = 0, bytes = cols << 2; j < bytes; j += 16)
    high = f32x4.pmax(high, f32x4.abs(v128.load(query + j)));
  const largest = maxLanes(high);
  const inverse = f32x4.splat(largest > 0 ? QUERY_LIMIT / largest : 0);
  for (let quad = begin(cols >> 2), last = end(cols >> 2); quad < last; quad++) {
    const code = f32x4.nearest(f32x4.mul(v128.load(query + (quad << 4)), inverse));
    const ints = i32x4.trunc_sat_f32x4_s(code);
    v128.store64_lane(q + (quad << 3), i16x8.narrow_i32x4_s(ints, ints), 0);
  }
  return largest / QUERY_LIMIT;
}

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
  const scale = quantizeQuery(scratch, query, cols);
  barrier();

  const last = end(rows);
  let row = begin(rows);
  // Two rows share what is loaded of the query, as loads are the limit.
  for (; row + 2 <= last; row += 2) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let b0 = a0;
    let b1 = a0;
    let a = codes + row * cols;
    let b = a + cols;
    let j: usize = 0;
    for (; j + 32 <= cols; j += 32, a += 32, b += 32) {
      const q = scratch + (j << 1);
      let k = v128.load(q);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.load8x8_s(a), k));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.load8x8_s(b), k));
      k = v128.load(q, 16);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v128.load8x8_s(a, 8), k));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(v128.load8x8_s(b, 8), k));
      k = v128.load(q, 32);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.load8x8_s(a, 16), k));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.load8x8_s(b, 16), k));
      k = v128.load(q, 48);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v128.load8x8_s(a, 24), k));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(v128.load8x8_s(b, 24), k));
    }
    if (j < cols) {
      a0 = addProducts(a0, a, scratch + (j << 1));
      b0 = addProducts(b0, b, scratch + (j << 1));
    }
    const at = row << 2;
    store<f32>(scores + at, load<f32>(scales + at) * scale * sumInts(i32x4.add(a0, a1)));
    store<f32>(scores + at, load<f32>(scales + at, 4) * scale * sumInts(i32x4.add(b0, b1)), 4);
  }
  if (row < last) {
    let sum = i32x4.splat(0);
    for (let j: usize = 0; j < cols; j += 16)
      sum = addProducts(sum, codes + row * cols + j, scratch + (j << 1));
    store<f32>(scores + (row << 2), load<f32>(scales + (row << 2)) * scale * sumInts(sum));
  }
  barrier();
}

/** Adds the products of 16 codes with a query of 16 bits. Widened as they are loaded: a whole vector takes two instructions more. */
function addProducts(sum: v128, codes: usize, query: usize): v128 {
  const low = i32x4.dot_i16x8_s(v128.load8x8_s(codes), v128.load(query));
  const high = i32x4.dot_i16x8_s(v128.load8x8_s(codes, 8), v128.load(query, 16));
  return i32x4.add(i32x4.add(sum, low), high);
}

/** Computes the sums of the codes of rows, [rows]. */
export function sumCodes(sums: usize, codes: usize, rows: usize, cols: usize): void {
  assert((cols & 15) == 0 && cols <= 8192, "cols must be a multiple of 16, at most 8192");
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    let sum = i32x4.splat(0);
    for (let j: usize = 0; j < cols; j += 16) {
      const pairs = i16x8.extadd_pairwise_i8x16_s(v128.load(codes + row * cols + j));
      sum = i32x4.add(sum, i32x4.extadd_pairwise_i16x8_s(pairs));
    }
    store<f32>(sums + (row << 2), sumInts(sum));
  }
  barrier();
}

/**
 * Writes the numbers of the rows whose score by `innerProductsInt8` may be `least` or more, in order, behind how many there are: in
 * less time than the scores, and with few rows too many. The query of 14 bits is q = 128 (h - 64) + 64 + e with h in 7 bits,
 * for which there is a product of bytes, and |e| <= 64:
 *
 *   c · q = 128 (c · h) - 8128 Σ c + c · e        |c · e| <= ‖c‖ ‖e‖ <= 128 √cols ‖e‖
 *
 * A target without that product names all rows.
 */
export function hopefulInt8(
  found: usize,
  codes: usize,
  scales: usize,
  sums: usize,
  query: usize,
  rows: usize,
  cols: usize,
  least: f32,
  scratch: usize,
): void {
  const scale = quantizeQuery(scratch, query, cols);
  barrier();
  if (rankOf() == 0) {
    const high = scratch + (cols << 1);
    let squares = i32x4.splat(0); // of e
    for (let j: usize = 0; j < cols; j += 8) {
      const shifted = i16x8.add(v128.load(scratch + (j << 1)), i16x8.splat(8192));
      const e = i16x8.sub(v128.and(shifted, i16x8.splat(127)), i16x8.splat(64));
      squares = i32x4.add(squares, i32x4.dot_i16x8_s(e, e));
      const h = i16x8.shr_u(shifted, 7);
      v128.store64_lane(high + j, i8x16.narrow_i16x8_u(h, h), 0);
    }
    // The last term is more than f32 rounds away of sums below 2²⁰ cols.
    const slack: f32 = 128 * Mathf.sqrt(<f32>cols * sumInts(squares)) + 2 * <f32>cols;
    // Read from memory, they stay in a register: V8 makes a constant anew for each product.
    v128.store(high + cols, i16x8.splat(1));
    const ones = v128.load(high + cols);
    let next = found + 4;
    let row = codes;
    for (let i: usize = 0; i < rows; i++, row += cols) {
      let s0 = i32x4.splat(0);
      let s1 = s0;
      let j: usize = 0;
      for (; j + 64 <= cols; j += 64) {
        s0 = addHigh(s0, v128.load(row + j), v128.load(high + j), ones);
        s1 = addHigh(s1, v128.load(row + j, 16), v128.load(high + j, 16), ones);
        s0 = addHigh(s0, v128.load(row + j, 32), v128.load(high + j, 32), ones);
        s1 = addHigh(s1, v128.load(row + j, 48), v128.load(high + j, 48), ones);
      }
      for (; j < cols; j += 16) s0 = addHigh(s0, v128.load(row + j), v128.load(high + j), ones);
      const products: f32 = <f32>128 * sumInts(i32x4.add(s0, s1));
      const middle = products - <f32>8128 * load<f32>(sums + (i << 2));
      const rowScale = load<f32>(scales + (i << 2));
      if (!FUSED || scale * (rowScale * middle + abs(rowScale) * slack) >= least) {
        store<u32>(next, <u32>i);
        next += 4;
      }
    }
    store<u32>(found, <u32>((next - found) >> 2) - 1);
  }
  barrier();
}

/** Adds the products of 16 codes with as many numbers of 7 bits. */
function addHigh(sum: v128, codes: v128, high: v128, ones: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(dotPairs(codes, high), ones));
}

/** Number of bits in which 16 bytes differ from the words `low` and `high`; x64 counts those of a word in one instruction, and those of a vector in eight. */
function differences(bits: usize, low: i64, high: i64): i64 {
  return popcnt<i64>(load<i64>(bits) ^ low) + popcnt<i64>(load<i64>(bits, 8) ^ high);
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
  const step = f32x4.splat(<f32>2 / <f32>cols);
  const one = f32x4.splat(1);
  const last = end(rows);
  let row = begin(rows);
  // Four rows share what is loaded of the query, and the instructions that make a score of a count.
  for (; row + 4 <= last; row += 4) {
    const first = bits + row * stride;
    const second = first + stride;
    const third = second + stride;
    const fourth = third + stride;
    let a: i64 = 0;
    let b: i64 = 0;
    let c: i64 = 0;
    let d: i64 = 0;
    for (let j: usize = 0; j < stride; j += 16) {
      const low = load<i64>(query + j);
      const high = load<i64>(query + j, 8);
      a += differences(first + j, low, high);
      b += differences(second + j, low, high);
      c += differences(third + j, low, high);
      d += differences(fourth + j, low, high);
    }
    const counts = i32x4.replace_lane(
      i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(<i32>a), 1, <i32>b), 2, <i32>c),
      3,
      <i32>d,
    );
    const score = f32x4.sub(one, f32x4.mul(step, f32x4.convert_i32x4_s(counts)));
    v128.store(scores + (row << 2), score);
  }
  for (; row < last; row++) {
    let count: i64 = 0;
    for (let j: usize = 0; j < stride; j += 16)
      count += differences(bits + row * stride + j, load<i64>(query + j), load<i64>(query + j, 8));
    store<f32>(scores + (row << 2), 1 - f32x4.extract_lane(step, 0) * <f32>(<i32>count));
  }
  barrier();
}

/**
 * Writes the numbers of the rows whose score is at least `least`, in order, behind how many there are. In a long scan nearly none
 * is, and one test turns sixteen away.
 */
export function selectScores(found: usize, scores: usize, rows: usize, least: f32): void {
  if (rankOf() == 0) {
    const bar = f32x4.splat(least);
    let next = found + 4;
    for (let row: usize = 0; row < rows; row += 16) {
      const at = scores + (row << 2);
      if (row + 16 <= rows) {
        const low = v128.or(f32x4.ge(v128.load(at), bar), f32x4.ge(v128.load(at, 16), bar));
        const high = v128.or(f32x4.ge(v128.load(at, 32), bar), f32x4.ge(v128.load(at, 48), bar));
        if (!v128.any_true(v128.or(low, high))) continue;
      }
      for (let i = row, last = min(row + 16, rows); i < last; i++) {
        if (!(load<f32>(scores + (i << 2)) >= least)) continue;
        store<u32>(next, <u32>i);
        next += 4;
      }
    }
    store<u32>(found, <u32>((next - found) >> 2) - 1);
  }
  barrier();
}

/** Sum of the four lanes of integers, which need not fit 32 bits. */
function sumInts(a: v128): f32 {
  const pairs = i64x2.add(i64x2.extend_low_i32x4_s(a), i64x2.extend_high_i32x4_s(a));
  return <f32>(i64x2.extract_lane(pairs, 0) + i64x2.extract_lane(pairs, 1));
}
