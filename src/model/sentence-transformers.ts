/**
 * Folders of sentence-transformers. What one says about the way from tokens to a vector is read into the spelling of
 * our own settings, in both dialects: that before version 5.4 (`pooling_mode_mean_tokens: true`) and that since
 * (`pooling_mode: "mean"`). Types are matched by the last part of their Python path, and nothing that is unknown is
 * skipped. Written is the older dialect, which every version and text-embeddings-inference open.
 */
import { FormatError } from "../errors.ts";
import type { SafetensorsTensor } from "../files/safetensors.ts";
import {
  expectList,
  expectObject,
  expectOneOf,
  type InferencePooling,
  type ModelConfig,
  type Module,
  poolingsOf,
  sizesOf,
} from "./config.ts";

/** A JSON object of the folder, by its path there; undefined where there is no such file. */
export type ReadJson = (path: string) => Promise<Record<string, unknown> | undefined>;

/** How to make a model of a folder. */
export interface Recipe {
  /** Folder of the encoder, inside the model's; "" is that itself. */
  readonly folder: string;
  readonly isStatic: boolean;
  /** Settings as `parseConfig` reads them under `simcse_edge`; without `pooling` the folder says nothing of it. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where the tensors of modules lie, and what their names are to begin with. */
  readonly weights: readonly { readonly folder: string; readonly prefix: string }[];
  readonly lowercase: boolean;
}

/** In the order in which sentence-transformers concatenates: the old key, the new words, ours. */
const POOLINGS = [
  ["pooling_mode_cls_token", ["cls"], "cls_before_pooler"],
  ["pooling_mode_max_tokens", ["max"], "max"],
  ["pooling_mode_mean_tokens", ["mean"], "avg"],
  ["pooling_mode_mean_sqrt_len_tokens", ["mean_sqrt_len_tokens", "mean_sqrt_len"], "mean_sqrt_len"],
  ["pooling_mode_weightedmean_tokens", ["weightedmean"], "weightedmean"],
  ["pooling_mode_lasttoken", ["lasttoken"], "lasttoken"],
] as const;

const MODULES = [
  "Transformer",
  "StaticEmbedding",
  "Pooling",
  "Dense",
  "LayerNorm",
  "Normalize",
  "Dropout",
] as const;

const ACTIVATIONS = { Tanh: "tanh", Identity: "identity" } as const;

/** Files of settings that older versions named after the encoder's family. */
const TRANSFORMER_CONFIGS = ["bert", "roberta", "distilbert", "camembert", "xlm-roberta"].map(
  (family) => `sentence_${family}_config.json`,
);

/** Reads the recipe; `name` is the folder, for errors, and `modules` its `modules.json`, if it has one. */
export async function readRecipe(read: ReadJson, modules: unknown, name: string): Promise<Recipe> {
  const settings = await readGlobalSettings(read, name);
  if (modules === undefined) {
    return { folder: "", isStatic: false, settings, weights: [], lowercase: false };
  }
  const file = `${name}/modules.json`;
  let folder: string | undefined;
  let isStatic = false;
  let transformer: Record<string, unknown> = {};
  let pooling: string[] | undefined;
  const steps: object[] = [];
  const weights: Recipe["weights"][number][] = [];
  for (const entry of expectList(modules, file, "a module each")) {
    const { type, path } = expectObject(entry, file, "a module");
    if (typeof type !== "string" || typeof path !== "string") {
      throw new FormatError(`${file}: expected a type and a path of each module, as strings`);
    }
    const place = inside(path, file);
    const kind = expectOneOf(file, "type", type.split(".").at(-1), MODULES);
    const config = async (): Promise<Record<string, unknown>> =>
      (await read(join(place, "config.json"))) ?? {};
    const what = `${name}/${join(place, "config.json")}`;
    if ((kind === "Transformer" || kind === "StaticEmbedding") !== (folder === undefined)) {
      throw new FormatError(`${file}: expected one encoder, and that first; found ${kind}`);
    }
    switch (kind) {
      case "StaticEmbedding":
      case "Transformer":
        folder = place;
        isStatic = kind === "StaticEmbedding";
        if (!isStatic) transformer = await readTransformer(read, place);
        break;
      case "Pooling":
        if (isStatic || pooling || steps.length > 0) {
          throw new FormatError(`${file}: expected Pooling once, right after a Transformer`);
        }
        pooling = parsePooling(await config(), settings, what);
        break;
      case "Dense":
        weights.push({ folder: place, prefix: `modules.${steps.length}.` });
        steps.push(parseDense(await config(), what));
        break;
      case "LayerNorm":
        weights.push({ folder: place, prefix: `modules.${steps.length}.` });
        steps.push({ type: "layer_norm", size: (await config())["dimension"] });
        break;
      case "Normalize":
        steps.push({ type: "normalize" });
        break;
      case "Dropout": // does nothing once training is over
        break;
    }
  }
  if (folder === undefined) throw new FormatError(`${file}: expected a module, found none`);
  const maxLength = transformer["max_seq_length"];
  return {
    folder,
    isStatic,
    settings: {
      ...settings,
      ...(isStatic ? { pooling: "avg" } : { pooling }),
      modules: steps,
      ...(typeof maxLength === "number" && { max_length: maxLength }),
    },
    weights,
    lowercase: transformer["do_lower_case"] === true,
  };
}

async function readGlobalSettings(read: ReadJson, name: string): Promise<Record<string, unknown>> {
  const file = "config_sentence_transformers.json";
  const config = (await read(file)) ?? {};
  expectOneOf(`${name}/${file}`, "model_type", config["model_type"] ?? "SentenceTransformer", [
    "SentenceTransformer",
  ]);
  const prompts = Object.entries(
    expectObject(config["prompts"] ?? {}, `${name}/${file}`, "prompts by name"),
  ).filter(([, text]) => text !== "");
  const chosen = config["default_prompt_name"];
  const dimension = config["truncate_dim"];
  return {
    ...(prompts.length > 0 && { prompts: Object.fromEntries(prompts) }),
    ...(prompts.some(([key]) => key === chosen) && { default_prompt: chosen }),
    ...(typeof dimension === "number" && { dimension }),
  };
}

async function readTransformer(read: ReadJson, place: string): Promise<Record<string, unknown>> {
  for (const file of TRANSFORMER_CONFIGS) {
    const config = await read(join(place, file));
    if (config) return config;
  }
  return {};
}

function parsePooling(
  config: Readonly<Record<string, unknown>>,
  settings: Readonly<Record<string, unknown>>,
  name: string,
): string[] {
  if (config["include_prompt"] === false && settings["prompts"]) {
    throw new FormatError(
      `${name}: include_prompt is false, which is not supported: the tokens of a prompt would have to be left out of pooling`,
    );
  }
  const stored = config["pooling_mode"];
  if (stored === undefined) {
    const found = POOLINGS.filter(([key]) => config[key] === true).map(([, , ours]) => ours);
    return found.length > 0 ? found : ["avg"];
  }
  const words = POOLINGS.flatMap(([, theirs]) => theirs);
  const modes = (Array.isArray(stored) ? stored : [stored]).map((mode) =>
    expectOneOf(name, "pooling_mode", mode, words),
  );
  return POOLINGS.filter(([, theirs]) => theirs.some((word) => modes.includes(word))).map(
    ([, , ours]) => ours,
  );
}

function parseDense(config: Readonly<Record<string, unknown>>, name: string): object {
  const { activation_function: activation = "Identity" } = config;
  const known = Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[];
  const last = typeof activation === "string" ? activation.split(".").at(-1) : activation;
  if (config["use_residual"] === true) {
    throw new FormatError(`${name}: use_residual is true, which is not supported`);
  }
  expectOneOf(name, "module_input_name", config["module_input_name"] ?? "sentence_embedding", [
    "sentence_embedding",
  ]);
  return {
    type: "dense",
    inputs: config["in_features"],
    outputs: config["out_features"],
    activation: ACTIVATIONS[expectOneOf(name, "activation_function", last, known)],
  };
}

/** A path of modules.json, which must not lead out of the folder. */
function inside(path: string, file: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (path.startsWith("/") || /[\\:]/.test(path) || parts.includes("..")) {
    throw new FormatError(`${file}: path ${JSON.stringify(path)} leads out of the folder`);
  }
  return parts.join("/");
}

function join(folder: string, file: string): string {
  return folder === "" ? file : `${folder}/${file}`;
}

/** A file to write: JSON, text, or tensors. */
export type FolderFile =
  | { readonly path: string; readonly json: unknown }
  | { readonly path: string; readonly text: string }
  | { readonly path: string; readonly tensors: readonly (readonly [string, SafetensorsTensor])[] };

/** What else a folder needs so that sentence-transformers and text-embeddings-inference open our f32 model. */
export function sentenceTransformersFiles(
  config: ModelConfig,
  tokenizer: object,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
): FolderFile[] {
  const { encoder, maxLength, prompts = {}, defaultPrompt = null } = config;
  const files: FolderFile[] = [
    {
      path: "sentence_bert_config.json",
      json: { max_seq_length: maxLength, do_lower_case: false },
    },
    {
      path: "config_sentence_transformers.json",
      json: {
        prompts,
        default_prompt_name: defaultPrompt,
        similarity_fn_name: "cosine",
        ...(config.dimension !== undefined && { truncate_dim: config.dimension }),
      },
    },
    { path: "tokenizer_config.json", json: tokenizerConfig(tokenizer, maxLength) },
    { path: "README.md", text: modelCard(config) },
  ];
  const modules: { idx: number; name: string; path: string; type: string }[] = [];
  const add = (type: string, path = `${modules.length}_${type}`): string => {
    const idx = modules.length;
    modules.push({ idx, name: `${idx}`, path, type: `sentence_transformers.models.${type}` });
    return path;
  };
  add(config.table ? "StaticEmbedding" : "Transformer", "");

  const poolings = poolingsOf(config);
  const unknown = poolings.find((pooling) => !THEIRS.has(pooling));
  const pooling = config.table ? "" : add("Pooling");
  if (config.table) {
    // Theirs pools by itself, by the mean.
  } else if (unknown === undefined) {
    const flags = POOLINGS.map(([key, , ours]) => [
      key,
      poolings.some((word) => (word === "cls" ? "cls_before_pooler" : word) === ours),
    ]);
    files.push({
      path: `${pooling}/config.json`,
      json: {
        word_embedding_dimension: encoder.hiddenSize,
        ...Object.fromEntries(flags),
        include_prompt: true,
      },
    });
  } else {
    // Without this they would pool by the mean and say nothing; so they refuse, and name what they lack.
    modules.at(-1)!.type = `simcse_edge.pooling.${unknown}`;
  }

  const { hiddenSize: size } = encoder;
  const head: Module = { type: "dense", inputs: size, outputs: size, activation: "tanh" };
  const steps: (readonly [prefix: string, module: Module])[] = [
    ...(config.pooling === "cls" ? [["pooler.dense.", head] as const] : []),
    ...(config.modules ?? []).map(
      (module, i) =>
        [`modules.${i}.${module.type === "dense" ? "linear" : "norm"}.`, module] as const,
    ),
  ];
  for (const [prefix, module] of steps) {
    if (module.type === "normalize") {
      add("Normalize");
      continue;
    }
    const dense = module.type === "dense";
    const path = add(dense ? "Dense" : "LayerNorm");
    files.push({
      path: `${path}/config.json`,
      json: dense
        ? {
            in_features: module.inputs,
            out_features: module.outputs,
            bias: true,
            activation_function:
              module.activation === "tanh"
                ? "torch.nn.modules.activation.Tanh"
                : "torch.nn.modules.linear.Identity",
          }
        : { dimension: module.size },
    });
    files.push({
      path: `${path}/model.safetensors`,
      tensors: ["weight", "bias"].map((name) => [
        `${dense ? "linear" : "norm"}.${name}`,
        tensors.get(prefix + name)!,
      ]),
    });
  }
  return [...files, { path: "modules.json", json: modules }];
}

/** Poolings that sentence-transformers knows; the head of "cls" is a dense module to it. */
const THEIRS: ReadonlySet<InferencePooling> = new Set<InferencePooling>([
  "cls",
  ...POOLINGS.map(([, , ours]) => ours),
]);

/** The class that takes tokenizer.json as it is; those of a family would put their own normalizer in. */
function tokenizerConfig(tokenizer: object, maxLength: number): object {
  const { added_tokens: added } = tokenizer as { added_tokens?: readonly { content: string }[] };
  const known = new Set(added?.map(({ content }) => content));
  const tokens = [
    ["cls_token", "[CLS]", "<s>"],
    ["sep_token", "[SEP]", "</s>"],
    ["pad_token", "[PAD]", "<pad>"],
    ["unk_token", "[UNK]", "<unk>"],
    ["mask_token", "[MASK]", "<mask>"],
  ].map(([key, bert, roberta]) => [key!, known.has(bert!) ? bert : roberta] as const);
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    model_max_length: maxLength,
    ...Object.fromEntries(tokens),
  };
}

function modelCard(config: ModelConfig): string {
  const { encoder, maxLength } = config;
  const { vector } = sizesOf(config);
  const pooling = poolingsOf(config).join(" + ");
  const kind = config.table
    ? `A static model of ${encoder.vocabSize} token vectors`
    : `A BERT of ${encoder.numLayers} layers and ${encoder.hiddenSize} hidden units`;
  return `---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
  - sentence-transformers
  - simcse
  - simcse-edge
---

# A sentence-embedding model

${kind}, made with simcse-edge. It gives a text of at most ${maxLength} tokens a vector
of ${vector} numbers (pooling: ${pooling}); compare vectors by their cosine.

\`\`\`ts
import { SimCSE } from "simcse-edge";

await using model = await SimCSE.load("path/to/this/folder");
await model.similarity("A cat sleeps.", "A kitten naps.");
\`\`\`

\`\`\`python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
model.similarity(model.encode(["A cat sleeps."]), model.encode(["A kitten naps."]))
\`\`\`
`;
}
