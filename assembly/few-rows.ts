/**
 * Matrix product of few rows, FEW_ROWS at most, with a B that is stored by columns, by its transpose:
 *
 *   Cᵀ = Bᵀ · Aᵀ (+ bias + residual)        C [rows, cols]    A [rows, k]    B [k, cols]
 *
 * Tiles read Bᵀ where it lies, six rows of it from beginning to end, so that a large B is neither packed nor read out of order.
 * Products and the order of their sum are those of `gemm.ts`, so the bits are too.
 */
import { geluRows } from "./activation";
import { MC, RANK_SCRATCH } from "./gemm";
import { kBlock, pack, packQuad } from "./pack";
import { barrier, begin, end, rankOf } from "./team";
import { NR, PANEL, tile, tileHeight } from "./tile";

/** Computes C, MC columns at a time; A is packed by `packTogether` as if it were a B. Ranks share columns. */
export function multiplyFew<Rounding>(
  c: usize,
  cStride: usize,
  packedA: usize,
  b: usize,
  bStride: usize,
  rows: usize,
  k: usize,
  cols: usize,
  bias: usize,
  residual: usize,
  active: usize,
  form: usize,
  scratch: usize,
): void {
  const own = scratch + rankOf() * RANK_SCRATCH;
  const width = ((rows + NR - 1) / NR) * NR;
  const step = width << 2;
  const kc = kBlock(k);
  const quads = cols >> 2;
  const last = end(quads) << 2;
  for (let first = begin(quads) << 2; first < last; first += MC) {
    const count = min(MC, last - first);
    const at = first << 2;
    startColumns(
      own,
      residual ? residual + at : 0,
      bias ? bias + at : 0,
      cStride,
      count,
      width,
      rows,
    );
    for (let j: usize = 0; j < count;) {
      const height = tileHeight<Rounding>(count - j);
      for (let p: usize = 0; p < k; p += kc) {
        const depth = min(kc, k - p);
        const from = b + (first + j) * bStride + (p << 2);
        for (let i: usize = 0; i < width; i += NR) {
          const to = own + j * step + (i << 2);
          const panel = packedA + ((width * p + i * depth) << 2);
          tile<Rounding>(to, step, from, bStride, panel, PANEL, depth, 0, to, height, 1);
        }
      }
      j += height;
    }
    for (let j: usize = 0; j < count; j += 4)
      packQuad(c + at + (j << 2), own + j * step, step, rows, cStride);
    if (active) geluRows<Rounding>(active + at, c + at, cStride, rows, count << 2, form);
  }
  barrier();
}

/** `count` columns of the residual and the bias, as rows of `width`. */
function startColumns(
  to: usize,
  residual: usize,
  bias: usize,
  stride: usize,
  count: usize,
  width: usize,
  rows: usize,
): void {
  if (residual) pack(to, residual, stride, count, width, rows, true);
  else memory.fill(to, 0, (count * width) << 2);
  if (!bias) return;
  for (let j: usize = 0; j < count; j++) {
    const b = v128.load32_splat(bias + (j << 2));
    for (const stop = to + (width << 2); to < stop; to += 16)
      v128.store(to, f32x4.add(b, v128.load(to)));
  }
}
