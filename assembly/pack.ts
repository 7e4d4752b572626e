/** Operands of a product as panels, in the order in which `gemm.ts` reads them: the panels of the first block of k, then those of the next. */
import { barrier, begin, end } from "./team";
import { NR } from "./tile";

export const KC: usize = 384; // longest panel

/**
 * Length of the blocks that k is cut into: equal ones, at most KC, but for what makes them multiples of 32. Panels that are written side by side
 * would otherwise often lie nearly a multiple of 4 KB apart, in the same few sets of L1.
 */
export function kBlock(k: usize): usize {
  if (k <= KC) return k;
  const blocks = (k + KC - 1) / KC;
  return ((k + blocks - 1) / blocks + 31) & ~31;
}

/** Bytes of B [k, cols] in panels. */
export function packedBytes(k: usize, cols: usize): usize {
  return (((cols + NR - 1) / NR) * NR * k) << 2;
}

/**
 * Copies a k × width panel. Element (p, j) comes from `source + p · stride + 4 j`, or, transposed, from
 * `source + 4 p + j · stride`; columns from `valid` on are zero.
 */
export function pack(
  panel: usize,
  source: usize,
  stride: usize,
  k: usize,
  width: usize,
  valid: usize,
  transposed: bool,
): void {
  const rowBytes = width << 2;
  if (valid < width) memory.fill(panel, 0, rowBytes * k);
  if (transposed) {
    let j: usize = 0;
    for (; j + 4 <= valid; j += 4)
      packQuad(panel + (j << 2), source + j * stride, stride, k, rowBytes);
    for (; j < valid; j++) {
      let from = source + j * stride;
      let to = panel + (j << 2);
      for (const stop = from + (k << 2); from < stop; from += 4, to += rowBytes)
        store<f32>(to, load<f32>(from));
    }
    return;
  }
  for (let p: usize = 0; p < k; p++, source += stride, panel += rowBytes) {
    let j: usize = 0;
    for (; j + 4 <= valid; j += 4) v128.store(panel + (j << 2), v128.load(source + (j << 2)));
    for (; j < valid; j++) store<f32>(panel + (j << 2), load<f32>(source + (j << 2)));
  }
}

/** Four rows of the source become four columns of rows that are `rowBytes` apart, a 4 × 4 transposition at a time. */
export function packQuad(
  panel: usize,
  source: usize,
  stride: usize,
  k: usize,
  rowBytes: usize,
): void {
  const source2 = source + stride * 2;
  const bytes = k << 2;
  let p: usize = 0;
  for (; p + 16 <= bytes; p += 16, panel += rowBytes << 2) {
    const r0 = v128.load(source + p);
    const r1 = v128.load(source + p + stride);
    const r2 = v128.load(source2 + p);
    const r3 = v128.load(source2 + p + stride);
    const low01 = v128.shuffle<i32>(r0, r1, 0, 4, 1, 5);
    const low23 = v128.shuffle<i32>(r2, r3, 0, 4, 1, 5);
    const high01 = v128.shuffle<i32>(r0, r1, 2, 6, 3, 7);
    const high23 = v128.shuffle<i32>(r2, r3, 2, 6, 3, 7);
    v128.store(panel, v128.shuffle<i64>(low01, low23, 0, 2));
    v128.store(panel + rowBytes, v128.shuffle<i64>(low01, low23, 1, 3));
    v128.store(panel + rowBytes * 2, v128.shuffle<i64>(high01, high23, 0, 2));
    v128.store(panel + rowBytes * 3, v128.shuffle<i64>(high01, high23, 1, 3));
  }
  for (; p < bytes; p += 4, panel += rowBytes) {
    store<f32>(panel, load<f32>(source + p));
    store<f32>(panel, load<f32>(source + p + stride), 4);
    store<f32>(panel, load<f32>(source2 + p), 8);
    store<f32>(panel, load<f32>(source2 + p + stride), 12);
  }
}

/** Whole panels of six columns, all in one pass over the rows of a transposed A. */
export function packSixes(
  panel: usize,
  source: usize,
  stride: usize,
  k: usize,
  panels: usize,
): void {
  const size = k * 24;
  for (let p: usize = 0; p < k; p++, source += stride, panel += 24) {
    let from = source;
    let to = panel;
    for (let n: usize = 0; n < panels; n++, from += 24, to += size) {
      v128.store(to, v128.load(from));
      store<i64>(to, load<i64>(from, 16), 16);
    }
  }
}

/**
 * Packs panels [first, last) of B [k, cols] into `packed`: the panels of the first k block, then those of the next.
 * B is stored row by row, or, transposed, column by column, with `stride` bytes between them.
 */
function packPanels(
  packed: usize,
  b: usize,
  stride: usize,
  k: usize,
  cols: usize,
  transposed: bool,
  first: usize,
  last: usize,
): void {
  const panels = (cols + NR - 1) / NR;
  const kc = kBlock(k);
  for (let p: usize = 0; p < k; p += kc) {
    const depth = min(kc, k - p);
    const block = packed + ((panels * NR * p) << 2);
    for (let panel = first; panel < last; panel++) {
      const j = panel * NR;
      const to = block + ((j * depth) << 2);
      if (!transposed && panel + 4 <= last && j + 4 * NR <= cols) {
        packFour(to, b + p * stride + (j << 2), stride, depth);
        panel += 3;
      } else {
        const source = transposed ? b + j * stride + (p << 2) : b + p * stride + (j << 2);
        pack(to, source, stride, depth, NR, min(NR, cols - j), transposed);
      }
    }
  }
}

/** Four whole panels in one pass over the rows: 128 bytes of each, so that no line or page is fetched for 32. */
function packFour(panel: usize, source: usize, stride: usize, k: usize): void {
  const size = k << 5;
  const panel2 = panel + size * 2;
  for (let p: usize = 0; p < k; p++, source += stride, panel += 32) {
    v128.store(panel, v128.load(source));
    v128.store(panel, v128.load(source, 16), 16);
    v128.store(panel + size, v128.load(source, 32));
    v128.store(panel + size, v128.load(source, 48), 16);
    const far = panel2 + (p << 5);
    v128.store(far, v128.load(source, 64));
    v128.store(far, v128.load(source, 80), 16);
    v128.store(far + size, v128.load(source, 96));
    v128.store(far + size, v128.load(source, 112), 16);
  }
}

/** This rank alone packs all of B. */
export function packAlone(
  packed: usize,
  b: usize,
  stride: usize,
  k: usize,
  cols: usize,
  transposed: bool,
): void {
  packPanels(packed, b, stride, k, cols, transposed, 0, (cols + NR - 1) / NR);
}

/** All ranks together pack B into `packed`, which is complete when they return. */
export function packTogether(
  packed: usize,
  b: usize,
  stride: usize,
  k: usize,
  cols: usize,
  transposed: bool,
): void {
  const panels = (cols + NR - 1) / NR;
  packPanels(packed, b, stride, k, cols, transposed, begin(panels), end(panels));
  barrier();
}
