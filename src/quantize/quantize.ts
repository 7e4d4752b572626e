import type { SafetensorsTensor } from "../files/safetensors.ts";
import type { ModelConfig, QuantizedDtype } from "../model/config.ts";
import { type EncoderWeights, type Linear, planInference } from "../model/inference-weights.ts";
import { loadWeights, storeWeights } from "../model/weights.ts";
import { Arena, size, type Tensor } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { Kernels } from "../runtime/kernels.ts";

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
): { config: ModelConfig; tensors: [string, SafetensorsTensor][] } {
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
  const memory = new WebAssembly.Memory({ initial: arena.pages, maximum: 65536, shared: true });
  const k = instantiate<Kernels>(module, memory);
  k.join(0, 1);
  const { buffer } = memory;
  loadWeights(buffer, from.named, tensors, file);

  const copy = (target: Tensor, source: Tensor): void => {
    new Float32Array(buffer, target.ptr, size(target.shape)).set(
      new Float32Array(buffer, source.ptr, size(source.shape)),
    );
  };
  const pack = (target: Linear, source: Linear): void => {
    if (target.dtype === "f32" || source.dtype !== "f32")
      throw new Error("internal: not a pair of a quantised layer and f32");
    // prettier-ignore
    k[`packInt${target.bits}`](target.codes.ptr, target.scales.ptr, target.sums.ptr, source.weight.ptr, source.outputs, source.inputs);
    copy(target.bias, source.bias);
  };

  const quantizeEncoder = (encoder: EncoderWeights, source: EncoderWeights): void => {
    // prettier-ignore
    k.quantizeRowsInt8(encoder.words.ptr, encoder.wordScales!.ptr, source.words.ptr, vocabSize, hiddenSize);
    for (const name of ["positions", "types", "gamma", "beta"] as const) {
      copy(encoder[name], source[name]);
    }
    encoder.layers.forEach((target, n) => {
      const layer = source.layers[n]!;
      for (const name of ["qkv", "attention", "up", "down"] as const)
        pack(target[name], layer[name]);
      for (const name of [
        "attentionGamma",
        "attentionBeta",
        "outputGamma",
        "outputBeta",
      ] as const) {
        copy(target[name], layer[name]);
      }
    });
  };

  if ("rows" in from.tokens && "scales" in to.tokens) {
    // Every token once, as its weighted vector.
    const { table, rows, weights } = from.tokens;
    new Int32Array(buffer, ids.ptr, vocabSize).forEach((_, i, all) => (all[i] = i));
    // prettier-ignore
    k.staticEmbeddingForward(folded.ptr, ids.ptr, table.ptr, rows.ptr, weights.ptr, vocabSize, hiddenSize);
    // prettier-ignore
    k.quantizeRowsInt8(to.tokens.table.ptr, to.tokens.scales.ptr, folded.ptr, vocabSize, hiddenSize);
  } else if ("layers" in from.tokens && "layers" in to.tokens) {
    quantizeEncoder(to.tokens, from.tokens);
  }
  to.modules.forEach((target, n) => {
    const step = from.modules[n]!;
    if (target.type === "dense" && step.type === "dense") pack(target.linear, step.linear);
    if (target.type === "layer_norm" && step.type === "layer_norm") {
      copy(target.gamma, step.gamma);
      copy(target.beta, step.beta);
    }
  });
  return { config: quantized, tensors: storeWeights(buffer, to.named) };
}
