/** What `simcse eval` can measure: a model folder, the same with random weights, and a file of word vectors. */
import { UsageError } from "../errors.ts";
import { averageWords, readWordVectors, wordsOf } from "../evaluate/word-vectors.ts";
import { poolingsOf } from "../model/config.ts";
import { planParameters } from "../model/parameters.ts";
import { storeWeights } from "../model/weights.ts";
import { Arena } from "../runtime/arena.ts";
import { initializeWeights } from "../train/initialize.ts";
import { type ModelFolder, openModel, readModelFolder } from "./model-folder.ts";
import { readLines } from "./text-files.ts";

export interface Embedder {
  readonly pooling: string;
  readonly dtype: string;
  /** Vectors [texts][dimension] of any length: the transfer tasks and whitening see the lengths. */
  encode(texts: readonly string[]): Promise<Float32Array[]>;
}

const RANDOM_SEED = 42;

/**
 * Opens `FOLDER`, `random:FOLDER` (its shape and tokenizer with fresh weights) or `glove:FILE` (text of GloVe or word2vec).
 * @throws as `readModelFolder` and `readWordVectors`
 */
export async function openEmbedder(name: string): Promise<Embedder> {
  const [, kind, path] = /^(glove|random):(.+)$/.exec(name) ?? [undefined, "folder", name];
  if (kind === "glove") return wordVectorEmbedder(path);
  const folder = await readModelFolder(path);
  const { encoder, tokenizer } = await openModel(kind === "random" ? randomized(folder) : folder);
  const { dtype, maxLength } = folder.config;
  return {
    pooling: poolingsOf(folder.config).join("+"),
    dtype,
    encode: async (texts) =>
      encoder.encode(
        texts.map((text) => tokenizer.encode(text, maxLength).ids),
        { normalize: false },
      ),
  };
}

/** A folder's twin with the weights that `simcse init` gives: what an encoder knows before it has learnt anything. */
function randomized(folder: ModelFolder): ModelFolder {
  const { config, path } = folder;
  if (config.dtype !== "f32" || config.table) {
    const found = config.table ? "a static model" : config.dtype;
    throw new UsageError(`random:${path}: expected an encoder in f32, found ${found}`);
  }
  const arena = new Arena(64);
  const weights = planParameters(arena, config.encoder, config.pooling === "cls");
  const buffer = new ArrayBuffer(arena.top);
  initializeWeights(buffer, weights, RANDOM_SEED);
  return { ...folder, tensors: new Map(storeWeights(buffer, weights.named)) };
}

/** Reads the file once for each call, and of it only the words that occur: these files have gigabytes. */
function wordVectorEmbedder(file: string): Embedder {
  return {
    pooling: "avg",
    dtype: "f32",
    encode: async (texts) => {
      const wanted = new Set(
        texts.flatMap((text) => wordsOf(text).flatMap((word) => [word, word.toLowerCase()])),
      );
      const { vectors, dimension } = await readWordVectors(readLines(file), wanted, file);
      return averageWords(texts, vectors, dimension);
    },
  };
}
