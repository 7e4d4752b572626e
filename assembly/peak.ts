/**
 * The limits that kernels are measured against: the tiles' multiply-adds alone, on registers, and reading alone; and the softmax
 * inside attention, alone. Only the benchmarks compile it, with and without relaxed SIMD. Operands are arguments: constants would be rebuilt at every turn.
 */
import { softmaxRow } from "./attention";
import { FUSED, Fused, fma } from "./simd";

/** `turns` times twelve (unfused: ten) multiply-adds of four lanes, as many as the tile has accumulators. */
export function peak(turns: i32, x: f32, y: f32): f32 {
  const a = f32x4.splat(x);
  const b = f32x4.splat(y);
  const zero = f32x4.sub(a, a);
  let c0 = zero;
  let c1 = zero;
  let c2 = zero;
  let c3 = zero;
  let c4 = zero;
  let c5 = zero;
  let c6 = zero;
  let c7 = zero;
  let c8 = zero;
  let c9 = zero;
  let c10 = zero;
  let c11 = zero;
  for (let i = 0; i < turns; i++) {
    c0 = fma(a, b, c0);
    c1 = fma(a, b, c1);
    c2 = fma(a, b, c2);
    c3 = fma(a, b, c3);
    c4 = fma(a, b, c4);
    c5 = fma(a, b, c5);
    c6 = fma(a, b, c6);
    c7 = fma(a, b, c7);
    c8 = fma(a, b, c8);
    c9 = fma(a, b, c9);
    if (FUSED) {
      c10 = fma(a, b, c10);
      c11 = fma(a, b, c11);
    }
  }
  c0 = f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3));
  c0 = f32x4.add(c0, f32x4.add(f32x4.add(c4, c5), f32x4.add(c6, c7)));
  c0 = f32x4.add(c0, f32x4.add(f32x4.add(c8, c9), f32x4.add(c10, c11)));
  return f32x4.extract_lane(c0, 0);
}

/** Adds up memory from address 0, in four chains so that no addition waits; bytes % 64 == 0. */
export function read(bytes: usize): f32 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (let at: usize = 0; at < bytes; at += 64) {
    s0 = f32x4.add(s0, v128.load(at));
    s1 = f32x4.add(s1, v128.load(at, 16));
    s2 = f32x4.add(s2, v128.load(at, 32));
    s3 = f32x4.add(s3, v128.load(at, 48));
  }
  return f32x4.extract_lane(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)), 0);
}

/** The softmax of rows of scores at x [rows, cols], up to its division, which attention leaves to its outputs; cols % 8 == 0. */
export function softmax(x: usize, inverse: usize, rows: usize, cols: usize): void {
  for (let row: usize = 0; row < rows; row++)
    softmaxRow<Fused>(x + ((row * cols) << 2), cols, inverse, 0, 0, 1);
}
