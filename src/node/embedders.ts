/** What `simcse eval` can measure: model folders, the same with random weights, files of word vectors, and each of these whitened. */
import { availableParallelism } from "node:os";
import { UsageError } from "../errors.ts";
import { fitWhitening } from "../evaluate/whitening.ts";
import { averageWords, readWordVectors, wordsOf } from "../evaluate/word-vectors.ts";
import { type InferencePooling, poolingsOf, validatePooling } from "../model/config.ts";
import { planParameters } from "../model/parameters.ts";
import { storeWeights } from "../model/weights.ts";
import { Arena } from "../runtime/arena.ts";
import { configure, SentenceModel } from "../simcse.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { initializeWeights } from "../train/initialize.ts";
import { compileKernels } from "./binaries.ts";
import { type ModelFolder, readModelFolder } from "./model-folder.ts";
import { EncoderPool } from "./pool.ts";
import { readLines } from "./text-files.ts";

export interface Embedder extends AsyncDisposable {
  readonly pooling: string;
  readonly dtype: string;
  /** Vectors [texts][dimension] of any length: the transfer tasks and whitening see the lengths. */
  encode(texts: readonly string[]): Promise<Float32Array[]>;
}

export interface EmbedderOptions {
  /** Instead of the folder's own. */
  readonly pooling?: InferencePooling | undefined;
  /** What `whitened:` is fitted on, and the dimensions it keeps. */
  readonly whitening?: Whitening | undefined;
}

export interface Whitening {
  readonly sentences: readonly string[];
  readonly dimensions?: number | undefined;
}

const RANDOM_SEED = 42;

/**
 * Opens `FOLDER`, `random:FOLDER` (its shape and tokenizer with fresh weights), `glove:FILE` (text of GloVe or word2vec), or
 * `whitened:` before any of them.
 * @throws UsageError for an option that does not fit; otherwise as `readModelFolder` and `readWordVectors`
 */
export async function openEmbedder(name: string, options: EmbedderOptions = {}): Promise<Embedder> {
  const [, kind, path] = /^(glove|random|whitened):(.+)$/.exec(name) ?? [undefined, "folder", name];
  if (kind === "whitened") return whitened(name, await openEmbedder(path, options), options);
  const { pooling } = options;
  if (kind === "glove") {
    if (pooling === undefined) return wordVectorEmbedder(path);
    throw new UsageError(
      `${name}: expected no --pooling ${pooling}: word vectors are averaged; evaluate it by itself`,
    );
  }
  const folder = await readModelFolder(path);
  const configured = {
    ...folder,
    config: configure(folder.config, { ...(pooling && { pooling }) }),
  };
  validatePooling(configured.config, path);
  return folderEmbedder(kind === "random" ? randomized(configured) : configured);
}

async function folderEmbedder(folder: ModelFolder): Promise<Embedder> {
  const { config, tensors, weightsFile, tokenizerJson } = folder;
  const tokenizer = new Tokenizer(tokenizerJson);
  const pool = await EncoderPool.start(config, tensors, weightsFile, availableParallelism());
  const model = new SentenceModel(pool, tokenizer, await compileKernels("edge"));
  return {
    pooling: poolingsOf(config).join("+"),
    dtype: config.dtype,
    encode: (texts) => model.encode(texts, { normalize: false }),
    [Symbol.asyncDispose]: () => pool.close(),
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
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The embedder with its vectors whitened as those of the sentences are. */
async function whitened(
  name: string,
  embedder: Embedder,
  { whitening }: EmbedderOptions,
): Promise<Embedder> {
  if (whitening === undefined) {
    throw new UsageError(`${name}: expected --whiten <corpus> beside it, to fit the whitening on`);
  }
  const whiten = fitWhitening(await embedder.encode(whitening.sentences), whitening.dimensions);
  return { ...embedder, encode: async (texts) => (await embedder.encode(texts)).map(whiten) };
}
