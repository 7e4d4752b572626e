import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import {
  parseSafetensors,
  serializeSafetensors,
  type SafetensorsTensor,
  toFloat32,
} from "../../src/files/safetensors.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openModel, readModelFolder, writeModelFolder } from "../../src/node/model-folder.ts";
import { dequantizeModel, quantizeModel } from "../../src/quantize/quantize.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { tokenizerFromMerges } from "../../src/tokenizer/vocab.ts";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

const root = mkdtempSync(join(tmpdir(), "simcse-convert-"));
afterAll(() => rmSync(root, { recursive: true }));

/** Ġ is a space. */
const PIECES = [
  "<s>",
  "<pad>",
  "</s>",
  "<unk>",
  ...Array.from("abcdrt"),
  "Ġ",
  "at",
  "Ġc",
  "Ġcat",
  "<mask>",
];
const VOCAB = Object.fromEntries(PIECES.map((piece, id) => [piece, id]));
const MERGES = "#version: 0.2\na t\nĠ c\nĠc at\n";
const TEXTS = ["a cat", "cat", "bad rat", ""];

it("vocab.json and merges.txt are RoBERTa's tokenizer: bytes, merges in their order, <s> and </s>", () => {
  const tokenizer = new Tokenizer(tokenizerFromMerges(VOCAB, MERGES, {}, "vocab.json"));
  const pieces = (text: string): (string | undefined)[] =>
    Array.from(tokenizer.encode(text, 32).ids, (id) => PIECES[id]);
  expect(pieces("a cat")).toEqual(["<s>", "a", "Ġcat", "</s>"]);
  expect(pieces("cat")).toEqual(["<s>", "c", "at", "</s>"]);
  expect(pieces("")).toEqual(["<s>", "</s>"]);
  const spaced = tokenizerFromMerges(VOCAB, MERGES, { add_prefix_space: true }, "vocab.json");
  expect(new Tokenizer(spaced).encode("cat", 32).ids).toEqual(Int32Array.of(0, 13, 2));
  expect(() => tokenizerFromMerges({ a: 0 }, "", {}, "vocab.json")).toThrow(FormatError);
  expect(() => tokenizerFromMerges(VOCAB, "a b c", {}, "vocab.json")).toThrow(
    'vocab.json: expected merges.txt beside it to have two pieces a line, found "a b c"',
  );
});

it("a RoBERTa folder of older files becomes a BERT folder with the same vectors, which opens like any", async () => {
  const source = join(root, "roberta");
  await writeTinyModel(source, "f32");
  const config = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as object;
  const weights = join(source, "model.safetensors");
  const { tensors } = parseSafetensors(readFileSync(weights), weights);
  const rows = (tensor: SafetensorsTensor, from: number, count: number): SafetensorsTensor => {
    const [, cols = 0] = tensor.shape;
    const data = new Uint8Array(4 * cols * count);
    data.set(tensor.data.subarray(0, 4 * cols * (count - from)), 4 * cols * from);
    return { dtype: "F32", shape: [count, cols], data };
  };
  const roberta = [...tensors].map(([name, tensor]): [string, SafetensorsTensor] => [
    `roberta.${name}`,
    name === "embeddings.position_embeddings.weight" ? rows(tensor, 2, 66) : tensor,
  ]);
  writeFileSync(weights, serializeSafetensors(roberta));
  for (const file of ["tokenizer.json", "modules.json"]) rmSync(join(source, file));
  const fields = { model_type: "roberta", max_position_embeddings: 66, pad_token_id: 1 };
  const { simcse_edge: _, ...theirs } = { simcse_edge: {}, ...config };
  writeFileSync(join(source, "config.json"), JSON.stringify({ ...theirs, ...fields }));
  writeFileSync(join(source, "vocab.json"), JSON.stringify(VOCAB));
  writeFileSync(join(source, "merges.txt"), MERGES);

  const target = join(root, "bert");
  const { status, stderr } = spawnSync(
    process.execPath,
    ["src/cli/main.ts", "convert", source, target],
    { encoding: "utf8" },
  );
  expect(status, stderr).toBe(0);
  const encode = async (folder: string): Promise<Float32Array[]> =>
    (await openModel(await readModelFolder(folder))).encode(TEXTS);
  expect(await encode(target)).toEqual(await encode(source));

  const json = (name: string): Record<string, unknown> =>
    JSON.parse(readFileSync(join(target, name), "utf8")) as Record<string, unknown>;
  expect(json("config.json")).toMatchObject({ model_type: "bert", max_position_embeddings: 64 });
  expect(json("1_Pooling/config.json")).toMatchObject({ pooling_mode_mean_tokens: true });
  expect(json("tokenizer_config.json")).toMatchObject({ cls_token: "<s>", mask_token: "<mask>" });
  const file = readFileSync(join(target, "model.safetensors"));
  const written = parseSafetensors(file, "written").tensors;
  expect(written.get("embeddings.position_embeddings.weight")!.shape).toEqual([64, 64]);
  expect([...written.values()].every(({ dtype }) => dtype === "F32")).toBe(true);
  expect(readFileSync(join(target, "README.md"), "utf8")).toContain("sentence-transformers");
});

const bytesOf = ({ data }: SafetensorsTensor): Uint8Array => new Uint8Array(data);

describe.each(["int8", "int4"] as const)("a model of %s weights", (dtype) => {
  const [source, floats, again] = ["", "-f32", "-again"].map((name) => join(root, dtype + name));
  const simcse = (...args: string[]): { status: number | null; stderr: string } =>
    spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });

  it("is made f32 by simcse convert, with the vectors it had, and with its codes when it is quantised", async () => {
    // Few large weights, as otherwise scales of int8 grow here and there, which is not undone.
    await writeTinyModel(floats!, "f32");
    const folder = await readModelFolder(floats!);
    const tensors = Array.from(folder.tensors, ([name, tensor]): [string, SafetensorsTensor] => {
      const isMatrix = name.startsWith("encoder.") && tensor.shape.length === 2;
      const few = toFloat32(tensor).map((w) => (isMatrix ? 0.2 * (w / 0.08) ** 7 : w));
      return [name, { ...tensor, data: new Uint8Array(few.buffer) }];
    });
    const node = await compileKernels("node");
    const quantised = quantizeModel(node, folder.config, new Map(tensors), "few", dtype);
    await writeModelFolder(source!, { ...folder, ...quantised });
    const run = simcse("convert", "--dtype", "f32", source!, floats!);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain(`${source}: its ${dtype} weights, made f32 again`);
    expect(existsSync(join(floats!, "modules.json"))).toBe(true);
    const models = await Promise.all([source!, floats!].map(readModelFolder));
    const [before, after] = await Promise.all(
      models.map(async (model) => (await openModel(model)).encode(SENTENCES)),
    );
    before!.forEach((vector, i) => {
      const cosine = vector.reduce((sum, x, j) => sum + x * after![i]![j]!, 0);
      expect(cosine).toBeGreaterThan(0.9999);
    });

    const back = simcse("convert", "--dtype", dtype, floats!, again!);
    expect(back.status, back.stderr).toBe(0);
    const { config, tensors: packed } = await readModelFolder(again!);
    expect(config).toEqual(models[0]!.config);
    for (const [name, tensor] of dtype === "int8" ? models[0]!.tensors : []) {
      if (tensor.dtype === "I8") expect(bytesOf(packed.get(name)!), name).toEqual(bytesOf(tensor));
    }
    // int4 may turn the sign of both a scale and its codes.
    for (const [name, tensor] of dequantizeModel(node, config, packed, again!).tensors) {
      const values = toFloat32(models[1]!.tensors.get(name)!);
      toFloat32(tensor).forEach((x, i) => expect(x, name).toBeCloseTo(values[i]!, 6));
    }
  });

  it("is trained as what it was made of", () => {
    const text = join(root, "text.txt");
    writeFileSync(text, SENTENCES.join("\n"));
    const [run, other] = [source!, floats!].map((model) => {
      const output = `${model}-trained`;
      const options = ["--corpus", text, "--steps", "2", "--batch-size", "4", "--threads", "1"];
      const { status, stderr } = simcse("train", "--model", model, "--output", output, ...options);
      expect(status, stderr).toBe(0);
      return { stderr, weights: readFileSync(join(output, "model.safetensors")) };
    });
    expect(run!.stderr).toContain(`its ${dtype} weights, made f32 again`);
    expect(other!.stderr).not.toContain("made f32 again");
    expect(run!.weights.equals(other!.weights)).toBe(true);
  });

  it("is refused where a scale makes no number of a code, which is said", async () => {
    const { config, tensors } = await readModelFolder(source!);
    const name = "encoder.layer.0.output.dense.scales";
    const scales = toFloat32(tensors.get(name)!).fill(3e38);
    const damaged = new Map(tensors).set(name, {
      ...tensors.get(name)!,
      data: new Uint8Array(scales.buffer),
    });
    const node = await compileKernels("node");
    expect(() => dequantizeModel(node, config, damaged, "a.safetensors")).toThrow(
      /^encoder\.layer\.0\.output\.dense\.weight\[\d+\]: expected a number, found -?Infinity in a\.safetensors$/,
    );
    damaged.delete(name);
    expect(() => dequantizeModel(node, config, damaged, "a.safetensors")).toThrow(
      `${name}: expected [${tensors.get(name)!.shape.join(", ")}], absent from a.safetensors`,
    );
    const floatConfig = { ...config, dtype: "f32" } as const;
    expect(() => dequantizeModel(node, floatConfig, tensors, "a")).toThrow("a: in f32 already");
  });
});
