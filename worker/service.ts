/** What the routes of `app.ts` work with, and how it comes out of a set of files. */
import { FormatError } from "../src/errors.ts";
import { parseSafetensors } from "../src/files/safetensors.ts";
import { parseConfig } from "../src/model/config.ts";
import { allocateEncoders, SentenceEncoder } from "../src/model/sentence-encoder.ts";
import { FlatIndex } from "../src/search/flat-index.ts";
import { SentenceModel } from "../src/simcse.ts";
import { Tokenizer } from "../src/tokenizer/tokenizer.ts";

export interface Service {
  /** What clients call the model. */
  readonly name: string;
  readonly model: SentenceModel;
  /** Absent when there is nothing to search. */
  readonly index: FlatIndex | undefined;
}

/** Answers a path such as `/model/config.json`; a file that is not there is a 404. */
export type FetchAsset = (path: string) => Promise<Response>;

const CONFIG = "/model/config.json";
const TOKENIZER = "/model/tokenizer.json";
const WEIGHTS = "/model/model.safetensors";
const INDEX = "/search/index.safetensors";

/**
 * Loads the model under `/model`, and the index under `/search` if there is one. `module` is the edge binary (or
 * portable), compiled.
 * @throws Error for a file that is absent; FormatError for one that cannot be what it should be
 */
export async function loadService(
  fetchAsset: FetchAsset,
  module: WebAssembly.Module,
): Promise<Service> {
  const [config, tokenizer, weights, index] = await Promise.all([
    readJson(CONFIG, fetchAsset),
    readJson(TOKENIZER, fetchAsset),
    readBytes(WEIGHTS, fetchAsset),
    readOptional(INDEX, fetchAsset),
  ]);
  const { tensors } = parseSafetensors(weights, WEIGHTS);
  const modelConfig = parseConfig(config, CONFIG);
  const memory = allocateEncoders(module, modelConfig, tensors, WEIGHTS);
  const encoder = new SentenceEncoder(module, modelConfig, memory);
  const model = new SentenceModel(encoder, new Tokenizer(tokenizer), module);
  const name = (config as Record<string, unknown>)["_name_or_path"];
  return {
    name: typeof name === "string" && name !== "" ? name : "simcse-edge",
    model,
    index: index && (await parseIndex(module, index, encoder.dimension)),
  };
}

async function parseIndex(
  module: WebAssembly.Module,
  bytes: Uint8Array,
  dimension: number,
): Promise<FlatIndex> {
  const index = await FlatIndex.parse(module, bytes, INDEX);
  if (index.dimension <= dimension) return index;
  const problem = `${index.dimension} dimensions, but the model's vectors have only ${dimension}`;
  throw new FormatError(`${INDEX}: ${problem}; they do not belong together`);
}

async function readOptional(path: string, fetchAsset: FetchAsset): Promise<Uint8Array | undefined> {
  const response = await fetchAsset(path);
  if (response.ok) return new Uint8Array(await response.arrayBuffer());
  await response.body?.cancel();
  if (response.status === 404) return undefined;
  throw new Error(`${path}: cannot be read, status ${response.status}`);
}

async function readBytes(path: string, fetchAsset: FetchAsset): Promise<Uint8Array> {
  const bytes = await readOptional(path, fetchAsset);
  if (!bytes) throw new Error(`${path}: absent; export the model again`);
  return bytes;
}

async function readJson(path: string, fetchAsset: FetchAsset): Promise<object> {
  return parseJson(await readBytes(path, fetchAsset), path);
}

function parseJson(bytes: Uint8Array, path: string): object {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as object;
  } catch (cause) {
    throw new FormatError(`${path}: not JSON`, { cause });
  }
}
