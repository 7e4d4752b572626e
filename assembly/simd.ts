/**
 * The only file that knows which SIMD instructions the target has.
 *
 * `fma` may be fused and belongs to f32 matrix products. `mulAdd` never is: everything on the int8 path uses it, so that
 * a quantised vector has the same bits on every target.
 */

/** Whether `fma` is one instruction; the matrix products choose their tile by it. */
export const FUSED: bool = ASC_FEATURE_RELAXED_SIMD;

/** a · b + c, rounded once where the target has relaxed SIMD and twice elsewhere. */
export function fma(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** a · b + c, rounded twice on every target. */
export function mulAdd(a: v128, b: v128, c: v128): v128 {
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Type arguments of what both paths share: `Fused` rounds as the target likes, `Exact` the same everywhere. */
export type Fused = f32;
export type Exact = i32;

/** `fma` or `mulAdd`. */
export function multiplyAdd<Rounding>(a: v128, b: v128, c: v128): v128 {
  return isFloat<Rounding>() ? fma(a, b, c) : mulAdd(a, b, c);
}

/** Sum of the four lanes, always in the same order. */
export function sumLanes(a: v128): f32 {
  const pairs = f32x4.add(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** Largest of the four lanes. */
export function maxLanes(a: v128): f32 {
  const pairs = f32x4.pmax(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  return max<f32>(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1));
}

/** acc + the dot products of four signed bytes of a with four bytes of b in 0..127, per lane; exact on every target. */
export function dotInt8(a: v128, b: v128, acc: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, acc);
  // Neighbouring byte products fit an i16 pair sum (2 · 127 · 128 < 2¹⁵), which the pairwise add then widens.
  const low = i16x8.extmul_low_i8x16_s(a, b);
  const high = i16x8.extmul_high_i8x16_s(a, b);
  const sumLow = i32x4.extadd_pairwise_i16x8_s(low);
  const sumHigh = i32x4.extadd_pairwise_i16x8_s(high);
  const even = v128.shuffle<i32>(sumLow, sumHigh, 0, 2, 4, 6);
  const odd = v128.shuffle<i32>(sumLow, sumHigh, 1, 3, 5, 7);
  return i32x4.add(acc, i32x4.add(even, odd));
}
