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
import { addForward } from "./activation";
import {
  KEPT,
  dropThreshold,
  keepBytes,
  keepMask,
  keepMaskOf,
  keepScale,
  originRow,
} from "./random";
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
  const first = begin(rows);
  const last = end(rows);
  if (!threshold) {
    if (residual) {
      addForward(y, x, residual, rows * cols);
    } else {
      memory.copy(y + first * stride, x + first * stride, (last - first) * stride);
      barrier();
    }
    return;
  }
  for (let row = first; row < last; row++) {
    const offset = row * stride;
    const line = i32x4.splat(
      <i32>(originRow() + (lines ? <usize>load<u32>(lines + (row << 2)) : row)),
    );
    // Bits are drawn where they are used, so that memory need not wait for arithmetic.
    for (let j: usize = 0; j < stride; j += KEPT << 2) {
      const a = i32x4.add(i32x4.splat(<i32>(j >> 6)), i32x4(0, 1, 2, 3));
      const b = i32x4.add(a, i32x4.splat(4));
      keepBytes(own, a, line, b, line, threshold, seed, step, site);
      const stop = offset + min(j + (KEPT << 2), stride);
      let i = offset + j;
      let keep = own;
      for (; i + 64 <= stop; i += 64, keep += 16) {
        const bytes = v128.load(keep);
        let v0 = v128.and(f32x4.mul(v128.load(x + i), scale), keepMaskOf(bytes, 0));
        let v1 = v128.and(f32x4.mul(v128.load(x + i, 16), scale), keepMaskOf(bytes, 1));
        let v2 = v128.and(f32x4.mul(v128.load(x + i, 32), scale), keepMaskOf(bytes, 2));
        let v3 = v128.and(f32x4.mul(v128.load(x + i, 48), scale), keepMaskOf(bytes, 3));
        if (residual) {
          v0 = f32x4.add(v0, v128.load(residual + i));
          v1 = f32x4.add(v1, v128.load(residual + i, 16));
          v2 = f32x4.add(v2, v128.load(residual + i, 32));
          v3 = f32x4.add(v3, v128.load(residual + i, 48));
        }
        v128.store(y + i, v0);
        v128.store(y + i, v1, 16);
        v128.store(y + i, v2, 32);
        v128.store(y + i, v3, 48);
      }
      for (; i < stop; i += 16, keep += 4) {
        let v = v128.and(f32x4.mul(v128.load(x + i), scale), keepMask(keep));
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
