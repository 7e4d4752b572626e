import type { InferenceKernels, Pointer } from "./inference-kernels.ts";

/** What the binaries of `assembly/` that train export: backward passes and the optimizer too. */
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
