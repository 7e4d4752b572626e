/**
 * Model folders: those of Hugging Face and sentence-transformers, static ones, SimCSE's checkpoints, and ours: `config.json`,
 * `tokenizer.json` and `model.safetensors` with BertModel's names. What is read is a BERT, or a static model, from here on.
 */
import { mkdir, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { FormatError } from "../errors.ts";
import { sha256Hex } from "../files/checksum.ts";
import { type JsonLimits, parseJson, SETTINGS, VOCABULARY } from "../files/json.ts";
import { serializeSafetensors, type SafetensorsTensor } from "../files/safetensors.ts";
import { expectObject, type ModelConfig, parseConfig, serializeConfig } from "../model/config.ts";
import {
  type FolderFile,
  readRecipe,
  type Recipe,
  sentenceTransformersFiles,
} from "../model/sentence-transformers.ts";
import { allocateEncoders } from "../model/load-encoders.ts";
import { SentenceEncoder } from "../model/sentence-encoder.ts";
import { promptOf } from "../model/prompts.ts";
import { staticTensors, TABLE_ALONE } from "../model/weights.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import {
  lowercased,
  tokenizerFromMerges,
  tokenizerFromVocab,
  unframed,
} from "../tokenizer/vocab.ts";
import { compileKernels } from "./binaries.ts";
import { exists, readFileOr, writeFileAtomic } from "./files.ts";
import { FileSource, sha256OfSource } from "./file-source.ts";
import { openSafetensors } from "./tensor-file.ts";

export interface ModelFolder {
  readonly path: string;
  readonly config: ModelConfig;
  readonly tokenizerJson: object;
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  /** Path of the weights, for errors. */
  readonly weightsFile: string;
}

/** Reads a JSON file within limits, by default those of settings. */
export async function readJson(
  path: string,
  what: string,
  limits: JsonLimits = SETTINGS,
): Promise<object> {
  return parseJson(await readFileOr(path, what, limits.bytes), path, what, limits) as object;
}

/** Reads a text file of a vocabulary. */
async function readVocabulary(path: string, what: string): Promise<string> {
  return new TextDecoder().decode(await readFileOr(path, what, VOCABULARY.bytes));
}

/**
 * Opens any folder of the BERT family, or the model of that name on a hub: `org/name` or `org/name@revision`. One that does not say how its tokens are pooled is warned of, with what was chosen.
 * @throws FormatError naming the file, and what about it is not supported; HubError for what a hub does not give
 */
export async function readModelFolder(model: string): Promise<ModelFolder> {
  const path = (await exists(model)) ? model : await (await import("./hub.ts")).findModel(model);
  await checkSums(path);
  const at = (...names: string[]): string => join(path, ...names);
  const optional = async (name: string): Promise<object | undefined> =>
    (await exists(at(name))) ? readJson(at(name), "JSON") : undefined;
  const read = async (name: string): Promise<Record<string, unknown> | undefined> => {
    const json = await optional(name);
    return json && expectObject(json, at(name), "as its library writes it");
  };
  const own = await read("config.json");
  const ours = own?.["simcse_edge"] !== undefined;
  const recipe = await readRecipe(read, ours ? undefined : await optional("modules.json"), path);
  const { folder } = recipe;
  if (recipe.isStatic || (own?.["model_type"] === "model2vec" && !ours)) {
    return readStatic(path, recipe, own ?? {});
  }
  const configFile = at(folder, "config.json");
  const configJson = expectObject(
    await readJson(configFile, "the configuration of a model"),
    configFile,
    "as Hugging Face writes it",
  );
  const tokenizerConfig = (await read(join(folder, "tokenizer_config.json"))) ?? {};
  const tokenizerJson = await readTokenizer(at(folder), tokenizerConfig);
  const { tensors, file: weightsFile } = await readWeights(at(folder));
  if (ours) {
    const config = parseConfig(configJson, configFile);
    return { path, config, tokenizerJson, tensors, weightsFile };
  }
  await addModules(tensors, path, recipe);
  const { maxPositions } = parseConfig(configJson, configFile).encoder;
  const limit = recipe.settings["max_length"] ?? tokenizerConfig["model_max_length"];
  const settings = {
    ...recipe.settings,
    pooling: recipe.settings["pooling"] ?? choosePooling(model, configJson, tensors),
    max_length: Math.min(typeof limit === "number" ? limit : Infinity, maxPositions),
  };
  return {
    path,
    config: parseConfig({ ...configJson, simcse_edge: settings }, configFile),
    tokenizerJson: recipe.lowercase ? lowercased(tokenizerJson) : tokenizerJson,
    tensors,
    weightsFile,
  };
}

/** A static model: of model2vec, whose unknown token counts for nothing, or of sentence-transformers. */
async function readStatic(
  path: string,
  recipe: Recipe,
  own: Readonly<Record<string, unknown>>,
): Promise<ModelFolder> {
  const { folder, settings } = recipe;
  const tokenizerJson = unframed(await readTokenizer(join(path, folder), {}));
  const tokenizer = new Tokenizer(tokenizerJson);
  const file = await readWeights(join(path, folder));
  const { tensors, rows, hidden } = staticTensors(file.tensors, tokenizer.vocabSize, file.file);
  await addModules(tensors, path, recipe);
  const model2vec = own["model_type"] === "model2vec";
  const normalize = own["normalize"] === true ? [{ type: "normalize" }] : [];
  const json = {
    model_type: "static",
    vocab_size: tokenizer.vocabSize,
    hidden_size: hidden,
    simcse_edge: {
      ...settings,
      pooling: "avg",
      modules: settings["modules"] ?? normalize,
      table: { rows, ...(model2vec && tokenizer.unkId >= 0 && { ignored_id: tokenizer.unkId }) },
    },
  };
  return { path, config: parseConfig(json, path), tokenizerJson, tensors, weightsFile: file.file };
}

/** The pooling of a folder that says nothing of it; SimCSE's own tool goes by the name as well. */
function choosePooling(
  path: string,
  config: Readonly<Record<string, unknown>>,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
): string {
  const names = [basename(resolve(path)), config["_name_or_path"], config["architectures"]].join();
  const simcse = /simcse|ForCL/i.test(names);
  const head = [...tensors.keys()].some((name) => /(^|\.)(mlp|pooler)\.dense\.weight$/.test(name));
  const [pooling, why] = !simcse
    ? ["avg", "the mean of the tokens, as sentence-transformers does"]
    : !head || /unsup/i.test(names)
      ? ["cls_before_pooler", "the first token, as unsupervised SimCSE does"]
      : ["cls", "the first token through the head, as supervised SimCSE does"];
  process.emitWarning(
    `${path} does not say how tokens become a vector; chose ${pooling}: ${why}. ` +
      `{"simcse_edge": {"pooling": "…"}} in its config.json decides`,
  );
  return pooling;
}

async function readTokenizer(
  folder: string,
  config: Readonly<Record<string, unknown>>,
): Promise<object> {
  const file = join(folder, "tokenizer.json");
  const vocab = join(folder, "vocab.txt");
  const bytePairs = join(folder, "vocab.json");
  const merges = join(folder, "merges.txt");
  if (!(await exists(file)) && (await exists(bytePairs)) && (await exists(merges))) {
    return tokenizerFromMerges(
      await readJson(bytePairs, "a vocabulary", VOCABULARY),
      await readVocabulary(merges, "the merges of a vocabulary"),
      config,
      bytePairs,
    );
  }
  if ((await exists(file)) || !(await exists(vocab))) {
    return readJson(file, "a tokenizer", VOCABULARY);
  }
  return tokenizerFromVocab(await readVocabulary(vocab, "a vocabulary"), config, vocab);
}

/** The tensors of a folder, whole or in shards, as safetensors before PyTorch's own format. */
async function readWeights(
  folder: string,
): Promise<{ tensors: Map<string, SafetensorsTensor>; file: string }> {
  const what = "the weights of a model";
  for (const name of ["model.safetensors", "pytorch_model.bin"]) {
    const read = async (file: string): Promise<Map<string, SafetensorsTensor>> =>
      name.endsWith(".bin")
        ? (await import("../files/torch.ts")).parseTorch(await readFileOr(file, what), file)
        : (await openSafetensors(file, what)).tensors;
    const file = join(folder, name);
    if (await exists(file)) return { tensors: await read(file), file };
    const index = `${file}.index.json`;
    if (!(await exists(index))) continue;
    const { weight_map: map } = expectObject(
      await readJson(index, "a list of shards"),
      index,
      "a list of shards",
    );
    const shards = new Set(Object.values(expectObject(map, index, "shards in weight_map")));
    const tensors = new Map<string, SafetensorsTensor>();
    for (const shard of shards) {
      if (typeof shard !== "string" || shard !== basename(shard) || shard.includes("\\")) {
        throw new FormatError(
          `${index}: expected the name of a file beside it, found ${JSON.stringify(shard)}`,
        );
      }
      for (const [key, tensor] of await read(join(folder, shard))) tensors.set(key, tensor);
    }
    return { tensors, file: index };
  }
  const file = join(folder, "model.safetensors");
  return { tensors: (await openSafetensors(file, what)).tensors, file };
}

/** Adds the tensors of modules under their names in our files; a dense module without a bias gets one of zeros. */
async function addModules(
  tensors: Map<string, SafetensorsTensor>,
  path: string,
  { weights }: Recipe,
): Promise<void> {
  for (const { folder, prefix } of weights) {
    const module = await readWeights(join(path, folder));
    for (const [name, tensor] of module.tensors) tensors.set(prefix + name, tensor);
    const [outputs] = module.tensors.get("linear.weight")?.shape ?? [];
    if (outputs === undefined || module.tensors.has("linear.bias")) continue;
    const data = new Uint8Array(4 * outputs);
    tensors.set(`${prefix}linear.bias`, { dtype: "F32", shape: [outputs], data });
  }
}

/**
 * Writes a folder that `readModelFolder` opens; each file is replaced as a whole. An f32 model also gets what
 * sentence-transformers and text-embeddings-inference need to open it, unless it is a static one with weights (`foldStatic`).
 */
export async function writeModelFolder(
  path: string,
  {
    config,
    tokenizerJson,
    tensors,
  }: Pick<ModelFolder, "config" | "tokenizerJson"> & {
    tensors: Iterable<[string, SafetensorsTensor]>;
  },
): Promise<void> {
  const weights = new Map(tensors);
  const portable = config.dtype === "f32" && (!config.table || weights.has(TABLE_ALONE));
  const others = portable ? sentenceTransformersFiles(config, tokenizerJson, weights) : [];
  const files: FolderFile[] = [
    { path: "model.safetensors", tensors: [...weights] },
    { path: "tokenizer.json", json: tokenizerJson },
    ...others,
    { path: "config.json", json: serializeConfig(config) },
  ];
  await rm(join(path, SUMS), { force: true });
  const sums: Record<string, string> = {};
  // All bytes first: tensors may come from files that are replaced here.
  for (const [file, bytes] of files.map((each) => [each, bytesOf(each)] as const)) {
    const target = join(path, file.path);
    sums[file.path] = await sha256Hex(bytes);
    await mkdir(dirname(target), { recursive: true });
    await writeFileAtomic(target, bytes);
  }
  // An f32 folder is there to be changed; a quantised one is a package.
  if (config.dtype === "f32") return;
  const json = `${JSON.stringify(sums, null, 2)}\n`;
  await writeFileAtomic(join(path, SUMS), new TextEncoder().encode(json));
}

/** SHA-256 of the files of a package, by name. */
const SUMS = "sha256.json";

/** @throws FormatError for a file that is not the one its package was made with */
async function checkSums(path: string): Promise<void> {
  const file = join(path, SUMS);
  if (!(await exists(file))) return;
  const sums = expectObject(await readJson(file, "SHA-256 by file"), file, "SHA-256 by file");
  for (const [name, expected] of Object.entries(sums)) {
    if (name !== basename(name) || name.includes("\\")) {
      throw new FormatError(`${file}: expected names of files beside it, found ${name}`);
    }
    await using source = await FileSource.open(join(path, name), "a file of the package");
    const found = await sha256OfSource(source);
    if (found === expected) continue;
    throw new FormatError(
      `${join(path, name)}: damaged: expected sha256 ${String(expected)}, found ${found}; copy or make the package again`,
    );
  }
}

function bytesOf(file: FolderFile): Uint8Array<ArrayBuffer> {
  if ("tensors" in file) return serializeSafetensors(file.tensors, { format: "pt" });
  const text = "text" in file ? file.text : `${JSON.stringify(file.json, null, 2)}\n`;
  return new TextEncoder().encode(text);
}

/** A model ready to encode texts. */
export interface TextModel {
  readonly encoder: SentenceEncoder;
  readonly tokenizer: Tokenizer;
  /** Vectors of texts on the unit sphere, after the model's default prompt if it has one; what is longer than the model's maximum is cut there. */
  encode(texts: readonly string[]): Float32Array[];
}

export async function openModel(
  folder: ModelFolder,
  tokenizer: Tokenizer = new Tokenizer(folder.tokenizerJson),
): Promise<TextModel> {
  const { config } = folder;
  if (tokenizer.vocabSize > config.encoder.vocabSize) {
    throw new FormatError(
      `${folder.path}: tokenizer.json has ${tokenizer.vocabSize} pieces, but the model's table only ` +
        `${config.encoder.vocabSize} rows; they do not belong together`,
    );
  }
  const prompt = promptOf(config);
  const kernels = await compileKernels("edge");
  const memory = allocateEncoders(kernels, config, folder.tensors, folder.weightsFile);
  const encoder = new SentenceEncoder(kernels, config, memory);
  return {
    encoder,
    tokenizer,
    encode: (texts) =>
      encoder.encode(texts.map((text) => tokenizer.encode(prompt + text, config.maxLength).ids)),
  };
}
