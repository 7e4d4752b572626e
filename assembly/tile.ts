/**
 * The register tiles of the matrix product: C [height, 8] (+)= A · B panel over k, all of C in registers.
 *
 *   A is rows that are `rowStep` bytes apart, or, where that is 0, a panel: k × height, end to end
 *   B is eight columns of rows that are `bStep` bytes apart, `PANEL` where they are packed
 *
 * The tile starts at the eight floats of `bias`, plus the rows at `start`, which lie as C does, if there are any: C itself, or a
 * residual. Pointer 0 is as good as no bias, since the null line of memory is always zero.
 */
import { FUSED, multiplyAdd } from "./simd";

/** Columns of a tile: two vectors. */
export const NR: usize = 8;

/** Bytes between the rows of a packed panel. */
export const PANEL: usize = NR << 2;

/** Rows of the tall tile. Unfused, twelve accumulators and their products overflow the sixteen registers; ten do not. */
export function tallest<Rounding>(): usize {
  return FUSED && isFloat<Rounding>() ? 6 : 5;
}

/**
 * Height of the next tile where `left` rows are left: 6 while fives and nothing else can follow, as the first tile waits for B and
 * should be tall; where fives and sixes do not add up, 5 and 4.
 */
export function tileHeight<Rounding>(left: usize): usize {
  if (left <= 4) return 4;
  if (tallest<Rounding>() == 6) {
    const inFives: usize = 5 * ((6 - (left % 6)) % 6);
    if (left >= inFives) return left > inFives ? 6 : 5;
  }
  return left % 5 ? 4 : 5;
}

/**
 * Whether tiles read the rows of a matrix where they lie. A fused tile has room for their six addresses; an unfused one
 * already issues a multiplication and an addition for each, and is faster on a packed panel, with one address.
 */
export function readsRows<Rounding>(): bool {
  return FUSED && isFloat<Rounding>();
}

/** Computes `count` tiles of `height` 4, 5 or `tallest`, side by side, of panels end to end, or of a B that is not packed; with a bias, one. */
export function tile<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  rowStep: usize,
  b: usize,
  bStep: usize,
  k: usize,
  bias: usize,
  start: usize,
  height: usize,
  count: usize,
): void {
  if (height == 4) tile4<Rounding>(c, stride, a, rowStep, b, bStep, k, bias, start, count);
  else if (tallest<Rounding>() == 6 && height == 6)
    tile6<Rounding>(c, stride, a, rowStep, b, bStep, k, bias, start, count);
  else tile5<Rounding>(c, stride, a, rowStep, b, bStep, k, bias, start, count);
}

function tile6<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  rowStep: usize,
  b: usize,
  bStep: usize,
  k: usize,
  bias: usize,
  start: usize,
  count: usize,
): void {
  for (const first = a; ; a = first) {
    const top = b;
    const c1 = c + stride;
    const c2 = c1 + stride;
    const c3 = c2 + stride;
    const c4 = c3 + stride;
    const c5 = c4 + stride;
    const bias0 = v128.load(bias, 0);
    const bias1 = v128.load(bias, 16);
    let c00 = bias0;
    let c01 = bias1;
    let c10 = bias0;
    let c11 = bias1;
    let c20 = bias0;
    let c21 = bias1;
    let c30 = bias0;
    let c31 = bias1;
    let c40 = bias0;
    let c41 = bias1;
    let c50 = bias0;
    let c51 = bias1;
    if (start) {
      c00 = f32x4.add(bias0, v128.load(start, 0));
      c01 = f32x4.add(bias1, v128.load(start, 16));
      let from = start + stride;
      c10 = f32x4.add(bias0, v128.load(from, 0));
      c11 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c20 = f32x4.add(bias0, v128.load(from, 0));
      c21 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c30 = f32x4.add(bias0, v128.load(from, 0));
      c31 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c40 = f32x4.add(bias0, v128.load(from, 0));
      c41 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c50 = f32x4.add(bias0, v128.load(from, 0));
      c51 = f32x4.add(bias1, v128.load(from, 16));
    }
    const last = b + k * bStep;
    if (rowStep) {
      let a1 = a + rowStep;
      let a2 = a1 + rowStep;
      let a3 = a2 + rowStep;
      let a4 = a3 + rowStep;
      let a5 = a4 + rowStep;
      for (; b < last; b += bStep) {
        const b0 = v128.load(b);
        const b1 = v128.load(b, 16);
        let ai = v128.load32_splat(a);
        c00 = multiplyAdd<Rounding>(ai, b0, c00);
        c01 = multiplyAdd<Rounding>(ai, b1, c01);
        ai = v128.load32_splat(a1);
        c10 = multiplyAdd<Rounding>(ai, b0, c10);
        c11 = multiplyAdd<Rounding>(ai, b1, c11);
        ai = v128.load32_splat(a2);
        c20 = multiplyAdd<Rounding>(ai, b0, c20);
        c21 = multiplyAdd<Rounding>(ai, b1, c21);
        ai = v128.load32_splat(a3);
        c30 = multiplyAdd<Rounding>(ai, b0, c30);
        c31 = multiplyAdd<Rounding>(ai, b1, c31);
        ai = v128.load32_splat(a4);
        c40 = multiplyAdd<Rounding>(ai, b0, c40);
        c41 = multiplyAdd<Rounding>(ai, b1, c41);
        ai = v128.load32_splat(a5);
        c50 = multiplyAdd<Rounding>(ai, b0, c50);
        c51 = multiplyAdd<Rounding>(ai, b1, c51);
        a += 4;
        a1 += 4;
        a2 += 4;
        a3 += 4;
        a4 += 4;
        a5 += 4;
      }
    } else {
      for (; b < last; b += bStep, a += 24) {
        const b0 = v128.load(b);
        const b1 = v128.load(b, 16);
        let ai = v128.load32_splat(a);
        c00 = multiplyAdd<Rounding>(ai, b0, c00);
        c01 = multiplyAdd<Rounding>(ai, b1, c01);
        ai = v128.load32_splat(a, 4);
        c10 = multiplyAdd<Rounding>(ai, b0, c10);
        c11 = multiplyAdd<Rounding>(ai, b1, c11);
        ai = v128.load32_splat(a, 8);
        c20 = multiplyAdd<Rounding>(ai, b0, c20);
        c21 = multiplyAdd<Rounding>(ai, b1, c21);
        ai = v128.load32_splat(a, 12);
        c30 = multiplyAdd<Rounding>(ai, b0, c30);
        c31 = multiplyAdd<Rounding>(ai, b1, c31);
        ai = v128.load32_splat(a, 16);
        c40 = multiplyAdd<Rounding>(ai, b0, c40);
        c41 = multiplyAdd<Rounding>(ai, b1, c41);
        ai = v128.load32_splat(a, 20);
        c50 = multiplyAdd<Rounding>(ai, b0, c50);
        c51 = multiplyAdd<Rounding>(ai, b1, c51);
      }
    }
    v128.store(c, c00, 0);
    v128.store(c, c01, 16);
    v128.store(c1, c10, 0);
    v128.store(c1, c11, 16);
    v128.store(c2, c20, 0);
    v128.store(c2, c21, 16);
    v128.store(c3, c30, 0);
    v128.store(c3, c31, 16);
    v128.store(c4, c40, 0);
    v128.store(c4, c41, 16);
    v128.store(c5, c50, 0);
    v128.store(c5, c51, 16);
    if (--count == 0) return;
    if (bStep != PANEL) b = top + PANEL;
    c += PANEL;
    if (start) start += PANEL;
  }
}

function tile5<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  rowStep: usize,
  b: usize,
  bStep: usize,
  k: usize,
  bias: usize,
  start: usize,
  count: usize,
): void {
  for (const first = a; ; a = first) {
    const top = b;
    const c1 = c + stride;
    const c2 = c1 + stride;
    const c3 = c2 + stride;
    const c4 = c3 + stride;
    const bias0 = v128.load(bias, 0);
    const bias1 = v128.load(bias, 16);
    let c00 = bias0;
    let c01 = bias1;
    let c10 = bias0;
    let c11 = bias1;
    let c20 = bias0;
    let c21 = bias1;
    let c30 = bias0;
    let c31 = bias1;
    let c40 = bias0;
    let c41 = bias1;
    if (start) {
      c00 = f32x4.add(bias0, v128.load(start, 0));
      c01 = f32x4.add(bias1, v128.load(start, 16));
      let from = start + stride;
      c10 = f32x4.add(bias0, v128.load(from, 0));
      c11 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c20 = f32x4.add(bias0, v128.load(from, 0));
      c21 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c30 = f32x4.add(bias0, v128.load(from, 0));
      c31 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c40 = f32x4.add(bias0, v128.load(from, 0));
      c41 = f32x4.add(bias1, v128.load(from, 16));
    }
    const last = b + k * bStep;
    if (rowStep) {
      let a1 = a + rowStep;
      let a2 = a1 + rowStep;
      let a3 = a2 + rowStep;
      let a4 = a3 + rowStep;
      for (; b < last; b += bStep) {
        const b0 = v128.load(b);
        const b1 = v128.load(b, 16);
        let ai = v128.load32_splat(a);
        c00 = multiplyAdd<Rounding>(ai, b0, c00);
        c01 = multiplyAdd<Rounding>(ai, b1, c01);
        ai = v128.load32_splat(a1);
        c10 = multiplyAdd<Rounding>(ai, b0, c10);
        c11 = multiplyAdd<Rounding>(ai, b1, c11);
        ai = v128.load32_splat(a2);
        c20 = multiplyAdd<Rounding>(ai, b0, c20);
        c21 = multiplyAdd<Rounding>(ai, b1, c21);
        ai = v128.load32_splat(a3);
        c30 = multiplyAdd<Rounding>(ai, b0, c30);
        c31 = multiplyAdd<Rounding>(ai, b1, c31);
        ai = v128.load32_splat(a4);
        c40 = multiplyAdd<Rounding>(ai, b0, c40);
        c41 = multiplyAdd<Rounding>(ai, b1, c41);
        a += 4;
        a1 += 4;
        a2 += 4;
        a3 += 4;
        a4 += 4;
      }
    } else {
      for (; b < last; b += bStep, a += 20) {
        const b0 = v128.load(b);
        const b1 = v128.load(b, 16);
        let ai = v128.load32_splat(a);
        c00 = multiplyAdd<Rounding>(ai, b0, c00);
        c01 = multiplyAdd<Rounding>(ai, b1, c01);
        ai = v128.load32_splat(a, 4);
        c10 = multiplyAdd<Rounding>(ai, b0, c10);
        c11 = multiplyAdd<Rounding>(ai, b1, c11);
        ai = v128.load32_splat(a, 8);
        c20 = multiplyAdd<Rounding>(ai, b0, c20);
        c21 = multiplyAdd<Rounding>(ai, b1, c21);
        ai = v128.load32_splat(a, 12);
        c30 = multiplyAdd<Rounding>(ai, b0, c30);
        c31 = multiplyAdd<Rounding>(ai, b1, c31);
        ai = v128.load32_splat(a, 16);
        c40 = multiplyAdd<Rounding>(ai, b0, c40);
        c41 = multiplyAdd<Rounding>(ai, b1, c41);
      }
    }
    v128.store(c, c00, 0);
    v128.store(c, c01, 16);
    v128.store(c1, c10, 0);
    v128.store(c1, c11, 16);
    v128.store(c2, c20, 0);
    v128.store(c2, c21, 16);
    v128.store(c3, c30, 0);
    v128.store(c3, c31, 16);
    v128.store(c4, c40, 0);
    v128.store(c4, c41, 16);
    if (--count == 0) return;
    if (bStep != PANEL) b = top + PANEL;
    c += PANEL;
    if (start) start += PANEL;
  }
}

function tile4<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  rowStep: usize,
  b: usize,
  bStep: usize,
  k: usize,
  bias: usize,
  start: usize,
  count: usize,
): void {
  for (const first = a; ; a = first) {
    const top = b;
    const c1 = c + stride;
    const c2 = c1 + stride;
    const c3 = c2 + stride;
    const bias0 = v128.load(bias, 0);
    const bias1 = v128.load(bias, 16);
    let c00 = bias0;
    let c01 = bias1;
    let c10 = bias0;
    let c11 = bias1;
    let c20 = bias0;
    let c21 = bias1;
    let c30 = bias0;
    let c31 = bias1;
    if (start) {
      c00 = f32x4.add(bias0, v128.load(start, 0));
      c01 = f32x4.add(bias1, v128.load(start, 16));
      let from = start + stride;
      c10 = f32x4.add(bias0, v128.load(from, 0));
      c11 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c20 = f32x4.add(bias0, v128.load(from, 0));
      c21 = f32x4.add(bias1, v128.load(from, 16));
      from += stride;
      c30 = f32x4.add(bias0, v128.load(from, 0));
      c31 = f32x4.add(bias1, v128.load(from, 16));
    }
    const last = b + k * bStep;
    if (rowStep) {
      let a1 = a + rowStep;
      let a2 = a1 + rowStep;
      let a3 = a2 + rowStep;
      for (; b < last; b += bStep) {
        const b0 = v128.load(b);
        const b1 = v128.load(b, 16);
        let ai = v128.load32_splat(a);
        c00 = multiplyAdd<Rounding>(ai, b0, c00);
        c01 = multiplyAdd<Rounding>(ai, b1, c01);
        ai = v128.load32_splat(a1);
        c10 = multiplyAdd<Rounding>(ai, b0, c10);
        c11 = multiplyAdd<Rounding>(ai, b1, c11);
        ai = v128.load32_splat(a2);
        c20 = multiplyAdd<Rounding>(ai, b0, c20);
        c21 = multiplyAdd<Rounding>(ai, b1, c21);
        ai = v128.load32_splat(a3);
        c30 = multiplyAdd<Rounding>(ai, b0, c30);
        c31 = multiplyAdd<Rounding>(ai, b1, c31);
        a += 4;
        a1 += 4;
        a2 += 4;
        a3 += 4;
      }
    } else {
      for (; b < last; b += bStep, a += 16) {
        const b0 = v128.load(b);
        const b1 = v128.load(b, 16);
        let ai = v128.load32_splat(a);
        c00 = multiplyAdd<Rounding>(ai, b0, c00);
        c01 = multiplyAdd<Rounding>(ai, b1, c01);
        ai = v128.load32_splat(a, 4);
        c10 = multiplyAdd<Rounding>(ai, b0, c10);
        c11 = multiplyAdd<Rounding>(ai, b1, c11);
        ai = v128.load32_splat(a, 8);
        c20 = multiplyAdd<Rounding>(ai, b0, c20);
        c21 = multiplyAdd<Rounding>(ai, b1, c21);
        ai = v128.load32_splat(a, 12);
        c30 = multiplyAdd<Rounding>(ai, b0, c30);
        c31 = multiplyAdd<Rounding>(ai, b1, c31);
      }
    }
    v128.store(c, c00, 0);
    v128.store(c, c01, 16);
    v128.store(c1, c10, 0);
    v128.store(c1, c11, 16);
    v128.store(c2, c20, 0);
    v128.store(c2, c21, 16);
    v128.store(c3, c30, 0);
    v128.store(c3, c31, 16);
    if (--count == 0) return;
    if (bStep != PANEL) b = top + PANEL;
    c += PANEL;
    if (start) start += PANEL;
  }
}
