/**
 * Dropout (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html), the only augmentation of
 * unsupervised SimCSE: two passes over one sentence with different bits are its positive pair.
 *
 *   y = mask · x / (1 - p) (+ residual)        dx = mask · dy / (1 - p)
 *
 *   x y dx dy residual [rows, cols]    cols % 4 == 0    p is rounded to a multiple of 2⁻¹⁶; random.ts makes the mask
 *   lines [rows] int32: the numbers by which rows draw bits, their own if absent. Rows that were picked out of a matrix draw
 *   as they would there.
 *   scratch: for each rank a byte for each element of four rows
 */
import { dropThreshold, keepMask, keepRows, keepScale, originRow } from "./random";
import { barrier, begin, end, rankOf } from "./team";

const ROWS: usize = 4; // rows whose bits are drawn at a time: their counters fill whole vectors

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
  const blocks = (cols + 15) >> 4;
  const own = scratch + rankOf() * ROWS * (blocks << 4);
  for (let row = begin(rows), last = end(rows); row < last;) {
    const count: usize = lines ? 1 : min(ROWS, last - row);
    const line = lines ? <usize>load<u32>(lines + (row << 2)) : row;
    if (threshold) keepRows(own, count, blocks, originRow() + line, 1, threshold, seed, step, site);
    for (let i: usize = 0; i < count; i++, row++) {
      const keep = own + i * (blocks << 4);
      const offset = row * stride;
      for (let j: usize = 0; j < stride; j += 16) {
        let v = v128.load(x + offset + j);
        if (threshold) v = v128.and(f32x4.mul(v, scale), keepMask(keep + (j >> 2)));
        if (residual) v = f32x4.add(v, v128.load(residual + offset + j));
        v128.store(y + offset + j, v);
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
