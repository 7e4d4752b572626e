import { FormatError } from "../errors.ts";

/** How token vectors become a sentence vector; `docs/architecture.md` relates the words to sentence-transformers'. */
export const POOLINGS = [
  "cls",
  "cls_before_pooler",
  "avg",
  "avg_top2",
  "avg_first_last",
  "avg_embeddings_last",
] as const;
export type Pooling = (typeof POOLINGS)[number];

/** What inference knows besides, as other libraries train it. */
const OTHER_POOLINGS = ["max", "mean_sqrt_len", "weightedmean", "lasttoken"] as const;
export type InferencePooling = Pooling | (typeof OTHER_POOLINGS)[number];
export const INFERENCE_POOLINGS: readonly InferencePooling[] = [...POOLINGS, ...OTHER_POOLINGS];

/** Number formats of the weights of linear layers; where these are quantised, tables of vectors are int8. */
export const QUANTIZED_DTYPES = ["int8", "int4"] as const;
export type QuantizedDtype = (typeof QUANTIZED_DTYPES)[number];
export type Dtype = "f32" | QuantizedDtype;
export const DTYPES: readonly Dtype[] = ["f32", ...QUANTIZED_DTYPES];

/** These need more than the last layer's token vectors, so they stand alone. */
const UNMIXED: readonly InferencePooling[] = [
  "cls",
  "avg_top2",
  "avg_first_last",
  "avg_embeddings_last",
];

/** A step from the pooled vector to the sentence vector; its tensors are called `modules.<place>.…`. */
export type Module =
  | {
      readonly type: "dense";
      readonly inputs: number;
      readonly outputs: number;
      readonly activation: "tanh" | "identity";
    }
  | { readonly type: "layer_norm"; readonly size: number }
  | { readonly type: "normalize" };

/** The shape of a BERT encoder; with no layers, that of a table which holds a static vector for every token. */
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
  /** GELU's tanh form instead of the exact one. */
  readonly tanhGelu?: boolean;
}

/** Which form of GELU the kernels compute. */
export function geluForm({ tanhGelu = false }: EncoderConfig): number {
  return tanhGelu ? 1 : 0;
}

/** What a model folder says beyond the encoder's shape. */
export interface ModelConfig {
  readonly encoder: EncoderConfig;
  /** Of a list, the vectors are concatenated in its order. */
  readonly pooling: InferencePooling | readonly InferencePooling[];
  /** Applied to the pooled vector one after another. */
  readonly modules?: readonly Module[];
  /** Keeps this many of the first components of a vector. */
  readonly dimension?: number;
  /** Longest input in tokens, specials included. */
  readonly maxLength: number;
  readonly dtype: Dtype;
  /** Of a static model: rows of its table, which tokens may share, and the unknown token if it counts for nothing. */
  readonly table?: { readonly rows: number; readonly ignoredId?: number };
  /** Texts to put before an input, by purpose. */
  readonly prompts?: Readonly<Record<string, string>>;
  /** The one of `prompts` for inputs whose purpose nobody named. */
  readonly defaultPrompt?: string;
}

/** The poolings of a model, in order. */
export function poolingsOf({ pooling }: ModelConfig): readonly InferencePooling[] {
  return typeof pooling === "string" ? [pooling] : pooling;
}

/** Whether pooling looks at first tokens alone. */
export function isOfFirsts(pooling: InferencePooling): boolean {
  return pooling === "cls" || pooling === "cls_before_pooler";
}

/** The layer whose output is averaged with the last one's, where there are two such; -1 is the embeddings. */
export function secondLayer(
  { numLayers }: EncoderConfig,
  pooling: ModelConfig["pooling"],
): number | undefined {
  if (pooling === "avg_top2") return numLayers - 2;
  if (pooling === "avg_first_last" && numLayers > 1) return 0;
  if (pooling === "avg_embeddings_last") return -1;
  return undefined;
}

/** Size of the pooled vector, and of the sentence vector that the modules make of it. */
export function sizesOf(config: ModelConfig): { pooled: number; vector: number } {
  const pooled = poolingsOf(config).length * config.encoder.hiddenSize;
  const dense = config.modules?.findLast((module) => module.type === "dense");
  return { pooled, vector: config.dimension ?? dense?.outputs ?? pooled };
}

/**
 * The pooling of a model that can be trained.
 * @throws RangeError for one that cannot
 */
export function trainablePooling(config: ModelConfig, name: string): Pooling {
  const refuse = (what: string, remedy: string): never => {
    throw new RangeError(`${name}: ${what} cannot be trained; ${remedy}`);
  };
  const poolings = `use one of ${POOLINGS.join(", ")}`;
  if (config.dtype !== "f32") {
    return refuse(`a model of ${config.dtype} weights`, "simcse convert makes f32 of them");
  }
  const [first, ...others] = config.modules ?? [];
  const modules = trainableDense(config) ? others : [first, ...others];
  if (modules.some((module) => module && module.type !== "normalize")) {
    return refuse("pooling with modules after it", poolings);
  }
  const found = POOLINGS.find((pooling) => pooling === poolingsOf(config).join());
  return found ?? refuse(`pooling ${JSON.stringify(config.pooling)}`, poolings);
}

/** The layer on the mean of a static model, if its first module is one. */
export function trainableDense({
  table,
  modules,
}: ModelConfig): { outputs: number; tanh: boolean } | undefined {
  const [first] = modules ?? [];
  if (!table || first?.type !== "dense") return undefined;
  return { outputs: first.outputs, tanh: first.activation === "tanh" };
}

/** No encoder of this family has a tenth of it. */
const MOST_LAYERS = 1024;

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
  // Planned layer by layer: a file that claims more would only keep us planning.
  if (c.numLayers > MOST_LAYERS) {
    throw new RangeError(
      `${name}: num_hidden_layers must be at most ${MOST_LAYERS}, found ${c.numLayers}`,
    );
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

/** Model types that are a BERT, but for the first rows of their position tables, which no text reaches. */
const ROBERTA = ["roberta", "xlm-roberta", "camembert"] as const;
/** What Hugging Face calls the tanh form of GELU. */
const TANH_GELUS = ["gelu_pytorch_tanh", "gelu_new"] as const;
const MODEL_TYPES = ["bert", "distilbert", ...ROBERTA, "static"] as const;

/**
 * Reads a Hugging Face `config.json` of the BERT family, with our own settings under the key `simcse_edge`. Whatever the
 * family member, the result is the shape of the BERT that computes the same: RoBERTa's positions without the rows before
 * the first that it uses, DistilBERT with token types of zero (`loadWeights` reads their weights so).
 * @throws FormatError for what is not supported, by name; RangeError for a shape the kernels cannot run
 */
export function parseConfig(json: unknown, name: string): ModelConfig {
  const fields = expectObject(json, name, "as Hugging Face writes it");
  const type = expectOneOf(name, "model_type", fields["model_type"] ?? "bert", MODEL_TYPES);
  const number = (field: string, fallback?: number): number => {
    const value = fields[field] ?? fallback;
    if (typeof value !== "number") {
      throw new FormatError(`${name}: ${field} must be a number, found ${JSON.stringify(value)}`);
    }
    return value;
  };
  let encoder: EncoderConfig;
  if (type === "static") {
    encoder = staticEncoder(number("vocab_size"), number("hidden_size"));
    if (!(encoder.hiddenSize % 4 === 0 && encoder.hiddenSize > 0 && encoder.vocabSize > 0)) {
      throw new RangeError(
        `${name}: expected vocab_size from 1 and hidden_size a multiple of 4, found ${encoder.vocabSize} and ${encoder.hiddenSize}`,
      );
    }
  } else {
    const distil = type === "distilbert";
    const stated = fields[distil ? "activation" : "hidden_act"] ?? "gelu";
    const activation = expectOneOf(name, "hidden_act", stated, ["gelu", ...TANH_GELUS]);
    const positions = fields["position_embedding_type"] ?? "absolute";
    expectOneOf(name, "position_embedding_type", positions, ["absolute"]);
    const roberta = ROBERTA.some((member) => member === type);
    encoder = {
      vocabSize: number("vocab_size"),
      hiddenSize: number(distil ? "dim" : "hidden_size"),
      numLayers: number(distil ? "n_layers" : "num_hidden_layers"),
      numHeads: number(distil ? "n_heads" : "num_attention_heads"),
      intermediateSize: number(distil ? "hidden_dim" : "intermediate_size"),
      maxPositions:
        number("max_position_embeddings") - (roberta ? number("pad_token_id", 1) + 1 : 0),
      typeVocabSize: distil ? 1 : number("type_vocab_size", 2),
      layerNormEpsilon: number("layer_norm_eps", 1e-12),
      hiddenDropout: number(distil ? "dropout" : "hidden_dropout_prob", 0.1),
      attentionDropout: number(distil ? "attention_dropout" : "attention_probs_dropout_prob", 0.1),
      ...(activation !== "gelu" && { tanhGelu: true }),
    };
    validateEncoder(encoder, name);
  }
  const own = expectObject(fields["simcse_edge"] ?? {}, `${name}: simcse_edge`, "our settings");
  return parseSettings(encoder, type === "static", own, name);
}

/** The shape of a static model: no layers. Its position limit is ours, since some limit the memory needs. */
export function staticEncoder(vocabSize: number, hiddenSize: number): EncoderConfig {
  return {
    vocabSize,
    hiddenSize,
    numLayers: 0,
    numHeads: 1,
    intermediateSize: 0,
    maxPositions: 8192,
    typeVocabSize: 0,
    layerNormEpsilon: 1e-12,
    hiddenDropout: 0,
    attentionDropout: 0,
  };
}

function parseSettings(
  encoder: EncoderConfig,
  isStatic: boolean,
  own: Record<string, unknown>,
  name: string,
): ModelConfig {
  const field = (key: string): string => `simcse_edge.${key}`;
  const whole = (key: string, value: unknown, from: number, to = Infinity): number => {
    if (Number.isInteger(value) && Number(value) >= from && Number(value) <= to) {
      return Number(value);
    }
    const range = to === Infinity ? `from ${from}` : `from ${from} to ${to}`;
    throw new FormatError(
      `${name}: ${field(key)} must be a whole number ${range}, found ${JSON.stringify(value)}`,
    );
  };
  const stored = own["pooling"] ?? "avg";
  const list = (Array.isArray(stored) ? stored : [stored]).map((word) =>
    expectOneOf(name, field("pooling"), word, INFERENCE_POOLINGS),
  );
  const modules = expectList(own["modules"] ?? [], name, field("modules")).map((value): Module => {
    const module = expectObject(value, `${name}: ${field("modules")}`, "a module");
    const type = expectOneOf(name, `${field("modules")}.type`, module["type"], [
      "dense",
      "layer_norm",
      "normalize",
    ] as const);
    if (type === "normalize") return { type };
    if (type === "layer_norm") return { type, size: whole("modules.size", module["size"], 1) };
    const inputs = whole("modules.inputs", module["inputs"], 1);
    const outputs = whole("modules.outputs", module["outputs"], 1);
    const activation = expectOneOf(name, `${field("modules")}.activation`, module["activation"], [
      "tanh",
      "identity",
    ] as const);
    return { type, inputs, outputs, activation };
  });
  const dimension = own["dimension"];
  const prompts = Object.entries(expectObject(own["prompts"] ?? {}, name, "prompts by name")).map(
    ([key, text]) => {
      if (typeof text === "string") return [key, text] as const;
      throw new FormatError(`${name}: ${field("prompts")}.${key} must be a string`);
    },
  );
  const defaultPrompt = own["default_prompt"];
  if (defaultPrompt !== undefined) {
    expectOneOf(
      name,
      field("default_prompt"),
      defaultPrompt,
      prompts.map(([key]) => key),
    );
  }
  const table = isStatic ? expectObject(own["table"], `${name}: ${field("table")}`, "rows") : {};
  const ignored = table["ignored_id"];
  const config: ModelConfig = {
    encoder,
    pooling: list.length === 1 ? list[0]! : list,
    dtype: expectOneOf(name, field("dtype"), own["dtype"] ?? "f32", DTYPES),
    maxLength: whole(
      "max_length",
      own["max_length"] ?? encoder.maxPositions,
      2,
      encoder.maxPositions,
    ),
    ...(modules.length > 0 && { modules }),
    ...(dimension !== undefined && { dimension: whole("dimension", dimension, 4) }),
    ...(isStatic && {
      table: {
        rows: whole("table.rows", table["rows"], 1),
        ...(ignored !== undefined && { ignoredId: whole("table.ignored_id", ignored, 0) }),
      },
    }),
    ...(prompts.length > 0 && { prompts: Object.fromEntries(prompts) }),
    ...(typeof defaultPrompt === "string" && { defaultPrompt }),
  };
  validatePooling(config, name);
  return config;
}

/**
 * Refuses poolings and modules that do not fit one another, which no kernel would notice. `name` says whose they are.
 * @throws RangeError naming what does not fit
 */
export function validatePooling(config: ModelConfig, name: string): void {
  const list = poolingsOf(config);
  const said = `${name}: pooling ${JSON.stringify(config.pooling)}`;
  if (list.length === 0) throw new RangeError(`${said} is an empty list; expected a pooling`);
  const unmixed = list.find((pooling) => UNMIXED.includes(pooling));
  if (unmixed !== undefined && (list.length > 1 || config.table)) {
    const why = config.table ? "a static model has no layers for it" : "it stands alone";
    throw new RangeError(`${said}: "${unmixed}" is impossible here, ${why}`);
  }
  let { pooled: size } = sizesOf(config);
  for (const module of config.modules ?? []) {
    if (module.type === "normalize") continue;
    const inputs = module.type === "dense" ? module.inputs : module.size;
    if (inputs !== size) {
      throw new RangeError(`${said}: ${module.type} takes vectors of ${inputs}, not of ${size}`);
    }
    if (module.type === "dense") size = module.outputs;
    if (size % 4 !== 0) {
      throw new RangeError(`${name}: a module's outputs must be a multiple of 4, found ${size}`);
    }
  }
  const { dimension = size } = config;
  if (dimension % 4 !== 0 || dimension > size) {
    throw new RangeError(
      `${name}: dimension must be a multiple of 4 of at most ${size}, found ${dimension}`,
    );
  }
}

/** The inverse of `parseConfig`: whatever was read, a BERT is written, or a static model. */
export function serializeConfig(config: ModelConfig): object {
  const { encoder, table } = config;
  const own = {
    pooling: config.pooling,
    modules: config.modules,
    dimension: config.dimension,
    max_length: config.maxLength,
    dtype: config.dtype,
    table: table && { rows: table.rows, ignored_id: table.ignoredId },
    prompts: config.prompts,
    default_prompt: config.defaultPrompt,
  };
  const shared = { vocab_size: encoder.vocabSize, hidden_size: encoder.hiddenSize };
  if (table) return { model_type: "static", ...shared, simcse_edge: own };
  return {
    architectures: ["BertModel"],
    model_type: "bert",
    ...shared,
    num_hidden_layers: encoder.numLayers,
    num_attention_heads: encoder.numHeads,
    intermediate_size: encoder.intermediateSize,
    max_position_embeddings: encoder.maxPositions,
    type_vocab_size: encoder.typeVocabSize,
    hidden_act: encoder.tanhGelu ? TANH_GELUS[0] : "gelu",
    layer_norm_eps: encoder.layerNormEpsilon,
    hidden_dropout_prob: encoder.hiddenDropout,
    attention_probs_dropout_prob: encoder.attentionDropout,
    position_embedding_type: "absolute",
    pad_token_id: 0,
    simcse_edge: own,
  };
}

/** A JSON object; `what` says what it should be. */
export function expectObject(value: unknown, name: string, what: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new FormatError(`${name}: expected a JSON object, ${what}; found ${kindOf(value)}`);
}

/** A JSON list. */
export function expectList(value: unknown, name: string, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new FormatError(`${name}: expected a list, ${what}; found ${kindOf(value)}`);
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? "a list" : (JSON.stringify(value) ?? "nothing").slice(0, 60);
}

export function expectOneOf<T extends string>(
  name: string,
  field: string,
  value: unknown,
  choices: readonly T[],
): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) {
    throw new FormatError(
      `${name}: ${field} is ${JSON.stringify(value) ?? "absent"}; should be one of: ${choices.join(", ")}`,
    );
  }
  return found;
}
