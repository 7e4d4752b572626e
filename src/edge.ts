/** The API where there are no folders: Workers, browsers, Deno. */
import { type JsonLimits, parseJson, VOCABULARY } from "./files/json.ts";
import { parseSafetensors } from "./files/safetensors.ts";
import { parseConfig } from "./model/config.ts";
import { allocateEncoders } from "./model/load-encoders.ts";
import { SentenceEncoder } from "./model/sentence-encoder.ts";
import { configure, type ModelOptions, SentenceModel } from "./simcse.ts";
import { Tokenizer } from "./tokenizer/tokenizer.ts";

export * from "./index.ts";

/** The files of a model folder, by name. */
export type ModelFiles = Readonly<
  Record<"config.json" | "tokenizer.json" | "model.safetensors", Uint8Array>
>;

/** A sentence-embedding model on this thread; see `SentenceModel` for what it does. */
export class SimCSE extends SentenceModel {
  /**
   * Loads a model of files in memory. `kernels` is the edge binary (`simcse-edge/wasm/edge.wasm`), compiled; the portable
   * one runs where relaxed SIMD is missing.
   *
   *     import kernels from "simcse-edge/wasm/edge.wasm"; // a WebAssembly.Module in a Worker
   *     const model = await SimCSE.load(files, kernels);
   *
   * @throws FormatError naming the file and what is wrong with it
   */
  static load(
    files: ModelFiles,
    kernels: WebAssembly.Module,
    options: ModelOptions = {},
  ): Promise<SimCSE> {
    return Promise.resolve().then(() => {
      const config = configure(parseConfig(readJson(files, "config.json"), "config.json"), options);
      const tokenizer = new Tokenizer(readJson(files, "tokenizer.json", VOCABULARY));
      const { tensors } = parseSafetensors(files["model.safetensors"], "model.safetensors");
      const memory = allocateEncoders(kernels, config, tensors, "model.safetensors");
      return new SimCSE(new SentenceEncoder(kernels, config, memory), tokenizer, kernels);
    });
  }
}

function readJson(files: ModelFiles, name: keyof ModelFiles, limits?: JsonLimits): object {
  return parseJson(files[name], name, "a file of a model", limits) as object;
}
