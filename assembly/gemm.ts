/**
 * Matrix product C (+)= A · B (+ bias + residual), and GELU(C) beside it if wanted: the one loop nest behind every dense product of the model (Goto & van de Geijn 2008,
 * Anatomy of high-performance matrix multiplication; Van Zee & van de Geijn 2015, BLIS).
 *
 *   C [rows, cols]    A [rows, k]    B [k, cols]    stored row by row or, transposed, column by column, with a stride
 *
 *   B panel: 8 columns of B, k × 8           4 bytes · 8 · KC = 12 KB in L1
 *   A panel: a tile's rows of A, k × height  unless the tile reads them where they lie
 *   A block: MC rows of A                    4 bytes · MC · KC = 147 KB in L2, twice as many where B is large
 *
 * The sum over k runs in one order whatever the tile, the batch and the team: blocks of kBlock(k), and inside a block one
 * chain of multiply-adds that starts at the bias or at C. So a row of C depends on its row of A alone, bit for bit, and k
 * is never shared out among ranks.
 */
import { geluRows } from "./activation";
import { KC, kBlock, pack, packSixes } from "./pack";
import { barrier, begin, end, rankOf, teamSize } from "./team";
import { NR, PANEL, readsRows, tallest, tile, tileHeight } from "./tile";

export const MC: usize = 96; // rows of an A block: whole tiles of six
const LARGE: usize = 1 << 20; // elements of a B that is read from beyond L2 for every block: twice as many rows meet it then
const NC: usize = 96; // panels of B that a block meets: with it, 768 columns of C stay in L2
const FEW: usize = 8; // panels of B up to which packing A costs more than its scattered rows; twice as many of a shallow product
const SHALLOW: usize = 64; // up to this k
const SMALL: usize = 512; // rows of panels that L1 holds beside the rest: 16 KB
const IN_PLACE: usize = 192; // rows of a B that is not packed: L2 holds a line of each wherever they lie
export const FEW_ROWS: usize = 32;

/** Bytes of scratch each rank needs for its A block and an edge tile; `src/runtime/scratch.ts` knows it too. */
export const RANK_SCRATCH: usize = (2 * MC + 4) * KC * 4 + 6 * NR * 4;
const EDGE: usize = (2 * MC + 4) * KC * 4; // where in it the edge tile lies
const LAST: usize = (FEW_ROWS + 4) * KC * 4; // and the last panel of a B that is not packed, behind an A block of few rows

/** A tile of which only `rows` × `cols` lie inside C: computed beside it and copied. */
function edgeTile<Rounding>(
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
  tile<Rounding>(edge, NR << 2, a, rowStep, b, bStep, k, 0, start, height, 1);
  for (let i: usize = 0; i < rows; i++) memory.copy(c + i * stride, edge + (i << 5), columnBytes);
}

/**
 * This rank's share: rows [firstRow, lastRow) and column panels [firstPanel, lastPanel) of C (+)= A · B + bias.
 * A is stored row by row, or, transposed, column by column, with `aStride` bytes between them. B is packed, or, where `bStride`
 * is not 0, stored row by row.
 */
function multiplyShare<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  transposed: bool,
  b: usize,
  bStride: usize,
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
  const mc: usize = k * cols > LARGE ? <usize>2 * MC : MC;
  const nc = bStride ? lastPanel : NC; // rows that are few leave room in L2 for all columns
  for (let i = firstRow; i < lastRow; i += mc) {
    for (let n = firstPanel; n < lastPanel; n += nc) {
      multiplyBlock<Rounding>(
        c,
        cStride,
        a,
        aStride,
        transposed,
        b,
        bStride,
        k,
        cols,
        bias,
        accumulate,
        residual,
        active,
        form,
        i,
        min(i + mc, lastRow),
        n,
        min(n + nc, lastPanel),
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
  b: usize,
  bStride: usize,
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
  const kc = bStride ? min(kBlock(k), IN_PLACE) : kBlock(k);
  const allCols = ((cols + NR - 1) / NR) * NR;
  const panels = lastPanel - firstPanel;
  const packsAll = transposed || !readsRows<Rounding>() || panels > (k > SHALLOW ? FEW : 2 * FEW);
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

    // dW of few rows spends its time on C, and tiles follow its rows; so they do those of a B that is not packed, and where L1 holds all of B.
    // Others go down the rows, with a panel of B in L1.
    const along =
      (transposed && k <= FEW_ROWS) || bStride != 0 || (!bias && panels * depth <= SMALL);
    let panel = scratch;
    for (let i = firstRow, n = firstPanel; i < lastRow && n < lastPanel;) {
      const height = tileHeight<Rounding>(lastRow - i);
      const valid = min(height, lastRow - i);
      const isPacked = packsAll || valid < height;
      const ai = isPacked ? panel : a + i * aStride + (p << 2);
      const rowStep: usize = isPacked ? 0 : aStride;
      const j = n * NR;
      const width = min(NR, cols - j);
      let bn = b + ((allCols * p + j * depth) << 2);
      let bStep = PANEL;
      if (bStride) {
        bn = b + p * bStride + (j << 2);
        bStep = bStride;
        if (width < NR) {
          pack(scratch + LAST, bn, bStride, depth, NR, width, false);
          bn = scratch + LAST;
          bStep = PANEL;
        }
      }
      const biasJ = bias && p == 0 ? bias + (j << 2) : 0;
      const at = i * cStride + (j << 2);
      const ci = c + at;
      const start = addsToC ? ci : residual ? residual + at : 0;
      let count: usize = 1;
      if (valid == height && width == NR) {
        if (along) count = min(lastPanel, cols / NR) - n;
        tile<Rounding>(ci, cStride, ai, rowStep, bn, bStep, depth, biasJ, start, height, count);
      } else {
        edgeTile<Rounding>(
          ci,
          cStride,
          ai,
          rowStep,
          bn,
          bStep,
          depth,
          biasJ,
          start,
          height,
          valid,
          width,
          scratch + EDGE,
        );
      }
      if (along && n + count < lastPanel) {
        n += count;
      } else {
        panel += (height * depth) << 2;
        i += valid;
        if (along) {
          n = firstPanel;
        } else if (i >= lastRow) {
          panel = scratch;
          i = firstRow;
          n++;
        }
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
    multiplyShare<Rounding>(
      c,
      cStride,
      a,
      aStride,
      transposed,
      packed,
      0,
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
    multiplyShare<Rounding>(
      c,
      cStride,
      a,
      aStride,
      transposed,
      packed,
      0,
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

/** C (+)= A · B where rows are few, FEW_ROWS at most, and B is stored row by row: tiles read it where it lies. Ranks share column panels. */
export function multiplyInPlace<Rounding>(
  c: usize,
  cStride: usize,
  a: usize,
  aStride: usize,
  b: usize,
  bStride: usize,
  rows: usize,
  k: usize,
  cols: usize,
  accumulate: bool,
  scratch: usize,
): void {
  const panels = (cols + NR - 1) / NR;
  const own = scratch + rankOf() * RANK_SCRATCH;
  // prettier-ignore
  multiplyShare<Rounding>(c, cStride, a, aStride, false, b, bStride, k, cols, 0, accumulate, 0, 0, 0, 0, rows, begin(panels), end(panels), own);
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
  multiplyShare<Rounding>(
    c,
    cStride,
    a,
    aStride,
    transposed,
    packed,
    0,
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
