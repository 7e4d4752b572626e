/** What the routes of `app.ts` work with, and how it comes out of a set of files. */
import { FormatError } from "../src/errors.ts";
import { parseJson, VOCABULARY } from "../src/files/json.ts";
import { parseConfig } from "../src/model/config.ts";
import { imageTarget } from "../src/model/image.ts";
import { packEncoders, planEncoders, SentenceEncoder } from "../src/model/sentence-encoder.ts";
import { FlatIndex } from "../src/search/flat-index.ts";
import { SentenceModel } from "../src/simcse.ts";
import { Tokenizer } from "../src/tokenizer/tokenizer.ts";
import { type FetchAsset, MANIFEST, readManifest, readStored, streamStored } from "./weights.ts";

export interface Service {
  /** What clients call the model. */
  readonly name: string;
  readonly model: SentenceModel;
  /** Absent when there is nothing to search. */
  readonly index: FlatIndex | undefined;
  /** Tells versions of a model apart; absent where it comes from a folder. */
  readonly version?: string;
}

/**
 * Loads what the manifest names: the model, and the index if there is one. The weights are streamed into the memory where they
 * are used. A load that fails leaves that memory to the next one, since a Worker has no room for two. `module` is the edge
 * binary (or portable), compiled.
 * @throws Error for a file that is absent; FormatError for one that cannot be what it should be
 */
export function serviceLoader(
  fetchAsset: FetchAsset,
  module: WebAssembly.Module,
): () => Promise<Service> {
  let spare: WebAssembly.Memory | undefined;
  return async () => {
    const { name, version, config: json, ...files } = await readManifest(fetchAsset);
    const config = parseConfig(json, MANIFEST);
    const plan = planEncoders(config, 1);
    const { pages } = plan.arena;
    const fits = spare?.buffer.byteLength === pages * 65536;
    const memory = fits ? spare! : new WebAssembly.Memory({ initial: pages, maximum: pages });
    spare = memory;
    const target = imageTarget(memory, plan.model.named, files.weights, MANIFEST);

    const bytes = await readStored(fetchAsset, files.tokenizer);
    const tokenizer = parseJson(bytes, MANIFEST, "a tokenizer", VOCABULARY) as object;
    const encoder = new SentenceEncoder(module, config, memory);
    const model = new SentenceModel(encoder, new Tokenizer(tokenizer), module);
    const index = files.index && (await readStored(fetchAsset, files.index));
    const search = index && (await parseIndex(module, index, encoder.dimension));
    await streamStored(fetchAsset, files.weights, target);
    packEncoders(module, memory, plan);
    spare = undefined;
    return { name, version, model, index: search };
  };
}

async function parseIndex(
  module: WebAssembly.Module,
  bytes: Uint8Array,
  dimension: number,
): Promise<FlatIndex> {
  const index = await FlatIndex.parse(module, bytes, "the index");
  if (index.dimension <= dimension) return index;
  const problem = `${index.dimension} dimensions, but the model's vectors have only ${dimension}`;
  throw new FormatError(`the index: ${problem}; they do not belong together`);
}
