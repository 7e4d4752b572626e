/** Model folders of every kind, made of the tiny BERT of `test/golden`. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect } from "vitest";
import { FormatError } from "../../src/errors.ts";
import {
  parseSafetensors,
  serializeSafetensors,
  type SafetensorsTensor,
} from "../../src/files/safetensors.ts";
import { type EncoderConfig, parseConfig } from "../../src/model/config.ts";
import { openModel, readModelFolder } from "../../src/node/model-folder.ts";
import { tokenizerFromVocab } from "../../src/tokenizer/vocab.ts";

export const root: string = mkdtempSync(join(tmpdir(), "simcse-folder-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The tiny BERT of `test/golden`, and a vocabulary of its 40 pieces. */
const golden = JSON.parse(readFileSync("test/golden/encoder.json", "utf8"));
export const bert: object = golden.config;
export const encoder: EncoderConfig = parseConfig(bert, "golden").encoder;
export const hidden: number = encoder.hiddenSize;
export const weights: ReadonlyMap<string, SafetensorsTensor> = parseSafetensors(
  readFileSync("test/golden/encoder.safetensors"),
  "golden",
).tensors;
export const pieces: readonly string[] = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "[MASK]",
  ...Array.from("abcdefghijklmnopqrstuvwxyz,.?!012345"),
];
export const vocab: string = `${pieces.slice(0, 40).join("\n")}\n`;
export const tokenizer: object = tokenizerFromVocab(vocab, {}, "vocab.txt");
export const TEXTS: readonly string[] = ["a b c", "X y z, a ?", "", "q"];

export type Contents = Readonly<Record<string, string | Uint8Array | object>>;
let folders = 0;

/** Writes a folder: bytes and texts as they are, all else as JSON. */
export function folderOf(contents: Contents, name = `model-${folders++}`): string {
  const path = join(root, name);
  for (const [file, value] of Object.entries(contents)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    const raw = typeof value === "string" || value instanceof Uint8Array;
    writeFileSync(join(path, file), raw ? value : JSON.stringify(value));
  }
  return path;
}

export const float = (values: Iterable<number>, ...shape: number[]): SafetensorsTensor => ({
  dtype: "F32",
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
});
export const file = (tensors: ReadonlyMap<string, SafetensorsTensor>): Uint8Array =>
  serializeSafetensors(tensors);
export const own = (settings: object): object => ({ ...bert, simcse_edge: settings });
export const base: Contents = {
  "config.json": own({}),
  "tokenizer.json": tokenizer,
  "model.safetensors": file(weights),
};

export async function vectorsOf(path: string): Promise<Float32Array[]> {
  return (await openModel(await readModelFolder(path))).encode(TEXTS);
}
export const expected = (settings: object = {}): Promise<Float32Array[]> =>
  vectorsOf(folderOf({ ...base, "config.json": own(settings) }));

export async function refusal(path: string): Promise<string> {
  try {
    await openModel(await readModelFolder(path));
  } catch (error) {
    expect(error instanceof FormatError || error instanceof RangeError).toBe(true);
    return (error as Error).message;
  }
  throw new Error("opened");
}

/** A folder of sentence-transformers over the tiny BERT, with these modules after the encoder. */
export function sentenceTransformer(
  modules: readonly (readonly [type: string, path: string, config?: object])[],
  more: Contents = {},
): string {
  const entries = [["Transformer", "", undefined] as const, ...modules].map(
    ([type, path], idx) => ({
      idx,
      name: `${idx}`,
      path,
      type: type.includes(".") ? type : `sentence_transformers.models.${type}`,
    }),
  );
  const configs = modules.flatMap(([, path, config]) =>
    config ? [[`${path}/config.json`, config] as const] : [],
  );
  return folderOf({
    ...base,
    "config.json": bert,
    "modules.json": entries,
    ...Object.fromEntries(configs),
    ...more,
  });
}
