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
import { dotPairs, spread } from "./simd";
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

/**
 * s · Σ c q of four rows and eight outputs, in float32 at `products` [4, 8]; b is a panel, and a the rows' codes as `packRows`
 * lays them out.
 */
export function tileInt8(products: usize, b: usize, scales: usize, a: usize, inputs: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  for (const stop = a + ((inputs & ~7) << 2); a < stop; a += 32, b += 64) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const b2 = v128.load(b, 32);
    const b3 = v128.load(b, 48);
    let even = spread(a, 0);
    let odd = spread(a, 1);
    c00 = widen(c00, i16x8.add(dotPairs(b0, even), dotPairs(b2, odd)));
    c01 = widen(c01, i16x8.add(dotPairs(b1, even), dotPairs(b3, odd)));
    even = spread(a, 2);
    odd = spread(a, 3);
    c10 = widen(c10, i16x8.add(dotPairs(b0, even), dotPairs(b2, odd)));
    c11 = widen(c11, i16x8.add(dotPairs(b1, even), dotPairs(b3, odd)));
    even = spread(a + 16, 0);
    odd = spread(a + 16, 1);
    c20 = widen(c20, i16x8.add(dotPairs(b0, even), dotPairs(b2, odd)));
    c21 = widen(c21, i16x8.add(dotPairs(b1, even), dotPairs(b3, odd)));
    even = spread(a + 16, 2);
    odd = spread(a + 16, 3);
    c30 = widen(c30, i16x8.add(dotPairs(b0, even), dotPairs(b2, odd)));
    c31 = widen(c31, i16x8.add(dotPairs(b1, even), dotPairs(b3, odd)));
  }
  if (inputs & 4) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let row = v128.load32_splat(a);
    c00 = widen(c00, dotPairs(b0, row));
    c01 = widen(c01, dotPairs(b1, row));
    row = v128.load32_splat(a, 8);
    c10 = widen(c10, dotPairs(b0, row));
    c11 = widen(c11, dotPairs(b1, row));
    row = v128.load32_splat(a, 16);
    c20 = widen(c20, dotPairs(b0, row));
    c21 = widen(c21, dotPairs(b1, row));
    row = v128.load32_splat(a, 24);
    c30 = widen(c30, dotPairs(b0, row));
    c31 = widen(c31, dotPairs(b1, row));
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
