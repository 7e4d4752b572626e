/**
 * The encoder without training: the same schedule as `encoder.ts`, minus dropout and minus what backward would need, for
 * f32 and for int8 weights, on any binary. Activations are reused from layer to layer.
 */
import { type Arena, type Tensor, view } from "../runtime/arena.ts";
import type { InferenceKernels } from "../runtime/kernels.ts";
import {
  attentionForwardScratch,
  linearInt8Scratch,
  linearScratch,
  packedInt8Bytes,
} from "../runtime/scratch.ts";
import type { Batch, BatchLimits } from "./batch.ts";
import type { ModelConfig } from "./config.ts";
import type { BatchSize } from "./encoder.ts";
import { planParameters } from "./parameters.ts";

/** A linear layer as the kernels want it. */
export type Linear = {
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: Tensor;
} & (
  | { readonly dtype: "f32"; readonly weight: Tensor }
  | {
      readonly dtype: "int8";
      readonly packed: Tensor;
      readonly scales: Tensor;
      readonly sums: Tensor;
    }
);

interface InferenceLayer {
  readonly qkv: Linear;
  readonly attention: Linear;
  readonly attentionGamma: Tensor;
  readonly attentionBeta: Tensor;
  readonly up: Linear;
  readonly down: Linear;
  readonly outputGamma: Tensor;
  readonly outputBeta: Tensor;
}

/** The weights of a model in memory. */
export interface InferenceModel {
  readonly words: Tensor;
  /** One scale a row where `words` are int8 codes. */
  readonly wordScales: Tensor | undefined;
  readonly positions: Tensor;
  readonly types: Tensor;
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly layers: readonly InferenceLayer[];
  readonly head: Linear | undefined;
  /** Every tensor of the model file, by its name there. */
  readonly named: readonly Tensor[];
}

/** Lays out the weights of a model folder of either dtype. */
export function planInference(arena: Arena, config: ModelConfig): InferenceModel {
  return config.dtype === "int8" ? planInt8(arena, config) : planFloat32(arena, config);
}

function planFloat32(arena: Arena, { encoder, pooling }: ModelConfig): InferenceModel {
  const p = planParameters(arena, encoder, pooling === "cls");
  const linear = (weight: Tensor, bias: Tensor): Linear => {
    const [outputs, inputs] = weight.shape as [number, number];
    return { dtype: "f32", inputs, outputs, weight, bias };
  };
  return {
    ...p,
    wordScales: undefined,
    layers: p.layers.map((w) => ({
      ...w,
      qkv: linear(w.qkvWeight, w.qkvBias),
      attention: linear(w.attentionWeight, w.attentionBias),
      up: linear(w.upWeight, w.upBias),
      down: linear(w.downWeight, w.downBias),
    })),
    head: p.head && linear(p.head.weight, p.head.bias),
  };
}

/** A quantised model file: f32 tensors keep their names, a weight becomes `.packed`, `.scales` and `.sums`. */
function planInt8(arena: Arena, { encoder, pooling }: ModelConfig): InferenceModel {
  const { hiddenSize: hidden, intermediateSize: intermediate } = encoder;
  const named: Tensor[] = [];
  const plan = (name: string, dtype: "F32" | "I8", ...shape: number[]): Tensor => {
    const tensor = arena.reserve(name, dtype, shape);
    named.push(tensor);
    return tensor;
  };
  const linear = (name: string, inputs: number, outputs: number): Linear => ({
    dtype: "int8",
    inputs,
    outputs,
    packed: plan(`${name}.packed`, "I8", packedInt8Bytes(outputs, inputs)),
    scales: plan(`${name}.scales`, "F32", outputs),
    sums: plan(`${name}.sums`, "F32", outputs),
    bias: plan(`${name}.bias`, "F32", outputs),
  });
  const layer = (name: string): InferenceLayer => ({
    qkv: linear(`${name}.attention.self.qkv`, hidden, 3 * hidden),
    attention: linear(`${name}.attention.output.dense`, hidden, hidden),
    attentionGamma: plan(`${name}.attention.output.LayerNorm.weight`, "F32", hidden),
    attentionBeta: plan(`${name}.attention.output.LayerNorm.bias`, "F32", hidden),
    up: linear(`${name}.intermediate.dense`, hidden, intermediate),
    down: linear(`${name}.output.dense`, intermediate, hidden),
    outputGamma: plan(`${name}.output.LayerNorm.weight`, "F32", hidden),
    outputBeta: plan(`${name}.output.LayerNorm.bias`, "F32", hidden),
  });
  return {
    words: plan("embeddings.word_embeddings.codes", "I8", encoder.vocabSize, hidden),
    wordScales: plan("embeddings.word_embeddings.scales", "F32", encoder.vocabSize),
    positions: plan("embeddings.position_embeddings.weight", "F32", encoder.maxPositions, hidden),
    types: plan("embeddings.token_type_embeddings.weight", "F32", encoder.typeVocabSize, hidden),
    gamma: plan("embeddings.LayerNorm.weight", "F32", hidden),
    beta: plan("embeddings.LayerNorm.bias", "F32", hidden),
    layers: Array.from({ length: encoder.numLayers }, (_, n) => layer(`encoder.layer.${n}`)),
    head: pooling === "cls" ? linear("pooler.dense", hidden, hidden) : undefined,
    named,
  };
}

/** Buffers of a forward pass. */
export interface InferenceBuffers {
  readonly x: Tensor; // [tokens, hidden]
  readonly branch: Tensor; // [tokens, hidden]
  readonly qkv: Tensor; // [tokens, 3 · hidden]
  readonly context: Tensor; // [tokens, hidden]
  readonly up: Tensor; // [tokens, intermediate]
  readonly logSumExp: Tensor; // [heads, tokens]
  readonly pooled: Tensor; // [sequences, hidden]
  readonly headed: Tensor; // [sequences, hidden]
  readonly scales: Tensor; // [sequences], 1 / norm
  readonly scratch: Tensor;
}

export function planInferenceBuffers(
  arena: Arena,
  { encoder }: ModelConfig,
  { tokens, sequences, maxLength }: BatchLimits,
  ranks: number,
): InferenceBuffers {
  const { hiddenSize: hidden, intermediateSize: intermediate, numHeads } = encoder;
  const products = [
    [hidden, 3 * hidden],
    [hidden, hidden],
    [hidden, intermediate],
    [intermediate, hidden],
  ] as const;
  const rows = Math.max(tokens, sequences);
  const scratch = Math.max(
    attentionForwardScratch(maxLength, hidden / numHeads, ranks),
    ...products.map(([inputs, outputs]) => linearScratch(0, inputs, outputs, ranks)),
    ...products.map(([inputs]) => linearInt8Scratch(rows, inputs)),
  );
  return {
    x: arena.tensor("x", tokens, hidden),
    branch: arena.tensor("branch", tokens, hidden),
    qkv: arena.tensor("qkv", tokens, 3 * hidden),
    context: arena.tensor("context", tokens, hidden),
    up: arena.tensor("up", tokens, intermediate),
    logSumExp: arena.tensor("logSumExp", numHeads, tokens),
    pooled: arena.tensor("pooled", sequences, hidden),
    headed: arena.tensor("headed", sequences, hidden),
    scales: arena.tensor("scales", sequences),
    scratch: arena.scratch("scratch", scratch),
  };
}

function applyLinear(
  k: InferenceKernels,
  y: Tensor,
  x: Tensor,
  l: Linear,
  rows: number,
  scratch: Tensor,
): void {
  // prettier-ignore
  if (l.dtype === "f32") k.linearForward(y.ptr, x.ptr, l.weight.ptr, l.bias.ptr, rows, l.inputs, l.outputs, scratch.ptr);
  else k.linearInt8Forward(y.ptr, x.ptr, l.packed.ptr, l.scales.ptr, l.sums.ptr, l.bias.ptr, rows, l.inputs, l.outputs, scratch.ptr);
}

/** Sentence vectors [sequences, hidden], on the unit sphere if `normalize`. */
export function encode(
  k: InferenceKernels,
  { encoder, pooling, dtype }: ModelConfig,
  m: InferenceModel,
  b: InferenceBuffers,
  batch: Batch,
  { tokens, sequences }: BatchSize,
  maxLength: number,
  normalize: boolean,
): Tensor {
  const {
    hiddenSize: hidden,
    intermediateSize: intermediate,
    numHeads: heads,
    layerNormEpsilon: epsilon,
  } = encoder;
  const headDim = hidden / heads;
  const { x, branch, qkv, context, up, scratch } = b;

  // prettier-ignore
  if (m.wordScales) k.embeddingInt8Forward(x.ptr, batch.tokenIds.ptr, batch.positions.ptr, m.words.ptr, m.wordScales.ptr, m.positions.ptr, m.types.ptr, tokens, hidden);
  else k.embeddingForward(x.ptr, batch.tokenIds.ptr, batch.positions.ptr, m.words.ptr, m.positions.ptr, m.types.ptr, tokens, hidden);
  k.layerNormForward(x.ptr, 0, 0, x.ptr, m.gamma.ptr, m.beta.ptr, tokens, hidden, epsilon);
  for (const l of m.layers) {
    applyLinear(k, qkv, x, l.qkv, tokens, scratch);
    // prettier-ignore
    if (dtype === "int8") k.attentionExactForward(context.ptr, qkv.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, scratch.ptr);
    else k.attentionForward(context.ptr, b.logSumExp.ptr, qkv.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, 0, 0, 0, 0, scratch.ptr);
    applyLinear(k, branch, context, l.attention, tokens, scratch);
    k.addForward(x.ptr, x.ptr, branch.ptr, tokens * hidden);
    k.layerNormForward(
      x.ptr,
      0,
      0,
      x.ptr,
      l.attentionGamma.ptr,
      l.attentionBeta.ptr,
      tokens,
      hidden,
      epsilon,
    );

    applyLinear(k, up, x, l.up, tokens, scratch);
    k.geluForward(up.ptr, up.ptr, tokens * intermediate);
    applyLinear(k, branch, up, l.down, tokens, scratch);
    k.addForward(x.ptr, x.ptr, branch.ptr, tokens * hidden);
    k.layerNormForward(
      x.ptr,
      0,
      0,
      x.ptr,
      l.outputGamma.ptr,
      l.outputBeta.ptr,
      tokens,
      hidden,
      epsilon,
    );
  }
  k.poolingForward(
    b.pooled.ptr,
    x.ptr,
    batch.offsets.ptr,
    sequences,
    hidden,
    pooling === "avg" ? 1 : 0,
  );
  let y = b.pooled;
  if (m.head) {
    applyLinear(k, b.headed, b.pooled, m.head, sequences, scratch);
    k.tanhForward(b.headed.ptr, b.headed.ptr, sequences * hidden);
    y = b.headed;
  }
  if (normalize) k.normalizeForward(y.ptr, b.scales.ptr, y.ptr, sequences, hidden);
  return view(y, "embeddings", 0, sequences, hidden);
}
