/** A model small enough to make in a test: random weights, int8, and a vocabulary of its own sentences. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Settings, settingsOf } from "../../worker/settings.ts";
import type { FetchAsset } from "../../worker/weights.ts";
import type { Dtype, ModelConfig } from "../../src/model/config.ts";
import { planParameters } from "../../src/model/parameters.ts";
import { storeWeights } from "../../src/model/weights.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import {
  openModel,
  readModelFolder,
  type TextModel,
  writeModelFolder,
} from "../../src/node/model-folder.ts";
import { writeWorkerProject } from "../../src/node/worker-project.ts";
import { quantizeModel } from "../../src/quantize/quantize.ts";
import { Arena } from "../../src/runtime/arena.ts";
import { FlatIndex } from "../../src/search/flat-index.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { trainWordPiece } from "../../src/tokenizer/wordpiece.ts";
import { initializeWeights } from "../../src/train/initialize.ts";

export const SENTENCES: readonly string[] = [
  "a man plays the guitar",
  "someone is making music",
  "the cat sleeps on the sofa",
  "a dog runs along the beach",
  "delete a folder and everything in it",
  "remove the directory with its files",
  "<img src=x onerror=\"document.title='broken'\"> is only text",
];

/** Settings of a server that anybody may ask. */
export const OPEN: Settings = settingsOf({ PUBLIC: "true" });

/** Longest text in tokens. */
export const MAX_LENGTH = 48;

export interface TinyProject {
  /** The Worker project: `wrangler.jsonc` and `public/`. */
  readonly directory: string;
  /** The same int8 model, in Node. */
  readonly model: TextModel;
  remove(): Promise<void>;
}

/** Writes a model folder of random weights. */
export async function writeTinyModel(folder: string, dtype: Dtype): Promise<void> {
  const tokenizerJson = trainWordPiece(SENTENCES, { vocabSize: 200 });
  const config: ModelConfig = {
    encoder: {
      vocabSize: new Tokenizer(tokenizerJson).vocabSize,
      hiddenSize: 64,
      numLayers: 2,
      numHeads: 4,
      intermediateSize: 128,
      maxPositions: 64,
      typeVocabSize: 2,
      layerNormEpsilon: 1e-12,
      hiddenDropout: 0.1,
      attentionDropout: 0.1,
    },
    pooling: "avg",
    maxLength: MAX_LENGTH,
    dtype: "f32",
  };
  const arena = new Arena();
  const weights = planParameters(arena, config.encoder, false);
  const buffer = new ArrayBuffer(arena.top);
  initializeWeights(buffer, weights, 7);
  const tensors = storeWeights(buffer, weights.named);
  const model =
    dtype === "f32"
      ? { config, tensors }
      : quantizeModel(await compileKernels("node"), config, new Map(tensors), "random", dtype);
  await writeModelFolder(folder, { ...model, tokenizerJson });
}

/** Writes a Worker project over a random int8 model and the sentences above. */
export async function makeTinyProject(): Promise<TinyProject> {
  const directory = await mkdtemp(join(tmpdir(), "simcse-worker-"));
  const folder = join(directory, "model");
  await writeTinyModel(folder, "int8");

  const files = await readModelFolder(folder);
  const model = await openModel(files);
  const index = new FlatIndex(await compileKernels("edge"), model.encoder.dimension);
  index.add(SENTENCES, model.encode(SENTENCES));
  await writeWorkerProject(directory, { model: files, index: await index.serialize() });
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true });
  return { directory, model, remove };
}

/** A project's `public/` as the assets of a Worker see it. */
export function assetsOf(directory: string): FetchAsset {
  return async (path) => {
    try {
      return new Response(await readFile(join(directory, "public", path)));
    } catch {
      return new Response(null, { status: 404 });
    }
  };
}
