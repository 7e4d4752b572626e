/**
 * The encoder without training: the same schedule as `encoder.ts`, minus dropout and minus what backward would need, for
 * f32 and for quantised weights, on any binary. Activations are reused from layer to layer.
 */
import { type Arena, type Tensor, view } from "../runtime/arena.ts";
import type { InferenceKernels, Pointer } from "../runtime/inference-kernels.ts";
import {
  attentionForwardScratch,
  linearQuantizedScratch,
  linearScratch,
  quantizedActivations,
} from "../runtime/scratch.ts";
import type { Batch, BatchLimits } from "./batch.ts";
import {
  geluForm,
  type InferencePooling,
  type ModelConfig,
  poolingsOf,
  secondLayer,
  sizesOf,
} from "./config.ts";
import type { BatchSize } from "./encoder.ts";
import {
  type EncoderWeights,
  type InferenceModel,
  type InferenceModule,
  type Linear,
  poolsFirst,
} from "./inference-weights.ts";

/** Buffers of a forward pass; a static model has no use for those of the layers. */
export interface InferenceBuffers {
  readonly x: Tensor; // [tokens, hidden]
  readonly earlier: Tensor; // [tokens, hidden], a layer's output that pooling needs besides the last
  readonly quantized: Tensor; // the input of a quantised layer, as `quantizeActivations` leaves it
  readonly qkv: Tensor; // [tokens, 3 · hidden]
  readonly queries: Tensor; // [sequences, hidden], where first tokens alone ask
  readonly context: Tensor; // [tokens, hidden]
  readonly up: Tensor; // [tokens, intermediate]; of quantised layers as they take it
  readonly logSumExp: Tensor; // [heads, tokens]
  readonly vectors: readonly [Tensor, Tensor]; // [sequences, widest], by turns
  readonly scales: Tensor; // [sequences], 1 / norm
  readonly scratch: Tensor;
}

export function planInferenceBuffers(
  arena: Arena,
  config: ModelConfig,
  { tokens, sequences, maxLength }: BatchLimits,
  ranks: number,
): InferenceBuffers {
  const { hiddenSize: hidden, intermediateSize: intermediate, numHeads } = config.encoder;
  const dense = (config.modules ?? []).filter((module) => module.type === "dense");
  const layered = config.table ? 0 : tokens;
  const products: readonly (readonly [inputs: number, outputs: number])[] = [
    ...dense.map(({ inputs, outputs }) => [inputs, outputs] as const),
    [hidden, 3 * hidden],
    [hidden, intermediate],
    [intermediate, hidden],
  ];
  const widest = Math.max(sizesOf(config).pooled, ...dense.map(({ outputs }) => outputs));
  const quantized = config.dtype !== "f32";
  const scratch = Math.max(
    config.table ? 0 : attentionForwardScratch(maxLength, hidden / numHeads, ranks),
    ...products.map(([inputs, outputs]) =>
      quantized
        ? linearQuantizedScratch(inputs, outputs, ranks)
        : linearScratch(0, inputs, outputs, ranks),
    ),
  );
  const codes = Math.max(
    quantizedActivations(layered, hidden),
    ...dense.map(({ inputs }) => quantizedActivations(sequences, inputs)),
  );
  const two = secondLayer(config.encoder, config.pooling) === undefined ? 0 : tokens;
  return {
    x: arena.tensor("x", tokens, hidden),
    earlier: arena.tensor("earlier", two, hidden),
    quantized: arena.scratch("quantized", quantized ? codes : 0),
    qkv: arena.tensor("qkv", layered, 3 * hidden),
    queries: arena.tensor("queries", poolsFirst(config) ? sequences : 0, hidden),
    context: arena.tensor("context", layered, hidden),
    up: quantized
      ? arena.scratch("up", quantizedActivations(layered, intermediate))
      : arena.tensor("up", layered, intermediate),
    logSumExp: arena.tensor("logSumExp", numHeads, layered),
    vectors: [
      arena.tensor("vectors", sequences, widest),
      arena.tensor("otherVectors", sequences, widest),
    ],
    scales: arena.tensor("scales", sequences),
    scratch: arena.scratch("scratch", scratch),
  };
}

/** Whether a packed f32 weight is as large as the weight, and takes its place; others are packed at every call. */
function isPacked({ outputs }: Linear): boolean {
  return outputs % 8 === 0;
}

/** Packs the f32 weights of a model where they lie, once for all products; `scratch` is as large as that of a forward pass. */
export function packWeights(
  k: InferenceKernels,
  buffer: ArrayBufferLike,
  model: InferenceModel,
  scratch: Pointer,
): void {
  const layers = "layers" in model.tokens ? model.tokens.layers : [];
  const linears = [
    ...layers.flatMap(({ qkv, apart, attention, up, down }) => [
      ...(apart ? [apart.queries, apart.keysValues] : [qkv]),
      attention,
      up,
      down,
    ]),
    ...model.modules.flatMap((module) => (module.type === "dense" ? [module.linear] : [])),
  ];
  for (const l of linears) {
    if (l.dtype !== "f32" || !isPacked(l)) continue;
    k.packLinear(scratch, l.weight.ptr, l.inputs, l.outputs);
    const end = scratch + 4 * l.inputs * l.outputs;
    new Uint8Array(buffer).copyWithin(l.weight.ptr, scratch, end);
  }
}

/** What a linear layer does to its outputs besides. */
interface Epilogue {
  readonly residual?: Tensor;
  /** The form of GELU. */
  readonly gelu?: number;
}

/** y = GELU(x Wᵀ + b + residual); y may be the residual. GELU leaves bytes where y is of bytes, and a layer takes them as x. */
function applyLinear(
  k: InferenceKernels,
  y: Tensor,
  x: Tensor,
  l: Linear,
  rows: number,
  { quantized, scratch }: InferenceBuffers,
  { residual, gelu }: Epilogue = {},
): void {
  const active = gelu === undefined ? 0 : y.ptr;
  const added = residual?.ptr ?? 0;
  if (l.dtype !== "f32") {
    const codes = x.dtype === "I8" ? x : quantized;
    if (codes !== x) k.quantizeActivations(codes.ptr, x.ptr, rows, l.inputs);
    // prettier-ignore
    k.linearQuantizedForward(y.ptr, active, codes.ptr, l.codes.ptr, l.scales.ptr, l.sums.ptr, l.bias.ptr, added, rows, l.inputs, l.outputs, gelu ?? 0, l.bits, scratch.ptr);
    return;
  }
  const linear = isPacked(l) ? "linearPackedForward" : "linearForward";
  // prettier-ignore
  k[linear](y.ptr, active, x.ptr, l.weight.ptr, l.bias.ptr, added, rows, l.inputs, l.outputs, gelu ?? 0, scratch.ptr);
}

/** Sentence vectors [sequences, dimension], on the unit sphere if `normalize`. */
export function encode(
  k: InferenceKernels,
  config: ModelConfig,
  m: InferenceModel,
  b: InferenceBuffers,
  batch: Batch,
  size: BatchSize,
  maxLength: number,
  normalize: boolean,
): Tensor {
  let x = b.x;
  if ("scales" in m.tokens) {
    const { table, scales } = m.tokens;
    // prettier-ignore
    k.embeddingInt8Forward(x.ptr, batch.tokenIds.ptr, batch.positions.ptr, table.ptr, scales.ptr, 0, 0, size.tokens, config.encoder.hiddenSize);
  } else if ("table" in m.tokens) {
    const { table, rows, weights } = m.tokens;
    // prettier-ignore
    k.staticEmbeddingForward(x.ptr, batch.tokenIds.ptr, table.ptr, rows.ptr, weights.ptr, size.tokens, config.encoder.hiddenSize);
  } else {
    x = encodeTokens(k, config, m.tokens, b, batch, size, maxLength);
  }
  return sentenceVectors(k, config, m.modules, b, batch, x, size.sequences, normalize);
}

/** Vectors [tokens, hidden] of the last layer, or the average of two; or of first tokens alone, [sequences, hidden]. */
function encodeTokens(
  k: InferenceKernels,
  config: ModelConfig,
  m: EncoderWeights,
  b: InferenceBuffers,
  batch: Batch,
  { tokens, sequences }: BatchSize,
  maxLength: number,
): Tensor {
  const { hiddenSize: hidden, numHeads: heads, layerNormEpsilon: epsilon } = config.encoder;
  const gelu = geluForm(config.encoder);
  const headDim = hidden / heads;
  const { qkv, queries, context, up, scratch } = b;
  const second = secondLayer(config.encoder, config.pooling);

  let x = second === -1 ? b.earlier : b.x;
  // prettier-ignore
  if (m.wordScales) k.embeddingInt8Forward(x.ptr, batch.tokenIds.ptr, batch.positions.ptr, m.words.ptr, m.wordScales.ptr, m.positions.ptr, m.types.ptr, tokens, hidden);
  else k.embeddingForward(x.ptr, batch.tokenIds.ptr, batch.positions.ptr, m.words.ptr, m.positions.ptr, m.types.ptr, tokens, hidden);
  k.layerNormForward(x.ptr, 0, 0, x.ptr, m.gamma.ptr, m.beta.ptr, tokens, hidden, epsilon);
  for (const [n, l] of m.layers.entries()) {
    applyLinear(k, qkv, x, l.apart?.keysValues ?? l.qkv, tokens, b);
    // In place, unless pooling needs this layer's output, or the input of this layer, later.
    let y = n === second ? b.earlier : b.x;
    let rows = tokens;
    if (l.apart) {
      k.poolingForward(b.vectors[0].ptr, x.ptr, batch.offsets.ptr, sequences, hidden, MODES.cls);
      x = y = b.vectors[0];
      rows = sequences;
      applyLinear(k, queries, x, l.apart.queries, rows, b);
    }
    const asked = l.apart ? queries.ptr : 0;
    // prettier-ignore
    if (config.dtype !== "f32") k.attentionExactForward(context.ptr, asked, qkv.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, scratch.ptr);
    else k.attentionForward(context.ptr, b.logSumExp.ptr, asked, qkv.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, 0, 0, 0, 0, scratch.ptr);
    applyLinear(k, y, context, l.attention, rows, b, { residual: x });
    x = y;
    // prettier-ignore
    k.layerNormForward(x.ptr, 0, 0, x.ptr, l.attentionGamma.ptr, l.attentionBeta.ptr, rows, hidden, epsilon);

    applyLinear(k, up, x, l.up, rows, b, { gelu });
    applyLinear(k, x, up, l.down, rows, b, { residual: x });
    // prettier-ignore
    k.layerNormForward(x.ptr, 0, 0, x.ptr, l.outputGamma.ptr, l.outputBeta.ptr, rows, hidden, epsilon);
  }
  if (second !== undefined) k.averageForward(x.ptr, x.ptr, b.earlier.ptr, tokens * hidden);
  return x;
}

/** The modes of `poolingForward`. */
const MODES = {
  cls: 0,
  cls_before_pooler: 0,
  avg: 1,
  avg_top2: 1,
  avg_first_last: 1,
  avg_embeddings_last: 1,
  max: 2,
  mean_sqrt_len: 3,
  weightedmean: 4,
  lasttoken: 5,
} as const satisfies Record<InferencePooling, number>;

/** PyTorch's, which sentence-transformers keeps. */
const LAYER_NORM_EPSILON = 1e-5;

/** Sentence vectors from token vectors: pooling, the modules, and what the caller wants on top. */
function sentenceVectors(
  k: InferenceKernels,
  config: ModelConfig,
  modules: readonly InferenceModule[],
  b: InferenceBuffers,
  batch: Batch,
  x: Tensor,
  rows: number,
  normalize: boolean,
): Tensor {
  const hidden = config.encoder.hiddenSize;
  let [y, other] = b.vectors;
  const swap = (): void => {
    [y, other] = [other, y];
  };
  // First tokens come as they are, where their vectors belong.
  const poolings = x === y ? [] : poolingsOf(config);
  let { pooled: size } = sizesOf(config);
  poolings.forEach((pooling, i) => {
    const alone = poolings.length === 1;
    // prettier-ignore
    k.poolingForward(alone ? y.ptr : other.ptr, x.ptr, batch.offsets.ptr, rows, hidden, MODES[pooling]);
    if (!alone) k.copyColumns(y.ptr + 4 * i * hidden, other.ptr, rows, hidden, size, hidden);
  });
  for (const module of modules) {
    if (module.type === "normalize") {
      k.normalizeForward(y.ptr, b.scales.ptr, y.ptr, rows, size);
    } else if (module.type === "layer_norm") {
      const { gamma, beta } = module;
      k.layerNormForward(y.ptr, 0, 0, y.ptr, gamma.ptr, beta.ptr, rows, size, LAYER_NORM_EPSILON);
    } else {
      applyLinear(k, other, y, module.linear, rows, b);
      swap();
      size = module.linear.outputs;
      if (module.tanh) k.tanhForward(y.ptr, y.ptr, rows * size);
    }
  }
  const { vector } = sizesOf(config);
  if (vector < size) {
    k.copyColumns(other.ptr, y.ptr, rows, vector, vector, size);
    swap();
  }
  if (normalize) k.normalizeForward(y.ptr, b.scales.ptr, y.ptr, rows, vector);
  return view(y, "embeddings", 0, rows, vector);
}
