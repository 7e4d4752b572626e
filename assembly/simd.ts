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

/** Bytes of `a` by the indices 0 … 15 in `b`; exact on every target. */
export function lookup(a: v128, b: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(a, b);
  return i8x16.swizzle(a, b);
}

/**
 * Word i of four in memory, in all lanes. Edge engines have no guard pages, so there each access costs a comparison, and the
 * four words are one load, as the optimiser makes one of equal ones, and shuffles; in Node a load that broadcasts costs nothing beside it.
 */
export function spread(words: usize, i: i32): v128 {
  if (ASC_FEATURE_THREADS) return v128.load32_splat(words + (i << 2));
  const four = v128.load(words);
  if (i == 0) return v128.shuffle<i32>(four, four, 0, 0, 0, 0);
  if (i == 1) return v128.shuffle<i32>(four, four, 1, 1, 1, 1);
  if (i == 2) return v128.shuffle<i32>(four, four, 2, 2, 2, 2);
  return v128.shuffle<i32>(four, four, 3, 3, 3, 3);
}

/** a₀ b₀ + a₁ b₁ of neighbouring bytes, a signed and b in 0..127, in eight i16 lanes; exact on every target. */
export function dotPairs(a: v128, b: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i16x8.relaxed_dot_i8x16_i7x16_s(a, b);
  const even = i16x8.mul(i16x8.shr_s(i16x8.shl(a, 8), 8), v128.and(b, i16x8.splat(127)));
  return i16x8.add(even, i16x8.mul(i16x8.shr_s(a, 8), i16x8.shr_u(b, 8)));
}
