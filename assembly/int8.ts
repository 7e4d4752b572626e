/**
 * Weights of eight bits, one scale per output; the products are in `linear-quantized.ts`.
 *
 *   w ≈ q · s,     s ≥ max |w| / 127,     q in -127 … 127        per output, rounded to nearest even
 *
 * A tile multiplies bytes in pairs and adds the pairs of two quads in 16 bits before it widens them: half as many instructions
 * as widening each. That is exact if weights of the same sign, of the four that share a lane, sum to 258 at most, as
 * 127 · 258 < 2¹⁵. Hardly a row of weights is near it (all four would be large); for one that is, s is larger.
 *
 *   weight [outputs, inputs]    Σw [outputs], Σw = s · Σ q    inputs, outputs % 4 == 0
 *   codes: panels of 8 outputs, inputs / 4 quads × 8 outputs × 4 bytes, in the order a tile reads them; s: panels of 8
 */
import { codesPerUnit, largestMagnitude } from "./quantize";
import { dotPairs } from "./simd";
import { barrier, begin, end } from "./team";

/** The largest sum of weights of one sign in a lane. */
const LANE_LIMIT: i32 = 258;

/** Quantises and packs a weight; the last panel is filled up with zeros. */
export function packInt8(
  codes: usize,
  scales: usize,
  sums: usize,
  weight: usize,
  outputs: usize,
  inputs: usize,
): void {
  assert((inputs & 3) == 0 && (outputs & 3) == 0, "inputs and outputs must be multiples of 4");
  const panels = (outputs + 7) >> 3;
  for (let o = begin(panels) << 3, last = end(panels) << 3; o < last; o++) {
    const panel = codes + (o >> 3) * (inputs << 3) + ((o & 7) << 2);
    if (o >= outputs) {
      for (let k: usize = 0; k < inputs; k += 4) store<i32>(panel + (k << 3), 0);
      store<f32>(scales + (o << 2), 0);
      continue;
    }
    const row = weight + ((o * inputs) << 2);
    let high = largestMagnitude(row, inputs);
    let lane = packRow(panel, row, inputs, high);
    while (lane > LANE_LIMIT) {
      high *= <f32>lane / <f32>LANE_LIMIT;
      lane = packRow(panel, row, inputs, high);
    }
    let sum: i32 = 0;
    for (let k: usize = 0; k < inputs; k++) sum += load<i8>(panel + ((k >> 2) << 5) + (k & 3));
    store<f32>(scales + (o << 2), high / 127);
    store<f32>(sums + (o << 2), (high / 127) * <f32>sum);
  }
  barrier();
}

/** The weight that packed codes stand for, q · s. */
export function dequantizeInt8(
  weight: usize,
  codes: usize,
  scales: usize,
  outputs: usize,
  inputs: usize,
): void {
  for (let o = begin(outputs), last = end(outputs); o < last; o++) {
    const panel = codes + (o >> 3) * (inputs << 3) + ((o & 7) << 2);
    const row = weight + ((o * inputs) << 2);
    const s = load<f32>(scales + (o << 2));
    for (let k: usize = 0; k < inputs; k++) {
      store<f32>(row + (k << 2), s * <f32>load<i8>(panel + ((k >> 2) << 5) + (k & 3)));
    }
  }
  barrier();
}

/** Codes of a row with the scale high / 127; returns the largest sum of one sign in a lane. */
function packRow(panel: usize, row: usize, inputs: usize, high: f32): i32 {
  const inverse = codesPerUnit(high);
  let largest: i32 = 0;
  for (let k: usize = 0; k < inputs; k += 8) {
    for (let pair: usize = 0; pair < 4; pair += 2) {
      let positive: i32 = 0;
      let negative: i32 = 0;
      for (let i = k + pair, last = min(k + 8, inputs); i < last; i += 4) {
        for (let j = i; j < i + 2; j++) {
          const q = <i32>nearest<f32>(load<f32>(row + (j << 2)) * inverse);
          store<i8>(panel + ((j >> 2) << 5) + (j & 3), <i8>q);
          if (q > 0) positive += q;
          else negative -= q;
        }
      }
      largest = max(largest, max(positive, negative));
    }
  }
  return largest;
}

/** s · Σ c q of four rows and eight outputs, in float32 at `products` [4, 8]; b is a panel, and a0 … a3 are codes of rows. */
export function tileInt8(
  products: usize,
  b: usize,
  scales: usize,
  a0: usize,
  a1: usize,
  a2: usize,
  a3: usize,
  inputs: usize,
): void {
  let c00 = i32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  for (const stop = a0 + (inputs & ~7); a0 < stop; a0 += 8, a1 += 8, a2 += 8, a3 += 8, b += 64) {
    let b0 = v128.load(b);
    let b1 = v128.load(b, 16);
    let a = v128.load32_splat(a0);
    let s00 = dotPairs(b0, a);
    let s01 = dotPairs(b1, a);
    a = v128.load32_splat(a1);
    let s10 = dotPairs(b0, a);
    let s11 = dotPairs(b1, a);
    a = v128.load32_splat(a2);
    let s20 = dotPairs(b0, a);
    let s21 = dotPairs(b1, a);
    a = v128.load32_splat(a3);
    let s30 = dotPairs(b0, a);
    let s31 = dotPairs(b1, a);
    b0 = v128.load(b, 32);
    b1 = v128.load(b, 48);
    a = v128.load32_splat(a0, 4);
    s00 = i16x8.add(s00, dotPairs(b0, a));
    s01 = i16x8.add(s01, dotPairs(b1, a));
    a = v128.load32_splat(a1, 4);
    s10 = i16x8.add(s10, dotPairs(b0, a));
    s11 = i16x8.add(s11, dotPairs(b1, a));
    a = v128.load32_splat(a2, 4);
    s20 = i16x8.add(s20, dotPairs(b0, a));
    s21 = i16x8.add(s21, dotPairs(b1, a));
    a = v128.load32_splat(a3, 4);
    s30 = i16x8.add(s30, dotPairs(b0, a));
    s31 = i16x8.add(s31, dotPairs(b1, a));
    c00 = widen(c00, s00);
    c01 = widen(c01, s01);
    c10 = widen(c10, s10);
    c11 = widen(c11, s11);
    c20 = widen(c20, s20);
    c21 = widen(c21, s21);
    c30 = widen(c30, s30);
    c31 = widen(c31, s31);
  }
  if (inputs & 4) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let a = v128.load32_splat(a0);
    c00 = widen(c00, dotPairs(b0, a));
    c01 = widen(c01, dotPairs(b1, a));
    a = v128.load32_splat(a1);
    c10 = widen(c10, dotPairs(b0, a));
    c11 = widen(c11, dotPairs(b1, a));
    a = v128.load32_splat(a2);
    c20 = widen(c20, dotPairs(b0, a));
    c21 = widen(c21, dotPairs(b1, a));
    a = v128.load32_splat(a3);
    c30 = widen(c30, dotPairs(b0, a));
    c31 = widen(c31, dotPairs(b1, a));
  }
  const s0 = v128.load(scales);
  const s1 = v128.load(scales, 16);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c00), s0));
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c01), s1), 16);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c10), s0), 32);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c11), s1), 48);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c20), s0), 64);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c21), s1), 80);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c30), s0), 96);
  v128.store(products, f32x4.mul(f32x4.convert_i32x4_s(c31), s1), 112);
}

function widen(acc: v128, pairs: v128): v128 {
  return i32x4.add(acc, i32x4.extadd_pairwise_i16x8_s(pairs));
}
