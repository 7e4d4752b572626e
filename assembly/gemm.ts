/**
 * Matrix product C (+)= A · B, the one loop nest behind every dense product of the model (Goto & van de Geijn 2008,
 * Anatomy of high-performance matrix multiplication; Van Zee & van de Geijn 2015, BLIS).
 *
 *   C [rows, cols]    A [rows, k]    B [k, cols]        packing absorbs transposition, strides and edges
 *
 *   A panel: MR rows of A, stored k × MR     4 bytes · MR · KC = 9 KB in L1
 *   B panel: NR columns of B, stored k × NR  4 bytes · NR · KC = 12 KB in L1
 *   A block: MC rows of A in panels          4 bytes · MC · KC = 147 KB in L2
 *
 * The sum over k runs in one order whatever the tile, the batch and the team: blocks of kBlock(k), and inside a block one
 * chain of multiply-adds that starts at the bias or at C. So a row of C depends on its row of A alone, bit for bit, and k
 * is never shared out among ranks.
 */
import { FUSED, fma, mulAdd } from "./simd";
import { barrier, begin, end, rankOf, teamSize } from "./team";

/** Type arguments of the products: `Fused` rounds as the target likes, `Exact` the same everywhere. */
export type Fused = f32;
export type Exact = i32;

const NR: usize = 8; // columns of a tile: two vectors
const MC: usize = 96; // rows of an A block
const KC: usize = 384; // longest panel

/** Bytes of scratch each rank needs for its A block and an edge tile; `src/runtime/scratch.ts` knows it too. */
export const RANK_SCRATCH: usize = (MC + 4) * KC * 4 + 6 * NR * 4;
const EDGE: usize = (MC + 4) * KC * 4; // where in it the edge tile lies

function multiplyAdd<Rounding>(a: v128, b: v128, c: v128): v128 {
  return isFloat<Rounding>() ? fma(a, b, c) : mulAdd(a, b, c);
}

/** Rows of the tall tile. Unfused, twelve accumulators and their products overflow the sixteen registers; ten do not. */
function MR<Rounding>(): usize {
  return FUSED && isFloat<Rounding>() ? 6 : 5;
}

/** Length of the blocks that k is cut into: equal ones, at most KC. */
function kBlock(k: usize): usize {
  if (k <= KC) return k;
  const blocks = (k + KC - 1) / KC;
  return (k + blocks - 1) / blocks;
}

/** Bytes of B [k, cols] in panels. */
export function packedBytes(k: usize, cols: usize): usize {
  return (((cols + NR - 1) / NR) * NR * k) << 2;
}

/**
 * Copies a k × width panel. Element (p, j) comes from `source + p · stride + 4 j`, or, transposed, from
 * `source + 4 p + j · stride`; columns from `valid` on are zero.
 */
function pack(
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
    for (let j: usize = 0; j < valid; j += 4) {
      if (j + 4 <= valid && !(k & 3))
        packQuad(panel + (j << 2), source + j * stride, stride, k, rowBytes);
      else {
        for (let i = j, last = min(j + 4, valid); i < last; i++) {
          let from = source + i * stride;
          let to = panel + (i << 2);
          for (const stop = from + (k << 2); from < stop; from += 4, to += rowBytes)
            store<f32>(to, load<f32>(from));
        }
      }
    }
    return;
  }
  if (valid == NR) {
    for (let p: usize = 0; p < k; p++, source += stride, panel += rowBytes) {
      v128.store(panel, v128.load(source));
      v128.store(panel, v128.load(source, 16), 16);
    }
    return;
  }
  for (let p: usize = 0; p < k; p++, source += stride, panel += rowBytes) {
    for (let j: usize = 0, bytes = valid << 2; j < bytes; j += 4)
      store<f32>(panel + j, load<f32>(source + j));
  }
}

/** Four rows of the source become four columns of the panel, a 4 × 4 transposition at a time. */
function packQuad(panel: usize, source: usize, stride: usize, k: usize, rowBytes: usize): void {
  const source2 = source + stride * 2;
  for (let p: usize = 0, bytes = k << 2; p < bytes; p += 16, panel += rowBytes << 2) {
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
      const source = transposed ? b + j * stride + (p << 2) : b + p * stride + (j << 2);
      pack(block + ((j * depth) << 2), source, stride, depth, NR, min(NR, cols - j), transposed);
    }
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

/** 6 × 8 tile; see `tile`. */
function tile6<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  b: usize,
  k: usize,
  bias: usize,
  accumulate: bool,
): void {
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
  if (accumulate) {
    c00 = v128.load(c, 0);
    c01 = v128.load(c, 16);
    c10 = v128.load(c1, 0);
    c11 = v128.load(c1, 16);
    c20 = v128.load(c2, 0);
    c21 = v128.load(c2, 16);
    c30 = v128.load(c3, 0);
    c31 = v128.load(c3, 16);
    c40 = v128.load(c4, 0);
    c41 = v128.load(c4, 16);
    c50 = v128.load(c5, 0);
    c51 = v128.load(c5, 16);
  }
  for (const last = b + (k << 5); b < last; b += 32, a += 24) {
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
}

/** 5 × 8 tile; see `tile`. */
function tile5<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  b: usize,
  k: usize,
  bias: usize,
  accumulate: bool,
): void {
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
  if (accumulate) {
    c00 = v128.load(c, 0);
    c01 = v128.load(c, 16);
    c10 = v128.load(c1, 0);
    c11 = v128.load(c1, 16);
    c20 = v128.load(c2, 0);
    c21 = v128.load(c2, 16);
    c30 = v128.load(c3, 0);
    c31 = v128.load(c3, 16);
    c40 = v128.load(c4, 0);
    c41 = v128.load(c4, 16);
  }
  for (const last = b + (k << 5); b < last; b += 32, a += 20) {
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
}

/** 4 × 8 tile; see `tile`. */
function tile4<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  b: usize,
  k: usize,
  bias: usize,
  accumulate: bool,
): void {
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
  if (accumulate) {
    c00 = v128.load(c, 0);
    c01 = v128.load(c, 16);
    c10 = v128.load(c1, 0);
    c11 = v128.load(c1, 16);
    c20 = v128.load(c2, 0);
    c21 = v128.load(c2, 16);
    c30 = v128.load(c3, 0);
    c31 = v128.load(c3, 16);
  }
  for (const last = b + (k << 5); b < last; b += 32, a += 16) {
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
  v128.store(c, c00, 0);
  v128.store(c, c01, 16);
  v128.store(c1, c10, 0);
  v128.store(c1, c11, 16);
  v128.store(c2, c20, 0);
  v128.store(c2, c21, 16);
  v128.store(c3, c30, 0);
  v128.store(c3, c31, 16);
}

/**
 * C [rows ≤ MR, 8] (+)= A panel · B panel over k, in registers. It starts at C if `accumulate`, else at the eight floats
 * of `bias`; pointer 0 is as good as no bias, since the null line of memory is always zero.
 */
function tile<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  b: usize,
  k: usize,
  bias: usize,
  accumulate: bool,
  height: usize,
): void {
  if (height == 4) tile4<Rounding>(c, stride, a, b, k, bias, accumulate);
  else if (MR<Rounding>() == 6) tile6<Rounding>(c, stride, a, b, k, bias, accumulate);
  else tile5<Rounding>(c, stride, a, b, k, bias, accumulate);
}

/** A tile of which only `rows` × `cols` lie inside C: computed beside it and copied. */
function edgeTile<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  b: usize,
  k: usize,
  bias: usize,
  accumulate: bool,
  height: usize,
  rows: usize,
  cols: usize,
  edge: usize,
): void {
  const columnBytes = cols << 2;
  if (accumulate) {
    for (let i: usize = 0; i < rows; i++) memory.copy(edge + (i << 5), c + i * stride, columnBytes);
  } else if (bias) {
    // The bias may end inside these eight columns, and what follows it is not ours to read.
    memory.fill(edge, 0, height << 5);
    for (let i: usize = 0; i < rows; i++) memory.copy(edge + (i << 5), bias, columnBytes);
    accumulate = true;
  }
  tile<Rounding>(edge, NR << 2, a, b, k, 0, accumulate, height);
  for (let i: usize = 0; i < rows; i++) memory.copy(c + i * stride, edge + (i << 5), columnBytes);
}

/**
 * This rank's share: rows [firstRow, lastRow) and column panels [firstPanel, lastPanel) of C (+)= A · packed B + bias.
 * A is stored row by row, or, transposed, column by column, with `aStride` bytes between them.
 */
function multiplyPacked<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  transposed: bool,
  packed: usize,
  k: usize,
  cols: usize,
  bias: usize,
  accumulate: bool,
  firstRow: usize,
  lastRow: usize,
  firstPanel: usize,
  lastPanel: usize,
  scratch: usize,
): void {
  const mr = MR<Rounding>();
  const kc = kBlock(k);
  const allCols = ((cols + NR - 1) / NR) * NR;

  for (let block = firstRow; block < lastRow; block += MC) {
    const blockEnd = min(block + MC, lastRow);
    for (let p: usize = 0; p < k; p += kc) {
      const depth = min(kc, k - p);
      const addToC = accumulate || p > 0;

      for (let i = block, panel = scratch; i < blockEnd;) {
        const height = blockEnd - i > 4 ? mr : 4;
        const valid = min(height, blockEnd - i);
        const source = transposed ? a + p * aStride + (i << 2) : a + i * aStride + (p << 2);
        pack(panel, source, aStride, depth, height, valid, !transposed);
        panel += (height * depth) << 2;
        i += valid;
      }

      for (let n = firstPanel; n < lastPanel; n++) {
        const j = n * NR;
        const width = min(NR, cols - j);
        const b = packed + ((allCols * p + j * depth) << 2);
        const biasJ = bias ? bias + (j << 2) : 0;
        for (let i = block, panel = scratch; i < blockEnd;) {
          const height = blockEnd - i > 4 ? mr : 4;
          const valid = min(height, blockEnd - i);
          const ci = c + i * cStride + (j << 2);
          if (valid == height && width == NR)
            tile<Rounding>(ci, cStride, panel, b, depth, biasJ, addToC, height);
          else
            edgeTile<Rounding>(
              ci,
              cStride,
              panel,
              b,
              depth,
              biasJ,
              addToC,
              height,
              valid,
              width,
              scratch + EDGE,
            );
          panel += (height * depth) << 2;
          i += valid;
        }
      }
    }
  }
}

/** C (+)= A · packed B + bias by the whole team: rows are shared out, or column panels where rows are few. */
export function multiplyTogether<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  transposed: bool,
  packed: usize,
  rows: usize,
  k: usize,
  cols: usize,
  bias: usize,
  accumulate: bool,
  scratch: usize,
): void {
  const mr = MR<Rounding>();
  const panels = (cols + NR - 1) / NR;
  const own = scratch + rankOf() * RANK_SCRATCH;
  if (rows < mr * teamSize()) {
    multiplyPacked<Rounding>(
      c,
      cStride,
      a,
      aStride,
      transposed,
      packed,
      k,
      cols,
      bias,
      accumulate,
      0,
      rows,
      begin(panels),
      end(panels),
      own,
    );
  } else {
    const tiles = (rows + mr - 1) / mr;
    multiplyPacked<Rounding>(
      c,
      cStride,
      a,
      aStride,
      transposed,
      packed,
      k,
      cols,
      bias,
      accumulate,
      begin(tiles) * mr,
      min(end(tiles) * mr, rows),
      0,
      panels,
      own,
    );
  }
  barrier();
}

/** C (+)= A · packed B by this rank alone, for the small products inside attention. */
export function multiplyAlone<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  transposed: bool,
  packed: usize,
  rows: usize,
  k: usize,
  cols: usize,
  accumulate: bool,
  scratch: usize,
): void {
  multiplyPacked<Rounding>(
    c,
    cStride,
    a,
    aStride,
    transposed,
    packed,
    k,
    cols,
    0,
    accumulate,
    0,
    rows,
    0,
    (cols + NR - 1) / NR,
    scratch,
  );
}
