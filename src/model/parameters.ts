import { type Arena, type Tensor, view } from "../runtime/arena.ts";
import type { EncoderConfig } from "./config.ts";

/** A run of floats that AdamW treats alike. */
export interface Region {
  readonly ptr: number;
  readonly count: number;
}

export interface LayerParameters {
  /** Query, key and value above one another, so that one product makes all three: [3 · hidden, hidden], [3 · hidden]. */
  readonly qkvWeight: Tensor;
  readonly qkvBias: Tensor;
  readonly attentionWeight: Tensor; // [hidden, hidden]
  readonly attentionBias: Tensor;
  readonly attentionGamma: Tensor;
  readonly attentionBeta: Tensor;
  readonly upWeight: Tensor; // [intermediate, hidden]
  readonly upBias: Tensor;
  readonly downWeight: Tensor; // [hidden, intermediate]
  readonly downBias: Tensor;
  readonly outputGamma: Tensor;
  readonly outputBeta: Tensor;
}

/** The parameters of a model as AdamW sees them. */
export interface ParameterSet {
  /** One tensor for each name in a model file. */
  readonly named: readonly Tensor[];
  /** Vectors of tokens, of which a batch touches few: [rows, hidden]. They decay. */
  readonly table: Tensor;
  /** The other matrices and tables, which weight decay shrinks. */
  readonly decayed: Region;
  /** Biases and layer norms, which it does not. */
  readonly plain: Region;
}

/** All but the table, as one run of floats. */
export function flat({ decayed, plain }: ParameterSet): Region {
  return { ptr: decayed.ptr, count: decayed.count + plain.count };
}

/**
 * Every parameter of an encoder and its head; the same structure describes weights, gradients and Adam's moments. The
 * table is that of the words, and names are those of a Hugging Face BertModel.
 */
export interface Parameters extends ParameterSet {
  readonly positions: Tensor; // [positions, hidden]
  readonly types: Tensor; // [types, hidden]
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly layers: readonly LayerParameters[];
  /** Linear + tanh on the first token, BERT's pooler; absent when nothing uses it. */
  readonly head: { readonly weight: Tensor; readonly bias: Tensor } | undefined;
  /** What guesses masked tokens, with the word table as decoder; absent when nothing uses it. */
  readonly mlmHead: MlmHead | undefined;
}

/** BERT's head of a masked language model: dense, GELU, layer norm, and a bias for each word. */
export interface MlmHead {
  readonly weight: Tensor; // [hidden, hidden]
  readonly bias: Tensor;
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly wordBias: Tensor; // [vocab]
}

/** What the names of its tensors begin with. */
export const MLM_HEAD = "cls.predictions.";

/** Lays out all parameters: the table, then what else decays, then the others. The layout is a function of `config` and the heads. */
export function planParameters(
  arena: Arena,
  config: EncoderConfig,
  head: boolean,
  { prefix = "", mlmHead = false }: { prefix?: string; mlmHead?: boolean } = {},
): Parameters {
  const { hiddenSize: hidden, intermediateSize: intermediate } = config;
  const named: Tensor[] = [];
  const plan = (name: string, ...shape: number[]): Tensor => {
    const tensor = arena.tensor(prefix + name, ...shape);
    named.push({ ...tensor, name });
    return tensor;
  };
  const qkv = (layer: string, kind: "weight" | "bias", shape: number[]): Tensor => {
    const all = arena.tensor(
      `${prefix}${layer}.attention.self.qkv.${kind}`,
      3 * hidden,
      ...shape.slice(1),
    );
    const part = shape.reduce((product, n) => product * n, 1);
    ["query", "key", "value"].forEach((name, i) => {
      named.push(view(all, `${layer}.attention.self.${name}.${kind}`, i * part, ...shape));
    });
    return all;
  };
  const names = Array.from({ length: config.numLayers }, (_, n) => `encoder.layer.${n}`);

  const table = plan("embeddings.word_embeddings.weight", config.vocabSize, hidden);
  const start = arena.top;
  const positions = plan("embeddings.position_embeddings.weight", config.maxPositions, hidden);
  const types = plan("embeddings.token_type_embeddings.weight", config.typeVocabSize, hidden);
  const matrices = names.map((layer) => ({
    qkvWeight: qkv(layer, "weight", [hidden, hidden]),
    attentionWeight: plan(`${layer}.attention.output.dense.weight`, hidden, hidden),
    upWeight: plan(`${layer}.intermediate.dense.weight`, intermediate, hidden),
    downWeight: plan(`${layer}.output.dense.weight`, hidden, intermediate),
  }));
  const headWeight = head ? plan("pooler.dense.weight", hidden, hidden) : undefined;
  const transform = mlmHead ? plan(`${MLM_HEAD}transform.dense.weight`, hidden, hidden) : undefined;

  const middle = arena.top;
  const gamma = plan("embeddings.LayerNorm.weight", hidden);
  const beta = plan("embeddings.LayerNorm.bias", hidden);
  const layers = matrices.map((weights, n) => ({
    ...weights,
    qkvBias: qkv(names[n]!, "bias", [hidden]),
    attentionBias: plan(`${names[n]}.attention.output.dense.bias`, hidden),
    attentionGamma: plan(`${names[n]}.attention.output.LayerNorm.weight`, hidden),
    attentionBeta: plan(`${names[n]}.attention.output.LayerNorm.bias`, hidden),
    upBias: plan(`${names[n]}.intermediate.dense.bias`, intermediate),
    downBias: plan(`${names[n]}.output.dense.bias`, hidden),
    outputGamma: plan(`${names[n]}.output.LayerNorm.weight`, hidden),
    outputBeta: plan(`${names[n]}.output.LayerNorm.bias`, hidden),
  }));
  const headBias = head ? plan("pooler.dense.bias", hidden) : undefined;
  const mlm = transform && {
    weight: transform,
    bias: plan(`${MLM_HEAD}transform.dense.bias`, hidden),
    gamma: plan(`${MLM_HEAD}transform.LayerNorm.weight`, hidden),
    beta: plan(`${MLM_HEAD}transform.LayerNorm.bias`, hidden),
    wordBias: plan(`${MLM_HEAD}bias`, config.vocabSize),
  };
  const end = arena.top;

  return {
    table,
    positions,
    types,
    gamma,
    beta,
    layers,
    head: headWeight && headBias ? { weight: headWeight, bias: headBias } : undefined,
    mlmHead: mlm,
    named,
    // Gaps of alignment inside a region hold zeros, gradients of zero and moments of zero: AdamW leaves them so.
    decayed: { ptr: start, count: (middle - start) / 4 },
    plain: { ptr: middle, count: (end - middle) / 4 },
  };
}
