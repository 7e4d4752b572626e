import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type SafetensorsTensor } from "../../src/files/safetensors.ts";
import { allocateEncoders } from "../../src/model/load-encoders.ts";
import { SentenceEncoder } from "../../src/model/sentence-encoder.ts";
import { foldStatic } from "../../src/model/weights.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openModel, readModelFolder, writeModelFolder } from "../../src/node/model-folder.ts";
import { dequantizeModel, quantizeModel } from "../../src/quantize/quantize.ts";

import { file, float, folderOf, pieces, refusal, root, tokenizer, vectorsOf } from "./folders.ts";

describe("static models", () => {
  const table = Float32Array.from({ length: 3 * 4 }, (_, i) => i - 4);
  const factors = pieces.slice(0, 40).map((_, i) => (i % 5) / 4);
  const mapping = Int32Array.from({ length: 40 }, (_, i) => i % 3);
  const modules = [
    { idx: 0, name: "0", path: ".", type: "sentence_transformers.models.StaticEmbedding" },
  ];
  const vector = (ids: readonly number[]): number[] =>
    [0, 1, 2, 3].map((j) =>
      ids.reduce((sum, id) => sum + (factors[id]! * table[(id % 3) * 4 + j]!) / ids.length, 0),
    );
  const tensors = (rows = mapping): Uint8Array =>
    file(
      new Map<string, SafetensorsTensor>([
        ["embeddings", float(table, 3, 4)],
        ["mapping", { dtype: "I32", shape: [40], data: new Uint8Array(rows.buffer.slice()) }],
        [
          "weights",
          { dtype: "F64", shape: [40], data: new Uint8Array(Float64Array.from(factors).buffer) },
        ],
      ]),
    );

  it("average weighted rows; no special tokens, no unknown ones, and nothing of nothing", async () => {
    const path = folderOf({
      "config.json": { model_type: "model2vec", normalize: false },
      "tokenizer.json": tokenizer,
      "model.safetensors": tensors(),
    });
    const { encoder: model, tokenizer: read } = await openModel(await readModelFolder(path));
    const ids = ["a b c", "a é b", ""].map((text) => read.encode(text, 64).ids);
    expect([...ids[0]!]).toEqual([5, 6, 7]);
    const found = model.encode(ids, { normalize: false });
    const want = [vector([5, 6, 7]), vector([5, 9, 6]), [0, 0, 0, 0]];
    found.forEach((row, i) =>
      row.forEach((value, j) => expect(value).toBeCloseTo(want[i]![j]!, 5)),
    );

    const copy = join(root, "static-copy");
    const folder = await readModelFolder(path);
    await writeModelFolder(copy, folder);
    expect(await vectorsOf(copy)).toEqual(await vectorsOf(path));
  });

  it("fold into a table alone with the same vectors, unless a token counts for nothing", async () => {
    const path = folderOf({
      "config.json": { model_type: "model2vec", normalize: false },
      "tokenizer.json": tokenizer,
      "model.safetensors": tensors(),
    });
    const folder = await readModelFolder(path);
    expect(foldStatic(folder.config, folder.tensors).tensors).toBe(folder.tensors);
    const config = { ...folder.config, table: { rows: 3 } };
    const folded = foldStatic(config, folder.tensors);
    expect([...folded.tensors.keys()]).toEqual(["embedding.weight"]);
    const alone = join(root, "static-alone");
    await writeModelFolder(alone, { ...folder, ...folded });
    const model = await openModel(await readModelFolder(alone));
    const [found] = model.encoder.encode([[5, 6, 7]], { normalize: false });
    vector([5, 6, 7]).forEach((value, j) => expect(found![j]).toBeCloseTo(value, 5));
    const written = JSON.parse(readFileSync(join(alone, "modules.json"), "utf8")) as object[];
    expect(written).toEqual([{ ...modules[0], path: "" }]);
  });

  it("of int8 have a row of codes for each token, and the same bits on every target", async () => {
    const path = folderOf({
      "config.json": { model_type: "model2vec", normalize: false },
      "tokenizer.json": tokenizer,
      "model.safetensors": tensors(),
    });
    const folder = await readModelFolder(path);
    const node = await compileKernels("node");
    const int8 = quantizeModel(node, folder.config, folder.tensors, "static");
    expect(() => quantizeModel(node, folder.config, folder.tensors, "static", "int4")).toThrow(
      "static: int4 is for linear layers, and a static model is a table; use int8",
    );
    const target = join(root, "static-int8");
    await writeModelFolder(target, { ...folder, ...int8 });
    let read = await readModelFolder(target);
    expect([...read.tensors.keys()].toSorted()).toEqual(["embeddings.codes", "embeddings.scales"]);
    const weightsFile = join(target, "model.safetensors");
    const bytes = readFileSync(weightsFile);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(weightsFile, bytes);
    await expect(readModelFolder(target)).rejects.toThrow(
      /model\.safetensors: damaged: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}/,
    );
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(weightsFile, bytes);
    read = await readModelFolder(target);
    const ids = [
      [5, 6, 7],
      [9, 1, 12, 39],
    ];
    const encodings = ["edge", "portable"].map(async (name) => {
      const module = await compileKernels(name as "edge");
      const memory = allocateEncoders(module, read.config, read.tensors, "static");
      return new SentenceEncoder(module, read.config, memory).encode(ids, { normalize: false });
    });
    const [edge, portable] = await Promise.all(encodings);
    expect(portable).toEqual(edge);
    const floats = dequantizeModel(node, read.config, read.tensors, "static");
    expect(floats.config).toEqual({
      ...folder.config,
      table: { ...folder.config.table, rows: 40 },
    });
    const again = quantizeModel(node, floats.config, new Map(floats.tensors), "static");
    expect(new Map(again.tensors).get("embeddings.codes")).toEqual(
      new Map(int8.tensors).get("embeddings.codes"),
    );
    ids.forEach((tokens, i) => {
      // The unknown token, 1, counts for nothing; a code is within half a step of its value.
      vector(tokens.filter((id) => id !== 1)).forEach((value, j) =>
        expect(Math.abs(edge![i]![j]! - value)).toBeLessThan(7 / 127),
      );
    });
  });

  it("of sentence-transformers have a row for every token", async () => {
    const rows = Float32Array.from({ length: 40 * 4 }, (_, i) => Math.sin(i));
    const path = folderOf({
      "modules.json": modules,
      "tokenizer.json": tokenizer,
      "model.safetensors": file(new Map([["embedding.weight", float(rows, 40, 4)]])),
    });
    const { encoder: model } = await openModel(await readModelFolder(path));
    expect([...model.encode([[7]], { normalize: false })[0]!]).toEqual(
      Array.from(rows.subarray(28, 32)),
    );
  });

  it("may go on with a dense module, here without a bias", async () => {
    const rows = Float32Array.from({ length: 40 * 4 }, (_, i) => Math.cos(i));
    const entry = {
      idx: 1,
      name: "1",
      path: "1_Dense",
      type: "sentence_transformers.models.Dense",
    };
    const path = folderOf({
      "modules.json": [...modules, entry],
      "tokenizer.json": tokenizer,
      "model.safetensors": file(new Map([["embedding.weight", float(rows, 40, 4)]])),
      "1_Dense/config.json": { in_features: 4, out_features: 8, bias: false },
      "1_Dense/model.safetensors": file(
        new Map([
          [
            "linear.weight",
            float(
              Array.from({ length: 32 }, (_, i) => i),
              8,
              4,
            ),
          ],
        ]),
      ),
    });
    const { encoder: model } = await openModel(await readModelFolder(path));
    const [found] = model.encode([[7]], { normalize: false });
    found!.forEach((value, i) => {
      const want = [0, 1, 2, 3].reduce((sum, j) => sum + rows[28 + j]! * (4 * i + j), 0);
      expect(value).toBeCloseTo(want, 4);
    });
  });

  it("are refused where a token has no row", async () => {
    const path = folderOf({
      "modules.json": modules,
      "tokenizer.json": tokenizer,
      "model.safetensors": tensors(mapping.map((row) => row + 1)),
    });
    expect(await refusal(path)).toContain("mapping[2]: expected one of the 3 rows of embeddings");
  });
});

/** Real files, too large or of licences that keep them out of this repository. */
const shared = process.env["SIMCSE_SHARED"] ?? "../shared";
const needs = (path: string): string => (existsSync(path) ? "" : " (skipped: needs ../shared)");

const realStatic = join(shared, "data/static");
it.skipIf(!existsSync(realStatic))(
  `a model2vec of 29,524 tokens gives its golden vector to 2e-7${needs(realStatic)}`,
  async () => {
    const [want] = JSON.parse(readFileSync(join(realStatic, "golden_embeddings.json"), "utf8"));
    const [found] = (await openModel(await readModelFolder(realStatic))).encode(["hello"]);
    expect(Math.max(...found!.map((value, i) => Math.abs(value - want[i])))).toBeLessThan(2e-7);
  },
);
