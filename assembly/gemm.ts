/**
 * Matrix product C (+)= A · B (+ bias + residual), and GELU(C) beside it if wanted: the one loop nest behind every dense product of the model (Goto & van de Geijn 2008,
 * Anatomy of high-performance matrix multiplication; Van Zee & van de Geijn 2015, BLIS).
 *
 *   C [rows, cols]    A [rows, k]    B [k, cols]    stored row by row or, transposed, column by column, with a stride
 *
 *   B panel: 8 columns of B, k × 8           4 bytes · 8 · KC = 12 KB in L1
 *   A panel: a tile's rows of A, k × height  unless the tile reads them where they lie
 *   A block: MC rows of A                    4 bytes · MC · KC = 147 KB in L2
 *
 * The sum over k runs in one order whatever the tile, the batch and the team: blocks of kBlock(k), and inside a block one
 * chain of multiply-adds that starts at the bias or at C. So a row of C depends on its row of A alone, bit for bit, and k
 * is never shared out among ranks.
 */
import { geluRows } from "./activation";
import { KC, kBlock, pack, packAlone, packSixes } from "./pack";
import { barrier, begin, end, rankOf, teamSize } from "./team";
import { NR, readsRows, tallest, tile, tileHeight } from "./tile";

const MC: usize = 96; // rows of an A block: whole tiles of six
const NC: usize = 96; // panels of B that a block meets: with it, 768 columns of C stay in L2
const FEW: usize = 8; // panels of B up to which packing A costs more than its scattered rows
const STRIP: usize = 4 * NR; // columns of B that few rows meet at a time
export const FEW_ROWS: usize = 32;

/** Bytes of scratch each rank needs for its A block and an edge tile; `src/runtime/scratch.ts` knows it too. */
export const RANK_SCRATCH: usize = (MC + 4) * KC * 4 + 6 * NR * 4;
const EDGE: usize = (MC + 4) * KC * 4; // where in it the edge tile lies

/** A tile of which only `rows` × `cols` lie inside C: computed beside it and copied. */
function edgeTile<Rounding>(
  c: usize,
  stride: usize,
  a: usize,
  rowStep: usize,
  b: usize,
  k: usize,
  bias: usize,
  start: usize,
  height: usize,
  rows: usize,
  cols: usize,
  edge: usize,
): void {
  const columnBytes = cols << 2;
  if (start || bias) {
    memory.fill(edge, 0, height << 5);
    for (let i: usize = 0; i < rows; i++) {
      const row = edge + (i << 5);
      if (start) memory.copy(row, start + i * stride, columnBytes);
      // The bias may end inside these eight columns, and what follows it is not ours to read.
      if (bias) {
        for (let j: usize = 0; j < columnBytes; j += 4)
          store<f32>(row + j, load<f32>(bias + j) + load<f32>(row + j));
      }
    }
    start = edge;
  }
  tile<Rounding>(edge, NR << 2, a, rowStep, b, k, 0, start, height);
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
  residual: usize,
  active: usize,
  form: usize,
  firstRow: usize,
  lastRow: usize,
  firstPanel: usize,
  lastPanel: usize,
  scratch: usize,
): void {
  const allCols = ((cols + NR - 1) / NR) * NR;
  for (let i = firstRow; i < lastRow; i += MC) {
    for (let n = firstPanel; n < lastPanel; n += NC) {
      multiplyBlock<Rounding>(
        c,
        cStride,
        a,
        aStride,
        transposed,
        packed,
        k,
        cols,
        allCols,
        bias,
        accumulate,
        residual,
        active,
        form,
        i,
        min(i + MC, lastRow),
        n,
        min(n + NC, lastPanel),
        scratch,
      );
    }
  }
}

/** A block of C that stays in L2 while the blocks of k pass. */
function multiplyBlock<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  transposed: bool,
  packed: usize,
  k: usize,
  cols: usize,
  allCols: usize,
  bias: usize,
  accumulate: bool,
  residual: usize,
  active: usize,
  form: usize,
  firstRow: usize,
  lastRow: usize,
  firstPanel: usize,
  lastPanel: usize,
  scratch: usize,
): void {
  const kc = kBlock(k);
  const packsAll = transposed || !readsRows<Rounding>() || lastPanel - firstPanel > FEW;
  for (let p: usize = 0; p < k; p += kc) {
    const depth = min(kc, k - p);
    const addsToC = accumulate || p > 0;

    let row = firstRow;
    let next = scratch;
    if (transposed && tallest<Rounding>() == 6) {
      while (lastRow - row >= 6 && tileHeight<Rounding>(lastRow - row) == 6) row += 6;
      packSixes(scratch, a + p * aStride + (firstRow << 2), aStride, depth, (row - firstRow) / 6);
      next += ((row - firstRow) * depth) << 2;
    }
    for (let i = row, panel = next; i < lastRow;) {
      const height = tileHeight<Rounding>(lastRow - i);
      const valid = min(height, lastRow - i);
      // The rows of a tile that reaches past the last one are packed too, with zeros below them.
      if (packsAll || valid < height) {
        const source = transposed ? a + p * aStride + (i << 2) : a + i * aStride + (p << 2);
        pack(panel, source, aStride, depth, height, valid, !transposed);
      }
      panel += (height * depth) << 2;
      i += valid;
    }

    for (let n = firstPanel; n < lastPanel; n++) {
      const j = n * NR;
      const width = min(NR, cols - j);
      const b = packed + ((allCols * p + j * depth) << 2);
      const biasJ = bias && p == 0 ? bias + (j << 2) : 0;
      for (let i = firstRow, panel = scratch; i < lastRow;) {
        const height = tileHeight<Rounding>(lastRow - i);
        const valid = min(height, lastRow - i);
        const isPacked = packsAll || valid < height;
        const ai = isPacked ? panel : a + i * aStride + (p << 2);
        const rowStep: usize = isPacked ? 0 : aStride;
        const at = i * cStride + (j << 2);
        const ci = c + at;
        const start = addsToC ? ci : residual ? residual + at : 0;
        if (valid == height && width == NR) {
          tile<Rounding>(ci, cStride, ai, rowStep, b, depth, biasJ, start, height);
        } else {
          edgeTile<Rounding>(
            ci,
            cStride,
            ai,
            rowStep,
            b,
            depth,
            biasJ,
            start,
            height,
            valid,
            width,
            scratch + EDGE,
          );
        }
        panel += (height * depth) << 2;
        i += valid;
      }
    }
  }

  // Here, while the block lies in L2, and not tile by tile: whole rows keep the divisions of many vectors in flight.
  if (active) {
    const at = firstRow * cStride + ((firstPanel * NR) << 2);
    const bytes = (min(lastPanel * NR, cols) - firstPanel * NR) << 2;
    geluRows<Rounding>(active + at, c + at, cStride, lastRow - firstRow, bytes, form);
  }
}

/**
 * C (+)= A · packed B + bias + residual by the whole team: rows are shared out, or column panels where rows are few. The residual
 * and `active`, which gets GELU(C), lie as C does, or are C; 0 is none.
 */
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
  residual: usize,
  active: usize,
  form: usize,
  scratch: usize,
): void {
  const mr = tallest<Rounding>();
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
      residual,
      active,
      form,
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
      residual,
      active,
      form,
      begin(tiles) * mr,
      min(end(tiles) * mr, rows),
      0,
      panels,
      own,
    );
  }
  barrier();
}

/**
 * The same where rows are few, FEW_ROWS at most, of a B that is not packed yet: each rank packs four panels of its own and multiplies
 * by them while they lie in L2, then the next four. Packed as a whole, B would go out to memory and come back to be read once.
 */
export function multiplyStrips<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  b: usize,
  bStride: usize,
  transposed: bool,
  rows: usize,
  k: usize,
  cols: usize,
  bias: usize,
  accumulate: bool,
  residual: usize,
  active: usize,
  form: usize,
  packed: usize,
  scratch: usize,
): void {
  const panels = (cols + NR - 1) / NR;
  const last = min(end(panels) * NR, cols);
  const strip = packed + ((begin(panels) * NR * k) << 2);
  for (let j = begin(panels) * NR; j < last; j += STRIP) {
    const width = min(STRIP, last - j);
    const at = j << 2;
    packAlone(strip, transposed ? b + j * bStride : b + at, bStride, k, width, transposed);
    multiplyPacked<Rounding>(
      c + at,
      cStride,
      a,
      aStride,
      false,
      strip,
      k,
      width,
      bias ? bias + at : 0,
      accumulate,
      residual ? residual + at : 0,
      active ? active + at : 0,
      form,
      0,
      rows,
      0,
      (width + NR - 1) / NR,
      scratch + rankOf() * RANK_SCRATCH,
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
    0,
    0,
    0,
    rows,
    0,
    (cols + NR - 1) / NR,
    scratch,
  );
}
