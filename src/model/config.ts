import { FormatError } from "../errors.ts";

/** How token vectors become a sentence vector; `docs/architecture.md` relates the words to sentence-transformers'. */
export const POOLINGS = ["cls", "cls_before_pooler", "avg"] as const;
export type Pooling = (typeof POOLINGS)[number];

/** The shape of a BERT encoder. */
export interface EncoderConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly intermediateSize: number;
  /** Rows of the position table: the longest sequence there can be. */
  readonly maxPositions: number;
  readonly typeVocabSize: number;
  readonly layerNormEpsilon: number;
  readonly hiddenDropout: number;
  readonly attentionDropout: number;
}

/** What a model folder says beyond the encoder's shape. */
export interface ModelConfig {
  readonly encoder: EncoderConfig;
  readonly pooling: Pooling;
  /** Longest input in tokens, specials included. */
  readonly maxLength: number;
  readonly dtype: "f32" | "int8";
}

/**
 * Refuses a shape the kernels cannot run, before any memory exists. `name` says whose configuration it is.
 * @throws RangeError naming the field, its value and one that would do
 */
export function validateEncoder(c: EncoderConfig, name: string): void {
  const sizes = [
    ["vocab_size", c.vocabSize],
    ["hidden_size", c.hiddenSize],
    ["num_hidden_layers", c.numLayers],
    ["num_attention_heads", c.numHeads],
    ["intermediate_size", c.intermediateSize],
    ["max_position_embeddings", c.maxPositions],
    ["type_vocab_size", c.typeVocabSize],
  ] as const;
  for (const [field, value] of sizes) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(`${name}: ${field} must be a whole number from 1, found ${value}`);
    }
  }
  if (c.hiddenSize % c.numHeads !== 0) {
    const below = Math.floor(c.hiddenSize / c.numHeads) * c.numHeads;
    const choices = [below, below + c.numHeads].filter((n) => n > 0).join(" or ");
    throw new RangeError(
      `${name}: hidden_size ${c.hiddenSize} is not a multiple of ${c.numHeads} heads; use ${choices}`,
    );
  }
  const headDim = c.hiddenSize / c.numHeads;
  if (headDim % 4 !== 0) {
    throw new RangeError(
      `${name}: a head of ${headDim} (hidden_size ${c.hiddenSize} over ${c.numHeads} heads) is not a multiple of 4; ` +
        `use hidden_size ${c.numHeads * 4 * Math.ceil(headDim / 4)}`,
    );
  }
  if (c.intermediateSize % 4 !== 0) {
    throw new RangeError(
      `${name}: intermediate_size ${c.intermediateSize} is not a multiple of 4; use ${4 * Math.ceil(c.intermediateSize / 4)}`,
    );
  }
  for (const [field, value] of [
    ["hidden_dropout_prob", c.hiddenDropout],
    ["attention_probs_dropout_prob", c.attentionDropout],
  ] as const) {
    if (!(value >= 0 && value < 1))
      throw new RangeError(`${name}: ${field} must lie in [0, 1), found ${value}`);
  }
  if (!(c.layerNormEpsilon > 0)) {
    throw new RangeError(`${name}: layer_norm_eps must be above 0, found ${c.layerNormEpsilon}`);
  }
}

/** Reads a Hugging Face `config.json` of a BERT, with our own settings under the key `simcse_edge`. */
export function parseConfig(json: unknown, name: string): ModelConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new FormatError(`${name}: expected a JSON object, as Hugging Face writes it`);
  }
  const fields = json as Record<string, unknown>;
  expectOneOf(name, "model_type", fields["model_type"] ?? "bert", ["bert"]);
  expectOneOf(name, "hidden_act", fields["hidden_act"] ?? "gelu", ["gelu"]);
  expectOneOf(name, "position_embedding_type", fields["position_embedding_type"] ?? "absolute", [
    "absolute",
  ]);
  const number = (field: string, fallback?: number): number => {
    const value = fields[field] ?? fallback;
    if (typeof value !== "number") {
      throw new FormatError(`${name}: ${field} must be a number, found ${JSON.stringify(value)}`);
    }
    return value;
  };
  const encoder: EncoderConfig = {
    vocabSize: number("vocab_size"),
    hiddenSize: number("hidden_size"),
    numLayers: number("num_hidden_layers"),
    numHeads: number("num_attention_heads"),
    intermediateSize: number("intermediate_size"),
    maxPositions: number("max_position_embeddings"),
    typeVocabSize: number("type_vocab_size", 2),
    layerNormEpsilon: number("layer_norm_eps", 1e-12),
    hiddenDropout: number("hidden_dropout_prob", 0.1),
    attentionDropout: number("attention_probs_dropout_prob", 0.1),
  };
  validateEncoder(encoder, name);

  const own = (fields["simcse_edge"] ?? {}) as Record<string, unknown>;
  const maxLength = own["max_length"] ?? encoder.maxPositions;
  if (typeof maxLength !== "number" || !(maxLength >= 2 && maxLength <= encoder.maxPositions)) {
    throw new FormatError(
      `${name}: simcse_edge.max_length must lie between 2 and the ${encoder.maxPositions} positions of the model, ` +
        `found ${JSON.stringify(maxLength)}`,
    );
  }
  return {
    encoder,
    pooling: expectOneOf(name, "simcse_edge.pooling", own["pooling"] ?? "avg", POOLINGS),
    dtype: expectOneOf(name, "simcse_edge.dtype", own["dtype"] ?? "f32", ["f32", "int8"] as const),
    maxLength,
  };
}

/** The inverse of `parseConfig`. */
export function serializeConfig({ encoder, pooling, maxLength, dtype }: ModelConfig): object {
  return {
    architectures: ["BertModel"],
    model_type: "bert",
    vocab_size: encoder.vocabSize,
    hidden_size: encoder.hiddenSize,
    num_hidden_layers: encoder.numLayers,
    num_attention_heads: encoder.numHeads,
    intermediate_size: encoder.intermediateSize,
    max_position_embeddings: encoder.maxPositions,
    type_vocab_size: encoder.typeVocabSize,
    hidden_act: "gelu",
    layer_norm_eps: encoder.layerNormEpsilon,
    hidden_dropout_prob: encoder.hiddenDropout,
    attention_probs_dropout_prob: encoder.attentionDropout,
    position_embedding_type: "absolute",
    pad_token_id: 0,
    simcse_edge: { pooling, max_length: maxLength, dtype },
  };
}

function expectOneOf<T extends string>(
  name: string,
  field: string,
  value: unknown,
  choices: readonly T[],
): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) {
    throw new FormatError(
      `${name}: ${field} is ${JSON.stringify(value)}; should be one of: ${choices.join(", ")}`,
    );
  }
  return found;
}
