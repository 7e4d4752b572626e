/**
 * Rows as int8 codes: symmetric ones of tables, and those of activations, for products with quantised weights
 * (`linear-quantized.ts`).
 *
 *   table         x ≈ c · s,         s = max |x| / 127,        c in -127 … 127        per row, rounded to nearest even
 *   activations   x ≈ min + c · t,   t = (max - min) / 127,    c in 0 … 127           per row
 *
 * The scale of a row depends on that row alone, and no step fuses: a vector has the same bits in every batch and on every
 * target.
 *
 *   x [rows, cols]    table: c [rows, cols], s [rows]    activations: c [rows, cols], then t and min [rows]    cols % 4 == 0
 */
import { geluRows } from "./activation";
import { Exact, maxLanes } from "./simd";
import { barrier, begin, end } from "./team";

const LIMIT: f32 = 127;

/** 1.5 · 2²³: a sum with it has the nearest integer in its low bits, as its exponent leaves no room for less. */
const ROUND: f32 = 12582912;

export function largestMagnitude(x: usize, cols: usize): f32 {
  let high = f32x4.splat(0);
  for (let j: usize = 0, bytes = cols << 2; j < bytes; j += 16)
    high = f32x4.pmax(high, f32x4.abs(v128.load(x + j)));
  return maxLanes(high);
}

/** Codes for each unit of a range; finite also where the range is too small, or nothing. */
export function codesPerUnit(range: f32): f32 {
  return min<f32>(LIMIT / range, f32.MAX_VALUE);
}

/** A table of embeddings: symmetric codes, and a scale a row. */
export function quantizeRowsInt8(
  codes: usize,
  scales: usize,
  x: usize,
  rows: usize,
  cols: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const xi = x + ((row * cols) << 2);
    const high = largestMagnitude(xi, cols);
    const inverse = codesPerUnit(high);
    for (let j: usize = 0; j < cols; j++) {
      store<i8>(codes + row * cols + j, <i8>nearest<f32>(load<f32>(xi + (j << 2)) * inverse));
    }
    store<f32>(scales + (row << 2), high / LIMIT);
  }
  barrier();
}

/** The table that codes and scales stand for, c · s. */
export function dequantizeRowsInt8(
  x: usize,
  codes: usize,
  scales: usize,
  rows: usize,
  cols: usize,
): void {
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const s = load<f32>(scales + (row << 2));
    for (let i = row * cols, stop = i + cols; i < stop; i++) {
      store<f32>(x + (i << 2), s * <f32>load<i8>(codes + i));
    }
  }
  barrier();
}

/** Quantises activations, what a product takes for x. */
export function quantizeActivations(quantized: usize, x: usize, rows: usize, cols: usize): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  for (let row = begin(rows), last = end(rows); row < last; row++)
    quantizeRow(quantized, x + ((row * cols) << 2), row, rows, cols);
  barrier();
}

/** Row number `row` of the codes of [rows, cols], its scale and its minimum. */
function quantizeRow(quantized: usize, x: usize, row: usize, rows: usize, cols: usize): void {
  const bytes = cols << 2;
  let low = v128.load(x);
  let high = low;
  for (let j: usize = 16; j < bytes; j += 16) {
    const v = v128.load(x + j);
    low = f32x4.pmin(low, v);
    high = f32x4.pmax(high, v);
  }
  const minimum = -maxLanes(f32x4.neg(low));
  const range = maxLanes(high) - minimum;
  const inverse = f32x4.splat(codesPerUnit(range));
  const minimums = f32x4.splat(minimum);
  const codes = quantized + row * cols;
  const sixteens = cols & ~15;
  let j: usize = 0;
  for (; j < sixteens; j += 16) {
    const xi = x + (j << 2);
    const c0 = codesOf(v128.load(xi), minimums, inverse);
    const c1 = codesOf(v128.load(xi, 16), minimums, inverse);
    const c2 = codesOf(v128.load(xi, 32), minimums, inverse);
    const c3 = codesOf(v128.load(xi, 48), minimums, inverse);
    const shorts = i16x8.narrow_i32x4_s(c0, c1);
    v128.store(codes + j, i8x16.narrow_i16x8_s(shorts, i16x8.narrow_i32x4_s(c2, c3)));
  }
  for (; j < cols; j += 4) {
    const c = codesOf(v128.load(x + (j << 2)), minimums, inverse);
    const shorts = i16x8.narrow_i32x4_s(c, c);
    v128.store32_lane(codes + j, i8x16.narrow_i16x8_s(shorts, shorts), 0);
  }
  store<f32>(quantized + rows * cols + (row << 2), range / LIMIT);
  store<f32>(quantized + rows * cols + ((rows + row) << 2), minimum);
}

function codesOf(x: v128, minimums: v128, inverse: v128): v128 {
  const round = f32x4.splat(ROUND);
  const sum = f32x4.add(f32x4.mul(f32x4.sub(x, minimums), inverse), round);
  return i32x4.sub(sum, round);
}

/** GELU of rows [first, last) of [rows, cols], which lie at x and are overwritten, then their codes: what the next product takes. */
export function geluQuantizeRows(
  quantized: usize,
  x: usize,
  first: usize,
  last: usize,
  rows: usize,
  cols: usize,
  form: usize,
): void {
  for (let row = first; row < last; row++, x += cols << 2) {
    geluRows<Exact>(x, x, 0, 1, cols << 2, form);
    quantizeRow(quantized, x, row, rows, cols);
  }
}
