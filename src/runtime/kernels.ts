/** A byte address in wasm linear memory; 0 means "absent". */
export type Pointer = number;

/**
 * What a binary of `assembly/` exports. Every kernel is a collective: all ranks of a team call it, in the same order,
 * with the same arguments; when it returns, its outputs are complete and visible to all of them.
 *
 * Arguments come in the order outputs, inputs, values saved by the forward pass, sizes, scratch. Parameter gradients
 * accumulate (`+=`), activation gradients are overwritten (`=`) unless `accumulate` is 1. Formulas, shapes and contracts
 * stand at the head of each file in `assembly/`. Scratch sizes are in `scratch.ts`.
 */
export interface Kernels extends InferenceKernels {
  embeddingBackward(
    dWords: Pointer,
    dPositions: Pointer,
    dTypes: Pointer,
    dy: Pointer,
    tokenIds: Pointer,
    positions: Pointer,
    tokens: number,
    hidden: number,
  ): void;
  linearBackwardInput(
    dx: Pointer,
    dy: Pointer,
    weight: Pointer,
    rows: number,
    inputs: number,
    outputs: number,
    accumulate: number,
    scratch: Pointer,
  ): void;
  linearBackwardWeight(
    dWeight: Pointer,
    dBias: Pointer,
    dy: Pointer,
    x: Pointer,
    rows: number,
    inputs: number,
    outputs: number,
    scratch: Pointer,
  ): void;
  layerNormBackward(
    dx: Pointer,
    dGamma: Pointer,
    dBeta: Pointer,
    dy: Pointer,
    x: Pointer,
    gamma: Pointer,
    mean: Pointer,
    rstd: Pointer,
    rows: number,
    cols: number,
  ): void;
  attentionBackward(
    dQueries: Pointer,
    dqkv: Pointer,
    dContext: Pointer,
    queries: Pointer,
    qkv: Pointer,
    context: Pointer,
    logSumExp: Pointer,
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
  geluExactForward(y: Pointer, x: Pointer, count: number, form: number): void;
  addForward(y: Pointer, a: Pointer, b: Pointer, count: number): void;
  geluBackward(dx: Pointer, dy: Pointer, x: Pointer, count: number, form: number): void;
  tanhBackward(dx: Pointer, dy: Pointer, y: Pointer, count: number): void;
  dropoutForward(
    y: Pointer,
    x: Pointer,
    residual: Pointer,
    lines: Pointer,
    rows: number,
    cols: number,
    rate: number,
    seed: number,
    step: number,
    site: number,
    scratch: Pointer,
  ): void;
  dropoutBackward(
    dx: Pointer,
    dy: Pointer,
    lines: Pointer,
    rows: number,
    cols: number,
    rate: number,
    seed: number,
    step: number,
    site: number,
    scratch: Pointer,
  ): void;
  poolingBackward(
    dx: Pointer,
    dy: Pointer,
    offsets: Pointer,
    sequences: number,
    hidden: number,
    mean: number,
  ): void;
  infoNceForward(
    loss: Pointer,
    logits: Pointer,
    logSumExp: Pointer,
    columnLogSumExp: Pointer,
    anchorUnits: Pointer,
    keyUnits: Pointer,
    anchorScales: Pointer,
    keyScales: Pointer,
    anchors: Pointer,
    keys: Pointer,
    anchorIds: Pointer,
    keyIds: Pointer,
    rows: number,
    cols: number,
    dimension: number,
    temperature: number,
    hardNegativeWeight: number,
    cosine: number,
    scratch: Pointer,
  ): void;
  infoNceBackward(
    dAnchors: Pointer,
    dKeys: Pointer,
    logits: Pointer,
    logSumExp: Pointer,
    columnLogSumExp: Pointer,
    anchorUnits: Pointer,
    keyUnits: Pointer,
    anchorScales: Pointer,
    keyScales: Pointer,
    rows: number,
    cols: number,
    dimension: number,
    temperature: number,
    cosine: number,
    scratch: Pointer,
  ): void;
  distillForward(
    loss: Pointer,
    p: Pointer,
    s: Pointer,
    logSumExp: Pointer,
    rowLosses: Pointer,
    anchorUnits: Pointer,
    keyUnits: Pointer,
    anchorScales: Pointer,
    keyScales: Pointer,
    anchors: Pointer,
    keys: Pointer,
    anchorTeachers: Pointer,
    keyTeachers: Pointer,
    anchorIds: Pointer,
    keyIds: Pointer,
    rows: number,
    cols: number,
    dimension: number,
    teacherDimension: number,
    temperature: number,
    scratch: Pointer,
  ): void;
  distillBackward(
    dAnchors: Pointer,
    dKeys: Pointer,
    s: Pointer,
    p: Pointer,
    logSumExp: Pointer,
    anchorUnits: Pointer,
    keyUnits: Pointer,
    anchorScales: Pointer,
    keyScales: Pointer,
    rows: number,
    cols: number,
    dimension: number,
    temperature: number,
    scratch: Pointer,
  ): void;
  distanceForward(
    loss: Pointer,
    rowLosses: Pointer,
    units: Pointer,
    scales: Pointer,
    x: Pointer,
    teachers: Pointer,
    rows: number,
    dimension: number,
  ): void;
  distanceBackward(
    dx: Pointer,
    units: Pointer,
    scales: Pointer,
    teachers: Pointer,
    rows: number,
    dimension: number,
  ): void;
  crossEntropyForward(
    loss: Pointer,
    logSumExp: Pointer,
    own: Pointer,
    tops: Pointer,
    x: Pointer,
    words: Pointer,
    bias: Pointer,
    labels: Pointer,
    rows: number,
    hidden: number,
    vocab: number,
    scratch: Pointer,
  ): void;
  crossEntropyBackward(
    dx: Pointer,
    dWords: Pointer,
    dBias: Pointer,
    x: Pointer,
    words: Pointer,
    bias: Pointer,
    labels: Pointer,
    logSumExp: Pointer,
    rows: number,
    hidden: number,
    vocab: number,
    scale: number,
    scratch: Pointer,
  ): void;
  gradientNorm(
    norm: Pointer,
    gradient: Pointer,
    count: number,
    table: Pointer,
    touched: Pointer,
    rows: number,
    cols: number,
    partials: Pointer,
  ): void;
  adamWStep(
    weight: Pointer,
    gradient: Pointer,
    first: Pointer,
    second: Pointer,
    norm: Pointer,
    count: number,
    maxNorm: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    weightDecay: number,
    step: number,
  ): void;
  adamWFactors(
    factors: Pointer,
    learningRate: number,
    beta1: number,
    beta2: number,
    weightDecay: number,
    step: number,
  ): void;
  adamWRows(
    weight: Pointer,
    gradient: Pointer,
    first: Pointer,
    second: Pointer,
    last: Pointer,
    touched: Pointer,
    count: number,
    cols: number,
    norm: Pointer,
    factors: Pointer,
    maxNorm: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    step: number,
  ): void;
  zeroRows(table: Pointer, touched: Pointer, count: number, cols: number): void;
  moveAverage(average: Pointer, weight: Pointer, count: number, share: number): void;
  dropoutOrigin(row: number): void;
  staticMeanForward(
    y: Pointer,
    tokenIds: Pointer,
    offsets: Pointer,
    table: Pointer,
    rows: Pointer,
    weights: Pointer,
    sequences: number,
    hidden: number,
  ): void;
  staticMeanBackward(
    dTable: Pointer,
    dWeights: Pointer,
    dots: Pointer,
    dy: Pointer,
    tokenIds: Pointer,
    offsets: Pointer,
    table: Pointer,
    rows: Pointer,
    weights: Pointer,
    sequences: number,
    hidden: number,
  ): void;
  addColumns(
    y: Pointer,
    x: Pointer,
    rows: number,
    cols: number,
    to: number,
    from: number,
    scale: number,
  ): void;
  zero(address: Pointer, bytes: number): void;
  packInt8(
    codes: Pointer,
    scales: Pointer,
    sums: Pointer,
    weight: Pointer,
    outputs: number,
    inputs: number,
  ): void;
  packInt4(
    codes: Pointer,
    scales: Pointer,
    sums: Pointer,
    weight: Pointer,
    outputs: number,
    inputs: number,
  ): void;
  dequantizeInt8(
    weight: Pointer,
    codes: Pointer,
    scales: Pointer,
    outputs: number,
    inputs: number,
  ): void;
  dequantizeInt4(
    weight: Pointer,
    codes: Pointer,
    scales: Pointer,
    outputs: number,
    inputs: number,
  ): void;
  dequantizeRowsInt8(x: Pointer, codes: Pointer, scales: Pointer, rows: number, cols: number): void;
}

/** The forward pass and search: all that the edge binary holds. */
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
