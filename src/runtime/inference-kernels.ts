/** A byte address in wasm linear memory; 0 means "absent". */
export type Pointer = number;

/**
 * What every binary of `assembly/` exports, and the edge binary alone: the forward pass and search. Every kernel is a collective:
 * all ranks of a team call it, in the same order, with the same arguments; when it returns, its outputs are complete and visible
 * to all of them.
 *
 * Arguments come in the order outputs, inputs, values saved by the forward pass, sizes, scratch. Parameter gradients
 * accumulate (`+=`), activation gradients are overwritten (`=`) unless `accumulate` is 1. Formulas, shapes and contracts
 * stand at the head of each file in `assembly/`. Scratch sizes are in `scratch.ts`.
 */
export interface InferenceKernels {
  heapBase(): Pointer;
  join(rank: number, size: number): void;
  barrier(): void;
  embeddingForward(
    y: Pointer,
    tokenIds: Pointer,
    positions: Pointer,
    words: Pointer,
    positionTable: Pointer,
    types: Pointer,
    tokens: number,
    hidden: number,
  ): void;
  embeddingInt8Forward(
    y: Pointer,
    tokenIds: Pointer,
    positions: Pointer,
    words: Pointer,
    scales: Pointer,
    positionTable: Pointer,
    types: Pointer,
    tokens: number,
    hidden: number,
  ): void;
  staticEmbeddingForward(
    y: Pointer,
    tokenIds: Pointer,
    table: Pointer,
    rows: Pointer,
    weights: Pointer,
    tokens: number,
    hidden: number,
  ): void;
  linearForward(
    y: Pointer,
    active: Pointer,
    x: Pointer,
    weight: Pointer,
    bias: Pointer,
    residual: Pointer,
    rows: number,
    inputs: number,
    outputs: number,
    form: number,
    scratch: Pointer,
  ): void;
  packLinear(packed: Pointer, weight: Pointer, inputs: number, outputs: number): void;
  linearPackedForward(
    y: Pointer,
    active: Pointer,
    x: Pointer,
    packed: Pointer,
    bias: Pointer,
    residual: Pointer,
    rows: number,
    inputs: number,
    outputs: number,
    form: number,
    scratch: Pointer,
  ): void;
  quantizeActivations(quantized: Pointer, x: Pointer, rows: number, cols: number): void;
  linearQuantizedForward(
    y: Pointer,
    active: Pointer,
    quantized: Pointer,
    codes: Pointer,
    scales: Pointer,
    sums: Pointer,
    bias: Pointer,
    residual: Pointer,
    rows: number,
    inputs: number,
    outputs: number,
    form: number,
    bits: number,
    scratch: Pointer,
  ): void;
  layerNormForward(
    y: Pointer,
    mean: Pointer,
    rstd: Pointer,
    x: Pointer,
    gamma: Pointer,
    beta: Pointer,
    rows: number,
    cols: number,
    epsilon: number,
  ): void;
  attentionForward(
    context: Pointer,
    logSumExp: Pointer,
    queries: Pointer,
    qkv: Pointer,
    offsets: Pointer,
    sequences: number,
    maxLength: number,
    heads: number,
    headDim: number,
    rate: number,
    seed: number,
    step: number,
    site: number,
    scratch: Pointer,
  ): void;
  attentionExactForward(
    context: Pointer,
    queries: Pointer,
    qkv: Pointer,
    offsets: Pointer,
    sequences: number,
    maxLength: number,
    heads: number,
    headDim: number,
    scratch: Pointer,
  ): void;
  geluForward(y: Pointer, x: Pointer, count: number, form: number): void;
  tanhForward(y: Pointer, x: Pointer, count: number): void;
  poolingForward(
    y: Pointer,
    x: Pointer,
    offsets: Pointer,
    sequences: number,
    hidden: number,
    mode: number,
  ): void;
  averageForward(y: Pointer, a: Pointer, b: Pointer, count: number): void;
  copyColumns(y: Pointer, x: Pointer, rows: number, cols: number, to: number, from: number): void;
  normalizeForward(y: Pointer, scales: Pointer, x: Pointer, rows: number, cols: number): void;
  innerProducts(
    scores: Pointer,
    vectors: Pointer,
    query: Pointer,
    rows: number,
    cols: number,
  ): void;
  innerProductsInt8(
    scores: Pointer,
    codes: Pointer,
    scales: Pointer,
    query: Pointer,
    rows: number,
    cols: number,
    scratch: Pointer,
  ): void;
  hopefulInt8(
    found: Pointer,
    codes: Pointer,
    scales: Pointer,
    sums: Pointer,
    query: Pointer,
    rows: number,
    cols: number,
    least: number,
    scratch: Pointer,
  ): void;
  sumCodes(sums: Pointer, codes: Pointer, rows: number, cols: number): void;
  signAgreements(scores: Pointer, bits: Pointer, query: Pointer, rows: number, cols: number): void;
  selectScores(found: Pointer, scores: Pointer, rows: number, least: number): void;
  quantizeRowsInt8(codes: Pointer, scales: Pointer, x: Pointer, rows: number, cols: number): void;
}
