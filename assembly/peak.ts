/**
 * The limits that kernels are measured against: the tiles' multiply-adds alone, on registers, and reading alone; and the softmax
 * inside attention, alone. Only the benchmarks compile it, with and without relaxed SIMD. Operands are arguments: constants would be rebuilt at every turn.
 */
import { FUSED, Fused, fma } from "./simd";
import { softmaxRow } from "./softmax";

/** `turns` times as many multiply-adds of four lanes as the tile has accumulators, twelve. */
function peakFused(turns: i32, x: f32, y: f32): f32 {
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
    c10 = fma(a, b, c10);
    c11 = fma(a, b, c11);
  }
  c0 = f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3));
  c0 = f32x4.add(c0, f32x4.add(f32x4.add(c4, c5), f32x4.add(c6, c7)));
  c0 = f32x4.add(c0, f32x4.add(f32x4.add(c8, c9), f32x4.add(c10, c11)));
  return f32x4.extract_lane(c0, 0);
}

/**
 * `turns` times seven multiplications and seven additions, side by side in chains of their own. Every turn has new products: the
 * compiler would take a product of constants out of the loop, and leave additions.
 */
function peakUnfused(turns: i32, x: f32, y: f32): f32 {
  const a = f32x4.splat(x);
  let p0 = f32x4.splat(y);
  let p1 = f32x4.add(p0, a);
  let p2 = f32x4.add(p1, a);
  let p3 = f32x4.add(p2, a);
  let p4 = f32x4.add(p3, a);
  let p5 = f32x4.add(p4, a);
  let p6 = f32x4.add(p5, a);
  let c0 = f32x4.sub(a, a);
  let c1 = c0;
  let c2 = c0;
  let c3 = c0;
  let c4 = c0;
  let c5 = c0;
  let c6 = c0;
  for (let i = 0; i < turns; i++) {
    c0 = f32x4.add(c0, p0);
    p0 = f32x4.mul(p0, a);
    c1 = f32x4.add(c1, p1);
    p1 = f32x4.mul(p1, a);
    c2 = f32x4.add(c2, p2);
    p2 = f32x4.mul(p2, a);
    c3 = f32x4.add(c3, p3);
    p3 = f32x4.mul(p3, a);
    c4 = f32x4.add(c4, p4);
    p4 = f32x4.mul(p4, a);
    c5 = f32x4.add(c5, p5);
    p5 = f32x4.mul(p5, a);
    c6 = f32x4.add(c6, p6);
    p6 = f32x4.mul(p6, a);
  }
  c0 = f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3));
  c0 = f32x4.add(c0, f32x4.add(c4, f32x4.add(c5, c6)));
  return f32x4.extract_lane(c0, 0);
}

export function peak(turns: i32, x: f32, y: f32): f32 {
  return FUSED ? peakFused(turns, x, y) : peakUnfused(turns, x, y);
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
export function softmax(x: usize, sum: usize, rows: usize, cols: usize): void {
  for (let row: usize = 0; row < rows; row++)
    softmaxRow<Fused>(x + ((row * cols) << 2), cols, sum, 0, 0);
}
