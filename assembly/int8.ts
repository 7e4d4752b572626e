/**
 * Linear layer with int8 weights, one scale per output, and activations quantised per row as they come.
 *
 *   w ≈ q · s,              s = max |w| / 127,              q in -127 … 127       per output, rounded to nearest even
 *   x ≈ min + c · t,        t = (max - min) / 127,          c in 0 … 127          per row
 *   y = s · (t · Σ c q + min · Σ q) + b                     Σ c q in int32, exact
 *
 * The scale of a row depends on that row alone, and no step fuses, so a vector has the same bits in every batch and on
 * every target.
 *
 *   x [rows, inputs]    y [rows, outputs]    s b Σq [outputs]    inputs, outputs % 4 == 0
 *   packed: panels of 8 outputs, inputs / 4 groups × 8 outputs × 4 bytes, in the order a tile reads them
 *   scratch: codes [rows, inputs] bytes, then t and min [rows]
 */
import { dotInt8, maxLanes, mulAdd } from "./simd";
import { barrier, begin, end, teamSize } from "./team";

const LIMIT: f32 = 127;

function largestMagnitude(x: usize, cols: usize): f32 {
  let high = f32x4.splat(0);
  for (let j: usize = 0, bytes = cols << 2; j < bytes; j += 16)
    high = f32x4.pmax(high, f32x4.abs(v128.load(x + j)));
  return maxLanes(high);
}

/** Quantises and packs a weight [outputs, inputs]; the last panel is filled up with zeros. */
export function packInt8(
  packed: usize,
  scales: usize,
  sums: usize,
  weight: usize,
  outputs: usize,
  inputs: usize,
): void {
  assert((inputs & 3) == 0 && (outputs & 3) == 0, "inputs and outputs must be multiples of 4");
  const panels = (outputs + 7) >> 3;
  for (let o = begin(panels) << 3, last = end(panels) << 3; o < last; o++) {
    const panel = packed + (o >> 3) * (inputs << 3) + ((o & 7) << 2);
    if (o >= outputs) {
      for (let k: usize = 0; k < inputs; k += 4) store<i32>(panel + (k << 3), 0);
      continue;
    }
    const row = weight + ((o * inputs) << 2);
    const high = largestMagnitude(row, inputs);
    const inverse = high > 0 ? LIMIT / high : 0;
    let sum: i32 = 0;
    for (let k: usize = 0; k < inputs; k++) {
      const q = <i32>nearest<f32>(load<f32>(row + (k << 2)) * inverse);
      store<i8>(panel + ((k >> 2) << 5) + (k & 3), <i8>q);
      sum += q;
    }
    store<f32>(scales + (o << 2), high / LIMIT);
    store<f32>(sums + (o << 2), <f32>sum);
  }
  barrier();
}

/** Symmetric int8 codes [rows, cols] and one scale a row: a table of embeddings. cols % 4 == 0. */
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
    const inverse = high > 0 ? LIMIT / high : 0;
    for (let j: usize = 0; j < cols; j++) {
      store<i8>(codes + row * cols + j, <i8>nearest<f32>(load<f32>(xi + (j << 2)) * inverse));
    }
    store<f32>(scales + (row << 2), high / LIMIT);
  }
  barrier();
}

/** c, t and min of this rank's rows. */
function quantizeActivations(
  codes: usize,
  scales: usize,
  minima: usize,
  x: usize,
  rows: usize,
  cols: usize,
): void {
  const stride = cols << 2;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const xi = x + row * stride;
    let low = v128.load(xi);
    let high = low;
    for (let j: usize = 16; j < stride; j += 16) {
      const v = v128.load(xi + j);
      low = f32x4.pmin(low, v);
      high = f32x4.pmax(high, v);
    }
    const minimum = -maxLanes(f32x4.neg(low));
    const range = maxLanes(high) - minimum;
    const inverse = f32x4.splat(range > 0 ? LIMIT / range : 0);
    const minimums = f32x4.splat(minimum);
    for (let j: usize = 0; j < stride; j += 16) {
      const code = f32x4.nearest(f32x4.mul(f32x4.sub(v128.load(xi + j), minimums), inverse));
      const ints = i32x4.trunc_sat_f32x4_s(code);
      const shorts = i16x8.narrow_i32x4_s(ints, ints);
      v128.store32_lane(codes + row * cols + (j >> 2), i8x16.narrow_i16x8_s(shorts, shorts), 0);
    }
    store<f32>(scales + (row << 2), range / LIMIT);
    store<f32>(minima + (row << 2), minimum);
  }
  barrier();
}

/** Computes y. */
export function linearInt8Forward(
  y: usize,
  x: usize,
  packed: usize,
  scales: usize,
  sums: usize,
  bias: usize,
  rows: usize,
  inputs: usize,
  outputs: usize,
  scratch: usize,
): void {
  assert((inputs & 3) == 0 && (outputs & 3) == 0, "inputs and outputs must be multiples of 4");
  const rowScales = scratch + rows * inputs;
  const minima = rowScales + (rows << 2);
  quantizeActivations(scratch, rowScales, minima, x, rows, inputs);

  const panels = (outputs + 7) >> 3;
  const tiles = (rows + 3) >> 2;
  const shareRows = tiles >= teamSize();
  const firstTile: usize = shareRows ? begin(tiles) : 0;
  const lastTile: usize = shareRows ? end(tiles) : tiles;
  const firstPanel: usize = shareRows ? 0 : begin(panels);
  const lastPanel: usize = shareRows ? panels : end(panels);
  for (let panel = firstPanel; panel < lastPanel; panel++) {
    const column = panel << 5;
    const halves: usize = (panel << 3) + 8 <= outputs ? 2 : 1;
    for (let t = firstTile; t < lastTile; t++) {
      tile(
        y + column,
        packed + panel * (inputs << 3),
        scales + column,
        sums + column,
        bias ? bias + column : 0,
        scratch,
        rowScales,
        minima,
        t << 2,
        min((t + 1) << 2, rows),
        inputs,
        outputs << 2,
        halves,
      );
    }
  }
  barrier();
}

/** 4 × 8 tile: rows past the last repeat it and are not stored. */
function tile(
  y: usize,
  b: usize,
  scales: usize,
  sums: usize,
  bias: usize,
  codes: usize,
  rowScales: usize,
  minima: usize,
  row: usize,
  rowEnd: usize,
  inputs: usize,
  stride: usize,
  halves: usize,
): void {
  const last = rowEnd - 1;
  let a0 = codes + row * inputs;
  let a1 = codes + min(row + 1, last) * inputs;
  let a2 = codes + min(row + 2, last) * inputs;
  let a3 = codes + min(row + 3, last) * inputs;
  let c00 = i32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  for (const stop = a0 + inputs; a0 < stop; a0 += 4, a1 += 4, a2 += 4, a3 += 4, b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let ai = v128.load32_splat(a0);
    c00 = dotInt8(b0, ai, c00);
    c01 = dotInt8(b1, ai, c01);
    ai = v128.load32_splat(a1);
    c10 = dotInt8(b0, ai, c10);
    c11 = dotInt8(b1, ai, c11);
    ai = v128.load32_splat(a2);
    c20 = dotInt8(b0, ai, c20);
    c21 = dotInt8(b1, ai, c21);
    ai = v128.load32_splat(a3);
    c30 = dotInt8(b0, ai, c30);
    c31 = dotInt8(b1, ai, c31);
  }
  for (let half: usize = 0; half < halves; half++) {
    const at = half << 4;
    const s = v128.load(scales + at);
    const q = v128.load(sums + at);
    const offset = v128.load(bias ? bias + at : 0);
    storeRow(y + at, half ? c01 : c00, s, q, offset, rowScales, minima, row, rowEnd, stride);
    storeRow(y + at, half ? c11 : c10, s, q, offset, rowScales, minima, row + 1, rowEnd, stride);
    storeRow(y + at, half ? c21 : c20, s, q, offset, rowScales, minima, row + 2, rowEnd, stride);
    storeRow(y + at, half ? c31 : c30, s, q, offset, rowScales, minima, row + 3, rowEnd, stride);
  }
}

/** y = s · (t · acc + min · Σ q) + b for four outputs of a row. */
function storeRow(
  y: usize,
  acc: v128,
  s: v128,
  q: v128,
  offset: v128,
  rowScales: usize,
  minima: usize,
  row: usize,
  rowEnd: usize,
  stride: usize,
): void {
  if (row >= rowEnd) return;
  const t = v128.load32_splat(rowScales + (row << 2));
  const minimum = v128.load32_splat(minima + (row << 2));
  const value = mulAdd(f32x4.convert_i32x4_s(acc), t, f32x4.mul(minimum, q));
  v128.store(y + row * stride, mulAdd(value, s, offset));
}
