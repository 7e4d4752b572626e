import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import {
  parseSafetensors,
  serializeSafetensors,
  type SafetensorsTensor,
} from "../../src/files/safetensors.ts";
import { openModel, readModelFolder } from "../../src/node/model-folder.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { tokenizerFromMerges } from "../../src/tokenizer/vocab.ts";
import { writeTinyModel } from "../worker/tiny-model.ts";

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

it("int8 weights are not made f32 again, which is said", async () => {
  const source = join(root, "int8");
  await writeTinyModel(source, "int8");
  const { status, stderr } = spawnSync(
    process.execPath,
    ["src/cli/main.ts", "convert", source, join(root, "none")],
    { encoding: "utf8" },
  );
  expect(status).toBe(2);
  expect(stderr).toContain("weights of int8 cannot be made f32 again");
});
