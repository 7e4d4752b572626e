import type { SafetensorsTensor } from "../files/safetensors.ts";
import type { ModelConfig, QuantizedDtype } from "../model/config.ts";
import { type InferenceModel, type Linear, planInference } from "../model/inference-weights.ts";
import { checkFinite, loadWeights, storeWeights } from "../model/weights.ts";
import { Arena, size, type Tensor } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { Kernels } from "../runtime/kernels.ts";

/** What a model folder holds, in another dtype. */
interface Converted {
  readonly config: ModelConfig;
  readonly tensors: [string, SafetensorsTensor][];
}

/**
 * Weights of an f32 model in fewer bits, in the order the kernels read them. `module` is a binary with the training kernels.
 * Matrices get a scale per output (int8) or per 32 inputs of an output (int4), the word table is int8 with a scale per row;
 * biases, layer norms and positions stay f32. Of a static model each token's vector, its weight included, becomes a row of codes.
 * @throws RangeError for a model that is quantised already, and for int4 of a static one
 */
export function quantizeModel(
  module: WebAssembly.Module,
  config: ModelConfig,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
  dtype: QuantizedDtype = "int8",
): Converted {
  if (config.dtype !== "f32")
    throw new RangeError(`${file}: already ${config.dtype}; quantize the f32 model instead`);
  if (config.table && dtype !== "int8") {
    throw new RangeError(
      `${file}: ${dtype} is for linear layers, and a static model is a table; use int8`,
    );
  }
  const { vocabSize, hiddenSize } = config.encoder;
  const quantized: ModelConfig = { ...config, dtype };
  const arena = new Arena();
  const from = planInference(arena, config);
  const to = planInference(arena, quantized);
  const tokens = config.table ? vocabSize : 0;
  const ids = arena.reserve("ids", "I32", [tokens]);
  const folded = arena.tensor("folded", tokens, hiddenSize);
  const { k, buffer } = openMemory(module, arena);
  loadWeights(buffer, from.named, tensors, file);
  copyFloats(buffer, from, to);
  for (const [source, target] of linearPairs(from, to)) {
    if (source.dtype !== "f32" || target.dtype === "f32") throw new Error(NO_PAIR);
    // prettier-ignore
    k[`packInt${target.bits}`](target.codes.ptr, target.scales.ptr, target.sums.ptr, source.weight.ptr, source.outputs, source.inputs);
  }
  if ("rows" in from.tokens && "scales" in to.tokens) {
    // Every token once, as its weighted vector.
    const { table, rows, weights } = from.tokens;
    new Int32Array(buffer, ids.ptr, vocabSize).forEach((_, i, all) => (all[i] = i));
    // prettier-ignore
    k.staticEmbeddingForward(folded.ptr, ids.ptr, table.ptr, rows.ptr, weights.ptr, vocabSize, hiddenSize);
    // prettier-ignore
    k.quantizeRowsInt8(to.tokens.table.ptr, to.tokens.scales.ptr, folded.ptr, vocabSize, hiddenSize);
  } else if ("layers" in from.tokens && "layers" in to.tokens) {
    const { words, wordScales } = to.tokens;
    // prettier-ignore
    k.quantizeRowsInt8(words.ptr, wordScales!.ptr, from.tokens.words.ptr, vocabSize, hiddenSize);
  }
  return { config: quantized, tensors: storeWeights(buffer, to.named) };
}

/**
 * A quantised model in f32 again, to be trained or for other libraries: each weight is its code times its scale, what the
 * quantised model computes with. Quantising it gives the codes it had, but for the few int8 outputs whose scale had grown
 * (`assembly/int8.ts`). Of a static model every token gets a row of its own, with the weight in it.
 * @throws FormatError naming a tensor that is absent, has another shape, or makes no number; RangeError for a model in f32
 */
export function dequantizeModel(
  module: WebAssembly.Module,
  config: ModelConfig,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
): Converted {
  if (config.dtype === "f32") throw new RangeError(`${file}: in f32 already`);
  const { vocabSize, hiddenSize } = config.encoder;
  const table = config.table && { ...config.table, rows: vocabSize };
  const floats: ModelConfig = { ...config, dtype: "f32", ...(table && { table }) };
  const arena = new Arena();
  const from = planInference(arena, config);
  const to = planInference(arena, floats);
  const { k, buffer } = openMemory(module, arena);
  loadWeights(buffer, from.named, tensors, file);
  copyFloats(buffer, from, to);
  for (const [source, target] of linearPairs(from, to)) {
    if (source.dtype === "f32" || target.dtype !== "f32") throw new Error(NO_PAIR);
    // prettier-ignore
    k[`dequantizeInt${source.bits}`](target.weight.ptr, source.codes.ptr, source.scales.ptr, source.outputs, source.inputs);
  }
  if ("scales" in from.tokens && "rows" in to.tokens) {
    const { table: codes, scales } = from.tokens;
    const { table: vectors, rows, weights } = to.tokens;
    k.dequantizeRowsInt8(vectors.ptr, codes.ptr, scales.ptr, vocabSize, hiddenSize);
    new Int32Array(buffer, rows.ptr, vocabSize).forEach((_, i, all) => (all[i] = i));
    new Float32Array(buffer, weights.ptr, vocabSize).fill(1);
  } else if ("layers" in from.tokens && "layers" in to.tokens) {
    const { words, wordScales } = from.tokens;
    // prettier-ignore
    k.dequantizeRowsInt8(to.tokens.words.ptr, words.ptr, wordScales!.ptr, vocabSize, hiddenSize);
  }
  // A scale may be a number, and its product with a code none.
  for (const { name, ptr, shape, dtype } of to.named) {
    if (dtype === "F32") checkFinite(new Float32Array(buffer, ptr, size(shape)), name, file);
  }
  return { config: floats, tensors: storeWeights(buffer, to.named) };
}

const NO_PAIR = "internal: not a pair of a quantised layer and f32";

function openMemory(
  module: WebAssembly.Module,
  { pages }: Arena,
): { k: Kernels; buffer: ArrayBufferLike } {
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  const k = instantiate<Kernels>(module, memory);
  k.join(0, 1);
  return { k, buffer: memory.buffer };
}

/** The linear layers of a model and their counterparts in the same model of another dtype. */
function* linearPairs(from: InferenceModel, to: InferenceModel): Generator<[Linear, Linear]> {
  if ("layers" in from.tokens && "layers" in to.tokens) {
    for (const [n, source] of from.tokens.layers.entries()) {
      const target = to.tokens.layers[n]!;
      for (const name of ["qkv", "attention", "up", "down"] as const)
        yield [source[name], target[name]];
    }
  }
  for (const [n, source] of from.modules.entries()) {
    const target = to.modules[n]!;
    if (source.type === "dense" && target.type === "dense") yield [source.linear, target.linear];
  }
}

/** Copies what is f32 in every dtype: biases, layer norms, positions, token types. */
function copyFloats(buffer: ArrayBufferLike, from: InferenceModel, to: InferenceModel): void {
  const copy = (source: Tensor, target: Tensor): void => {
    new Float32Array(buffer, target.ptr, size(target.shape)).set(
      new Float32Array(buffer, source.ptr, size(source.shape)),
    );
  };
  for (const [source, target] of linearPairs(from, to)) copy(source.bias, target.bias);
  if ("layers" in from.tokens && "layers" in to.tokens) {
    for (const name of ["positions", "types", "gamma", "beta"] as const)
      copy(from.tokens[name], to.tokens[name]);
    for (const [n, source] of from.tokens.layers.entries()) {
      const target = to.tokens.layers[n]!;
      for (const name of [
        "attentionGamma",
        "attentionBeta",
        "outputGamma",
        "outputBeta",
      ] as const) {
        copy(source[name], target[name]);
      }
    }
  }
  for (const [n, source] of from.modules.entries()) {
    const target = to.modules[n]!;
    if (source.type !== "layer_norm" || target.type !== "layer_norm") continue;
    copy(source.gamma, target.gamma);
    copy(source.beta, target.beta);
  }
}
