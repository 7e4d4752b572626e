/** The weights of a model in memory, as inference lays them out: f32 or quantised, of a BERT or a static model, and its modules. */
import { type Arena, type ElementType, type Tensor, view } from "../runtime/arena.ts";
import { type Bits, quantizedWeight } from "../runtime/scratch.ts";
import {
  type Dtype,
  isOfFirsts,
  type ModelConfig,
  poolingsOf,
  type QuantizedDtype,
  validatePooling,
} from "./config.ts";
import { planParameters } from "./parameters.ts";

/** A linear layer as the kernels want it. */
export type Linear = {
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: Tensor;
} & (
  | { readonly dtype: "f32"; readonly weight: Tensor }
  | {
      readonly dtype: QuantizedDtype;
      readonly bits: Bits;
      readonly codes: Tensor; // packed, in panels of eight outputs
      readonly scales: Tensor; // likewise, one for each group of inputs
      readonly sums: Tensor; // [outputs]
    }
);

interface InferenceLayer {
  readonly qkv: Linear;
  /** The same in two, where first tokens alone ask and all tokens answer. */
  readonly apart?: { readonly queries: Linear; readonly keysValues: Linear };
  readonly attention: Linear;
  readonly attentionGamma: Tensor;
  readonly attentionBeta: Tensor;
  readonly up: Linear;
  readonly down: Linear;
  readonly outputGamma: Tensor;
  readonly outputBeta: Tensor;
}

/** The weights of a BERT. */
export interface EncoderWeights {
  readonly words: Tensor;
  /** One scale a row where `words` are int8 codes. */
  readonly wordScales: Tensor | undefined;
  readonly positions: Tensor;
  readonly types: Tensor;
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly layers: readonly InferenceLayer[];
}

/** The weights of a static model: a row of the table for each token, times a weight; or int8 codes for each token. */
export type TableWeights =
  | {
      readonly table: Tensor; // [rows, hidden]
      readonly rows: Tensor; // [vocab] int32
      readonly weights: Tensor; // [vocab]
    }
  | {
      readonly table: Tensor; // [vocab, hidden] int8
      readonly scales: Tensor; // [vocab]
    };

/** What the pooled vector goes through; BERT's pooler is the first, where pooling is "cls". */
export type InferenceModule =
  | { readonly type: "dense"; readonly linear: Linear; readonly tanh: boolean }
  | { readonly type: "layer_norm"; readonly gamma: Tensor; readonly beta: Tensor }
  | { readonly type: "normalize" };

/** The weights of a model in memory. */
export interface InferenceModel {
  readonly tokens: EncoderWeights | TableWeights;
  readonly modules: readonly InferenceModule[];
  /** Every tensor of the model file, by its name there. */
  readonly named: readonly Tensor[];
}

/** Lays out the weights of a model folder of any dtype. */
export function planInference(arena: Arena, config: ModelConfig): InferenceModel {
  validatePooling(config, "model");
  const { tokens, head, named } = config.table
    ? planTable(arena, config, config.table.rows)
    : config.dtype === "f32"
      ? planFloat32(arena, config)
      : planQuantized(arena, config, config.dtype);
  const plan = (name: string, dtype: ElementType, ...shape: number[]): Tensor => {
    const tensor = arena.reserve(name, dtype, shape);
    named.push(tensor);
    return tensor;
  };
  const modules = (config.modules ?? []).map((module, i): InferenceModule => {
    const name = `modules.${i}`;
    switch (module.type) {
      case "dense": {
        const { inputs, outputs, activation } = module;
        const linear = planLinear(plan, config.dtype, `${name}.linear`, inputs, outputs);
        return { type: "dense", linear, tanh: activation === "tanh" };
      }
      case "layer_norm":
        return {
          type: "layer_norm",
          gamma: plan(`${name}.norm.weight`, "F32", module.size),
          beta: plan(`${name}.norm.bias`, "F32", module.size),
        };
      default:
        return module;
    }
  });
  const pooler = head && ({ type: "dense", linear: head, tanh: true } as const);
  return {
    tokens: poolsFirst(config) && "layers" in tokens ? withLayerOfFirsts(tokens) : tokens,
    modules: pooler ? [pooler, ...modules] : modules,
    named,
  };
}

/**
 * Whether a sentence's vector is that of its first token, so that the last layer is computed for first tokens only, as in
 * `encoder.ts`. Its projection comes apart between panels of eight outputs.
 */
export function poolsFirst(config: ModelConfig): boolean {
  const { numLayers, hiddenSize } = config.encoder;
  const [pooling = "avg", ...others] = poolingsOf(config);
  return isOfFirsts(pooling) && others.length === 0 && numLayers > 0 && hiddenSize % 8 === 0;
}

function withLayerOfFirsts(weights: EncoderWeights): EncoderWeights {
  const last = weights.layers.at(-1)!;
  const { inputs: hidden } = last.qkv;
  const queries = outputsOf(last.qkv, 0, hidden);
  const keysValues = outputsOf(last.qkv, hidden, 3 * hidden);
  const layer = { ...last, apart: { queries, keysValues } };
  return { ...weights, layers: [...weights.layers.slice(0, -1), layer] };
}

/** The layer that computes outputs [from, to) of another, both multiples of 8: the same tensors, from a later address. */
function outputsOf(l: Linear, from: number, to: number): Linear {
  const part = (tensor: Tensor, each: number): Tensor =>
    view(tensor, tensor.name, from * each, (to - from) * each);
  const shape = { inputs: l.inputs, outputs: to - from, bias: part(l.bias, 1) };
  if (l.dtype === "f32") return { ...shape, dtype: l.dtype, weight: part(l.weight, l.inputs) };
  const { codes, scales } = quantizedWeight(l.bits, 8, l.inputs);
  return {
    ...l,
    ...shape,
    codes: part(l.codes, codes / 8),
    scales: part(l.scales, scales / 8),
    sums: part(l.sums, 1),
  };
}

/** What a plan of any dtype gives; modules add their tensors to `named`. */
interface TokenPlan {
  readonly tokens: EncoderWeights | TableWeights;
  readonly head: Linear | undefined;
  readonly named: Tensor[];
}

type Plan = (name: string, dtype: ElementType, ...shape: number[]) => Tensor;

/** An f32 weight, or its codes, scales and sums. */
function planLinear(
  plan: Plan,
  dtype: Dtype,
  name: string,
  inputs: number,
  outputs: number,
): Linear {
  const shape = { inputs, outputs };
  if (dtype === "f32") {
    const weight = plan(`${name}.weight`, "F32", outputs, inputs);
    return { ...shape, dtype, weight, bias: plan(`${name}.bias`, "F32", outputs) };
  }
  const bits = dtype === "int8" ? 8 : 4;
  const { codes, scales } = quantizedWeight(bits, outputs, inputs);
  return {
    ...shape,
    dtype,
    bits,
    codes: plan(`${name}.codes`, "I8", codes),
    scales: plan(`${name}.scales`, "F32", scales),
    sums: plan(`${name}.sums`, "F32", outputs),
    bias: plan(`${name}.bias`, "F32", outputs),
  };
}

function planTable(arena: Arena, { encoder, dtype }: ModelConfig, tableRows: number): TokenPlan {
  const { vocabSize, hiddenSize } = encoder;
  if (dtype !== "f32") {
    const table = arena.reserve("embeddings.codes", "I8", [vocabSize, hiddenSize]);
    const scales = arena.tensor("embeddings.scales", vocabSize);
    return { tokens: { table, scales }, head: undefined, named: [table, scales] };
  }
  const table = arena.tensor("embeddings", tableRows, hiddenSize);
  const rows = arena.reserve("mapping", "I32", [vocabSize]);
  const weights = arena.tensor("weights", vocabSize);
  return { tokens: { table, rows, weights }, head: undefined, named: [table, rows, weights] };
}

function planFloat32(arena: Arena, { encoder, pooling }: ModelConfig): TokenPlan {
  const p = planParameters(arena, encoder, pooling === "cls");
  const linear = (weight: Tensor, bias: Tensor): Linear => {
    const [outputs, inputs] = weight.shape as [number, number];
    return { dtype: "f32", inputs, outputs, weight, bias };
  };
  const layers = p.layers.map((w) => ({
    ...w,
    qkv: linear(w.qkvWeight, w.qkvBias),
    attention: linear(w.attentionWeight, w.attentionBias),
    up: linear(w.upWeight, w.upBias),
    down: linear(w.downWeight, w.downBias),
  }));
  const head = p.head && linear(p.head.weight, p.head.bias);
  const { positions, types, gamma, beta } = p;
  return {
    tokens: { words: p.table, wordScales: undefined, positions, types, gamma, beta, layers },
    head,
    named: [...p.named],
  };
}

/** A quantised model file: f32 tensors keep their names, a weight becomes `.codes`, `.scales` and `.sums`. */
function planQuantized(
  arena: Arena,
  { encoder, pooling }: ModelConfig,
  dtype: QuantizedDtype,
): TokenPlan {
  const { hiddenSize: hidden, intermediateSize: intermediate } = encoder;
  const named: Tensor[] = [];
  const plan: Plan = (name, type, ...shape) => {
    const tensor = arena.reserve(name, type, shape);
    named.push(tensor);
    return tensor;
  };
  const linear = (name: string, inputs: number, outputs: number): Linear =>
    planLinear(plan, dtype, name, inputs, outputs);
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
  const tokens: EncoderWeights = {
    words: plan("embeddings.word_embeddings.codes", "I8", encoder.vocabSize, hidden),
    wordScales: plan("embeddings.word_embeddings.scales", "F32", encoder.vocabSize),
    positions: plan("embeddings.position_embeddings.weight", "F32", encoder.maxPositions, hidden),
    types: plan("embeddings.token_type_embeddings.weight", "F32", encoder.typeVocabSize, hidden),
    gamma: plan("embeddings.LayerNorm.weight", "F32", hidden),
    beta: plan("embeddings.LayerNorm.bias", "F32", hidden),
    layers: Array.from({ length: encoder.numLayers }, (_, n) => layer(`encoder.layer.${n}`)),
  };
  const head = pooling === "cls" ? linear("pooler.dense", hidden, hidden) : undefined;
  return { tokens, head, named };
}
