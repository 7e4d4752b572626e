/**
 * Model folders: `config.json`, `tokenizer.json` and `model.safetensors` as Hugging Face lays them out, so that PyTorch
 * users read what we train. An int8 folder has the same three files, with quantised tensors in the last.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import {
  parseSafetensors,
  serializeSafetensors,
  type SafetensorsTensor,
} from "../files/safetensors.ts";
import { type ModelConfig, parseConfig, serializeConfig } from "../model/config.ts";
import { SentenceEncoder } from "../model/sentence-encoder.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { compileKernels } from "./binaries.ts";
import { readFileOr, writeFileAtomic } from "./files.ts";

export interface ModelFolder {
  readonly path: string;
  readonly config: ModelConfig;
  readonly tokenizerJson: object;
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  /** Path of the weights, for errors. */
  readonly weightsFile: string;
}

/** Reads a JSON file. */
export async function readJson(path: string, what: string): Promise<object> {
  const text = new TextDecoder().decode(await readFileOr(path, what));
  try {
    return JSON.parse(text) as object;
  } catch (cause) {
    throw new FormatError(`${path}: expected ${what} as JSON; ${(cause as Error).message}`, {
      cause,
    });
  }
}

export async function readModelFolder(path: string): Promise<ModelFolder> {
  const configFile = join(path, "config.json");
  const config = parseConfig(
    await readJson(configFile, "the configuration of a model"),
    configFile,
  );
  const tokenizerJson = await readJson(join(path, "tokenizer.json"), "a tokenizer");
  const weightsFile = join(path, "model.safetensors");
  const { tensors } = parseSafetensors(
    await readFileOr(weightsFile, "the weights of a model"),
    weightsFile,
  );
  return { path, config, tokenizerJson, tensors, weightsFile };
}

/** Writes a folder that `readModelFolder` opens; each file is replaced as a whole. */
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
  await mkdir(path, { recursive: true });
  const json = (value: object): Uint8Array =>
    new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
  await writeFileAtomic(
    join(path, "model.safetensors"),
    serializeSafetensors(tensors, { format: "pt" }),
  );
  await writeFileAtomic(join(path, "tokenizer.json"), json(tokenizerJson));
  await writeFileAtomic(join(path, "config.json"), json(serializeConfig(config)));
}

/** A model ready to encode texts. */
export interface TextModel {
  readonly encoder: SentenceEncoder;
  readonly tokenizer: Tokenizer;
  /** Vectors of texts on the unit sphere; what is longer than the model's maximum is cut there. */
  encode(texts: readonly string[]): Float32Array[];
}

export async function openModel(folder: ModelFolder): Promise<TextModel> {
  const tokenizer = new Tokenizer(folder.tokenizerJson);
  const { config } = folder;
  if (tokenizer.vocabSize > config.encoder.vocabSize) {
    throw new FormatError(
      `${folder.path}: tokenizer.json has ${tokenizer.vocabSize} pieces, but the model's table only ` +
        `${config.encoder.vocabSize} rows; they do not belong together`,
    );
  }
  const encoder = new SentenceEncoder(
    await compileKernels("edge"),
    config,
    folder.tensors,
    folder.weightsFile,
  );
  return {
    encoder,
    tokenizer,
    encode: (texts) =>
      encoder.encode(texts.map((text) => tokenizer.encode(text, config.maxLength).ids)),
  };
}
