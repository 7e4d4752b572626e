/**
 * Dropout (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html), the only augmentation of
 * unsupervised SimCSE: two passes over one sentence with different bits are its positive pair.
 *
 *   y = mask · x / (1 - p) (+ residual)        dx = mask · dy / (1 - p)
 *
 *   x y dx dy residual [rows, cols]    cols % 4 == 0    p is rounded to a multiple of 2⁻¹⁶; random.ts makes the mask
 *   lines [rows] int32: the numbers by which rows draw bits, their own if absent. Rows that were picked out of a matrix draw
 *   as they would there.
 *   scratch: 256 bytes for each rank
 */
import { KEPT, dropThreshold, keepBytes, keepMask, keepScale, originRow } from "./random";
import { barrier, begin, end, rankOf } from "./team";

function dropout(
  y: usize,
  x: usize,
  residual: usize,
  lines: usize,
  rows: usize,
  cols: usize,
  rate: f32,
  seed: usize,
  step: usize,
  site: usize,
  scratch: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const threshold = dropThreshold(rate);
  const scale = f32x4.splat(keepScale(threshold));
  const stride = cols << 2;
  const own = scratch + rankOf() * KEPT * 2;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const offset = row * stride;
    const line = i32x4.splat(
      <i32>(originRow() + (lines ? <usize>load<u32>(lines + (row << 2)) : row)),
    );
    // Bits are drawn where they are used, so that memory need not wait for arithmetic.
    for (let j: usize = 0; j < stride; j += KEPT << 2) {
      if (threshold) {
        const first = i32x4.add(i32x4.splat(<i32>(j >> 6)), i32x4(0, 1, 2, 3));
        const second = i32x4.add(first, i32x4.splat(4));
        keepBytes(own, first, line, second, line, threshold, seed, step, site);
      }
      for (
        let i = offset + j, keep = own, stop = offset + min(j + (KEPT << 2), stride);
        i < stop;
        i += 16, keep += 4
      ) {
        let v = v128.load(x + i);
        if (threshold) v = v128.and(f32x4.mul(v, scale), keepMask(keep));
        if (residual) v = f32x4.add(v, v128.load(residual + i));
        v128.store(y + i, v);
      }
    }
  }
  barrier();
}

/** Computes y; it may lie on x. Without `residual` nothing is added. */
export function dropoutForward(
  y: usize,
  x: usize,
  residual: usize,
  lines: usize,
  rows: usize,
  cols: usize,
  rate: f32,
  seed: usize,
  step: usize,
  site: usize,
  scratch: usize,
): void {
  dropout(y, x, residual, lines, rows, cols, rate, seed, step, site, scratch);
}

/** Overwrites dx; it may lie on dy. The same (seed, step, site) replay the bits of the forward pass. */
export function dropoutBackward(
  dx: usize,
  dy: usize,
  lines: usize,
  rows: usize,
  cols: usize,
  rate: f32,
  seed: usize,
  step: usize,
  site: usize,
  scratch: usize,
): void {
  dropout(dx, dy, 0, lines, rows, cols, rate, seed, step, site, scratch);
}
