/**
 * Scratch sizes in bytes, as the kernels' heads in `assembly/` state them. Kernels own no memory, so the plan must know
 * what each of them needs; the sentinels of the kernel tests stand right behind these sizes.
 */

/** Of `assembly/pack.ts` and `assembly/gemm.ts`: the longest panel, and rows that are so few that W is not packed for them. */
const KC = 384;
const FEW_ROWS = 32;

/** `RANK_SCRATCH` of `assembly/gemm.ts`: an A block and an edge tile. */
const RANK_SCRATCH = (2 * 96 + 4) * KC * 4 + 6 * 8 * 4;

const roundUp = (n: number, multiple: number): number => Math.ceil(n / multiple) * multiple;

/** A k × cols matrix in panels of eight columns. */
export function packedBytes(k: number, cols: number): number {
  return 4 * k * roundUp(cols, 8);
}

/** Any of the three products of a linear layer with these limits, by a team of `ranks`. */
export function linearScratch(
  rows: number,
  inputs: number,
  outputs: number,
  ranks: number,
): number {
  const packed = Math.max(
    packedBytes(inputs, outputs),
    packedBytes(inputs, Math.min(rows, FEW_ROWS)),
    packedBytes(outputs, inputs),
    packedBytes(Math.min(rows, KC), inputs),
  );
  return packed + ranks * RANK_SCRATCH;
}

/** `linearPackedForward`. */
export function linearPackedScratch(ranks: number): number {
  return ranks * RANK_SCRATCH;
}

/** Rows whose sums `assembly/layernorm.ts` makes apart. */
const LAYER_NORM_BLOCK = 64;

/** `layerNormBackward`. */
export function layerNormScratch(rows: number, cols: number): number {
  return Math.ceil(rows / LAYER_NORM_BLOCK) * 2 * cols * 4;
}

/** Bytes of a turn of `keepBytes` in `assembly/random.ts`, which needs as many behind them. */
const KEPT = 128;

/** `dropoutForward` and `dropoutBackward`. */
export function dropoutScratch(ranks: number): number {
  return ranks * 2 * KEPT;
}

/** Rows of scores `assembly/attention.ts` keeps at a time. */
const ATTENTION_ROWS = 48;

/** `attentionForward` and `attentionExactForward`. */
export function attentionForwardScratch(maxLength: number, headDim: number, ranks: number): number {
  const scores = 4 * ATTENTION_ROWS * roundUp(maxLength, 8);
  const kept = ATTENTION_ROWS * roundUp(maxLength, 16) + KEPT;
  return (
    ranks *
    (packedBytes(headDim, maxLength) +
      packedBytes(maxLength, headDim) +
      scores +
      4 * ATTENTION_ROWS +
      kept +
      RANK_SCRATCH)
  );
}

/** `attentionBackward`. */
export function attentionBackwardScratch(
  maxLength: number,
  headDim: number,
  ranks: number,
): number {
  const scores = 4 * ATTENTION_ROWS * roundUp(maxLength, 8);
  const panels =
    2 * packedBytes(headDim, maxLength) +
    packedBytes(maxLength, headDim) +
    2 * packedBytes(ATTENTION_ROWS, headDim);
  const kept = ATTENTION_ROWS * roundUp(maxLength, 16) + KEPT;
  return ranks * (panels + 2 * scores + kept + RANK_SCRATCH);
}

/** `infoNceForward`, `distillForward` (of the larger dimension, the student's or the teacher's), and their backward passes. */
export function infoNceScratch(
  rows: number,
  cols: number,
  dimension: number,
  ranks: number,
): number {
  const packed = Math.max(
    packedBytes(dimension, cols),
    packedBytes(cols, dimension),
    packedBytes(rows, dimension),
  );
  return packed + ranks * RANK_SCRATCH;
}

/** Words whose logits `assembly/mlm.ts` keeps at a time. */
const VOCABULARY_BLOCK = 1024;

/** `crossEntropyForward` and `crossEntropyBackward`: logits of a block, the packed operand. */
export function crossEntropyScratch(rows: number, hidden: number, ranks: number): number {
  const packed = Math.max(
    packedBytes(hidden, VOCABULARY_BLOCK),
    packedBytes(VOCABULARY_BLOCK, hidden),
    packedBytes(rows, hidden),
  );
  return 4 * rows * VOCABULARY_BLOCK + packed + ranks * RANK_SCRATCH;
}

/** `gradientNorm`: a partial sum for each block of 4096 elements, and for each touched row of a table. */
export function gradientNormScratch(count: number, rows: number): number {
  return 4 * (Math.ceil(count / 4096) + rows);
}

/** Steps whose factors `adamWRows` can make up for: `RING` of `assembly/adamw.ts`. */
export const MISSED_STEPS = 1024;

/** `innerProductsInt8` and `hopefulInt8`: the query in 16 bits, what it has above seven, and ones. */
export function searchInt8Scratch(cols: number): number {
  return 3 * cols + 16;
}

/** `BLOCK` and `LONG_BLOCK` of `assembly/linear-quantized.ts`: rows of outputs kept until their GELU is quantised, rows packed. */
const ACTIVE_ROWS = 32;
const PACKED_ROWS = 128;

/** `linearQuantizedForward`: a panel of the weight, a tile of products, rows of outputs, packed rows of codes. */
export function linearQuantizedScratch(inputs: number, outputs: number, ranks: number): number {
  return ranks * (8 * inputs + 128 + 4 * ACTIVE_ROWS * outputs + PACKED_ROWS * roundUp(inputs, 8));
}

/** What `quantizeActivations` writes: codes, then a scale and a minimum for each row. */
export function quantizedActivations(rows: number, cols: number): number {
  return rows * (cols + 8);
}

/** Bits of a quantised weight. */
export type Bits = 4 | 8;

/** Bytes of codes and numbers of scales that `packInt8` and `packInt4` write, in panels of eight outputs. */
export function quantizedWeight(
  bits: Bits,
  outputs: number,
  inputs: number,
): { codes: number; scales: number } {
  const rows = roundUp(outputs, 8);
  return {
    codes: (rows * inputs * bits) / 8,
    scales: rows * (bits === 4 ? Math.ceil(inputs / 32) : 1),
  };
}
