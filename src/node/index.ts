/** The API in Node: model folders, threads and files. What a program may never need is loaded when it does. */
import { availableParallelism } from "node:os";
import { type Dtype, DTYPES } from "../model/config.ts";
import { allocateEncoders } from "../model/load-encoders.ts";
import { SentenceEncoder } from "../model/sentence-encoder.ts";
import { FlatIndex, type NewItem } from "../search/flat-index.ts";
import { TextIndex } from "../search/text-index.ts";
import { type BuildOptions, configure, type ModelOptions, SentenceModel } from "../simcse.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { compileKernels } from "./binaries.ts";
import { FileSource } from "./file-source.ts";
import { writeFileAtomic } from "./files.ts";
import { type ModelFolder, readModelFolder } from "./model-folder.ts";
import { EncoderPool } from "./pool.ts";

export * from "../index.ts";
export { type ModelFolder, readModelFolder, writeModelFolder } from "./model-folder.ts";
export { Team } from "./team.ts";

export interface LoadOptions extends ModelOptions {
  /**
   * Threads that encode, at most as many as cores. Default: all cores. With 0 the caller's own encodes, and does nothing
   * else meanwhile: sooner ready, and without a message there and back.
   */
  readonly threads?: number;
  /** Number format of the weights. Default: that of the folder. An f32 folder is quantised while it is loaded. */
  readonly dtype?: Dtype;
}

/** A sentence-embedding model on threads of its own; see `SentenceModel` for what it does. */
export class SimCSE extends SentenceModel {
  /**
   * Loads a model folder, or the model of a hub by its name: `org/name` or `org/name@revision`. Threads that wait for texts do not keep the process alive, so `close` is only needed to end them
   * earlier; `await using` does that at the end of a block.
   *
   *     await using model = await SimCSE.load("models/my-model", { threads: 2 });
   *     const vector = await model.encode("A cat sleeps."); // Float32Array [dimension]
   *
   * @throws FormatError naming the file and what is wrong with it; RangeError for an option out of bounds, and for a `dtype`
   * that a quantised folder does not have
   */
  static async load(
    folder: string,
    { threads = availableParallelism(), dtype, ...options }: LoadOptions = {},
  ): Promise<SimCSE> {
    if (!(Number.isInteger(threads) && threads >= 0)) {
      throw new RangeError(`threads ${threads}: expected a whole number from 0`);
    }
    const read = await readModelFolder(folder);
    const { config, tensors } = await convertTo(dtype, {
      ...read,
      config: configure(read.config, options),
    });
    const tokenizer = new Tokenizer(read.tokenizerJson);
    if (threads === 0) {
      const kernels = await compileKernels("edge");
      const memory = allocateEncoders(kernels, config, tensors, read.weightsFile);
      return new SimCSE(new SentenceEncoder(kernels, config, memory), tokenizer, kernels);
    }
    const ranks = Math.min(threads, availableParallelism());
    const pool = await EncoderPool.start(config, tensors, read.weightsFile, ranks);
    try {
      return new SimCSE(pool, tokenizer, await compileKernels("edge"));
    } catch (error) {
      await pool.close();
      throw error;
    }
  }

  /**
   * An index over texts, or over the lines of a UTF-8 file.
   *
   *     const index = await model.buildIndex("corpus.txt", { precision: "int8" });
   *     await saveIndex(index, "corpus.index");
   */
  override async buildIndex(
    textsOrFile: readonly NewItem[] | string,
    options: BuildOptions = {},
  ): Promise<TextIndex> {
    if (typeof textsOrFile !== "string") return super.buildIndex(textsOrFile, options);
    const { readLines } = await import("./text-files.ts");
    const texts: string[] = [];
    for await (const line of readLines(textsOrFile)) texts.push(line);
    return super.buildIndex(texts, options);
  }

  /** An index that `saveIndex` wrote, over texts of this model: read a block at a time, with no second copy of it. */
  async loadIndex(file: string): Promise<TextIndex> {
    await using source = await FileSource.open(file, "an index");
    return await this.openIndex(source, file);
  }
}

/** A model in the number format asked for. */
async function convertTo(
  dtype: Dtype | undefined,
  { path, config, tensors, weightsFile }: ModelFolder,
): Promise<Pick<ModelFolder, "config" | "tensors">> {
  if (dtype === undefined || dtype === config.dtype) return { config, tensors };
  if (!DTYPES.includes(dtype)) {
    throw new RangeError(`dtype "${dtype}": expected one of ${DTYPES.join(", ")}`);
  }
  if (config.dtype !== "f32" || dtype === "f32") {
    throw new RangeError(
      `dtype "${dtype}": ${path} is a package of ${config.dtype} weights; load the f32 folder that it was made from, ` +
        `or leave dtype out`,
    );
  }
  const { quantizeModel } = await import("../quantize/quantize.ts");
  const node = await compileKernels("node");
  const quantized = quantizeModel(node, config, tensors, weightsFile, dtype);
  return { config: quantized.config, tensors: new Map(quantized.tensors) };
}

/** An index of a file without the model that its vectors are of. */
export async function openFlatIndex(file: string): Promise<FlatIndex> {
  await using source = await FileSource.open(file, "an index");
  return await FlatIndex.parse(await compileKernels("edge"), source, file);
}

/** Writes an index to a file, as a whole or not at all. */
export async function saveIndex(index: TextIndex | FlatIndex, file: string): Promise<void> {
  const { createHash } = await import("node:crypto");
  const flat = index instanceof TextIndex ? index.index : index;
  await writeFileAtomic(
    file,
    flat.chunks(() => createHash("sha256")),
  );
}
