/**
 * The limit that the f32 kernels are measured against: the tile's multiply-adds alone, on registers. Compiled by
 * `bench/measure.ts` with and without relaxed SIMD.
 */
import { fma } from "./simd";

/** `turns` times twelve fused multiply-adds of four lanes: 96 flops a turn. */
export function peakFused(turns: i32): f32 {
  let a = f32x4.splat(0.9999);
  let b = f32x4.splat(1e-4);
  let c0 = a,
    c1 = b,
    c2 = a,
    c3 = b,
    c4 = a,
    c5 = b,
    c6 = a,
    c7 = b,
    c8 = a,
    c9 = b,
    c10 = a,
    c11 = b;
  for (let i = 0; i < turns; i++) {
    c0 = fma(c0, a, b);
    c1 = fma(c1, a, b);
    c2 = fma(c2, a, b);
    c3 = fma(c3, a, b);
    c4 = fma(c4, a, b);
    c5 = fma(c5, a, b);
    c6 = fma(c6, a, b);
    c7 = fma(c7, a, b);
    c8 = fma(c8, a, b);
    c9 = fma(c9, a, b);
    c10 = fma(c10, a, b);
    c11 = fma(c11, a, b);
  }
  c0 = f32x4.add(
    f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3)),
    f32x4.add(f32x4.add(c4, c5), f32x4.add(c6, c7)),
  );
  c0 = f32x4.add(c0, f32x4.add(f32x4.add(c8, c9), f32x4.add(c10, c11)));
  return f32x4.extract_lane(c0, 0);
}
