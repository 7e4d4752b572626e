import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { SimCSE as EdgeSimCSE } from "../../src/edge.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { SimCSE } from "../../src/node/index.ts";
import { openModel, readModelFolder, type TextModel } from "../../src/node/model-folder.ts";
import { DTYPES, QUANTIZED_DTYPES } from "../../src/model/config.ts";
import { EncoderPool } from "../../src/node/pool.ts";
import { SentenceModel } from "../../src/simcse.ts";
import { MAX_LENGTH, SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-api-"));
const folderOf = (dtype: string): string => join(directory, dtype);

/** Texts of every length, in no order: several batches, whatever their size. */
const TEXTS: readonly string[] = Array.from({ length: 150 }, (_, i) =>
  SENTENCES.slice(0, 1 + ((7 * i) % 5))
    .join(" ")
    .slice(i % 11),
);

/** One thread, no pool: what everything is compared with. */
const reference = new Map<string, TextModel>();
let model: SimCSE;
let kernels: WebAssembly.Module;

beforeAll(async () => {
  for (const dtype of DTYPES) {
    await writeTinyModel(folderOf(dtype), dtype);
    reference.set(dtype, await openModel(await readModelFolder(folderOf(dtype))));
  }
  model = await SimCSE.load(folderOf("f32"), { threads: 2 });
  kernels = await compileKernels("edge");
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true });
});

function norm(vector: Float32Array): number {
  return Math.hypot(...vector);
}

describe.each(DTYPES)("%s: a vector has the same bits", (dtype) => {
  it.each([1, 2, 3])("on a pool of %i threads, in any batch", async (threads) => {
    const { config, tensors, weightsFile } = await readModelFolder(folderOf(dtype));
    const pool = await EncoderPool.start(config, tensors, weightsFile, threads);
    await using loaded = new SimCSE(pool, reference.get(dtype)!.tokenizer, kernels);
    const expected = reference.get(dtype)!.encode(TEXTS);
    for (const batchSize of [1, 7, 64, 1000]) {
      expect(await loaded.encode(TEXTS, { batchSize })).toEqual(expected);
    }
    expect(await loaded.encode(TEXTS[3]!)).toEqual(expected[3]);
  });

  it("on a pool, of token ids that lie in a large buffer, which stays where it is", async () => {
    const { config, tensors, weightsFile } = await readModelFolder(folderOf(dtype));
    const sent = vi.spyOn(Worker.prototype, "postMessage");
    const pool = await EncoderPool.start(config, tensors, weightsFile, 1);
    const all = new Int32Array(1e6).fill(5);
    const views = [all.subarray(0, 3), all.subarray(4, 9)];
    const found = await pool.encode(views);
    const { texts } = sent.mock.lastCall![0] as { texts: Int32Array[] };
    sent.mockRestore();
    expect(texts.map(({ buffer }) => buffer.byteLength)).toEqual([12, 20]);
    expect(found).toEqual(await pool.encode(views.map((view) => [...view])));
    await pool.close();
  });

  it("on the caller's thread", async () => {
    const started = vi.spyOn(Worker.prototype, "postMessage");
    await using loaded = await SimCSE.load(folderOf(dtype), { threads: 0 });
    expect(await loaded.encode(TEXTS)).toEqual(reference.get(dtype)!.encode(TEXTS));
    expect(started).not.toHaveBeenCalled();
    started.mockRestore();
  });

  it("without threads, of files in memory", async () => {
    const file = (name: string): Uint8Array => readFileSync(join(folderOf(dtype), name));
    const files = {
      "config.json": file("config.json"),
      "tokenizer.json": file("tokenizer.json"),
      "model.safetensors": file("model.safetensors"),
    };
    const loaded = await EdgeSimCSE.load(files, kernels);
    expect(await loaded.encode(TEXTS)).toEqual(reference.get(dtype)!.encode(TEXTS));

    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("enough")));
    const { signal } = controller;
    await expect(loaded.encode(TEXTS, { batchSize: 5, signal })).rejects.toThrow("enough");
  });
});

describe("dtype", () => {
  it.each(QUANTIZED_DTYPES)(
    "%s quantises an f32 folder while it is loaded: the vectors of a package, bit for bit",
    async (dtype) => {
      await using loaded = await SimCSE.load(folderOf("f32"), { threads: 1, dtype });
      expect(loaded.config.dtype).toBe(dtype);
      expect(await loaded.encode(TEXTS)).toEqual(reference.get(dtype)!.encode(TEXTS));
      await using same = await SimCSE.load(folderOf(dtype), { threads: 1, dtype });
      expect(await same.encode(TEXTS)).toEqual(reference.get(dtype)!.encode(TEXTS));
    },
  );

  it("refuses one that a package does not have, and one that there is not", async () => {
    await expect(SimCSE.load(folderOf("int8"), { dtype: "f32" })).rejects.toThrow(
      `dtype "f32": ${folderOf("int8")} is a package of int8 weights; load the f32 folder that it was made from, or leave dtype out`,
    );
    await expect(SimCSE.load(folderOf("f32"), { dtype: "int3" as "int8" })).rejects.toThrow(
      'dtype "int3": expected one of f32, int8, int4',
    );
  });
});

describe("encode", () => {
  it("gives a text one vector and a list a row each, also a list of one or none", async () => {
    const [first] = reference.get("f32")!.encode([SENTENCES[0]!]);
    expect(await model.encode(SENTENCES[0]!)).toEqual(first);
    expect(await model.encode([SENTENCES[0]!])).toEqual([first]);
    expect(await model.encode([])).toEqual([]);
    expect(await model.encode([], { precision: "int8" })).toEqual([]);
  });

  it("takes token ids as a text, in an array or a typed array, alone or in a list", async () => {
    const expected = await model.encode(SENTENCES[1]!);
    const { ids } = model.tokenizer.encode(SENTENCES[1]!, MAX_LENGTH);
    expect(await model.encode(ids)).toEqual(expected);
    expect(await model.encode(Array.from(ids))).toEqual(expected);
    expect(await model.encode([ids, Array.from(ids)])).toEqual([expected, expected]);
  });

  it("encodes an empty text, and lone surrogates", async () => {
    const vectors = await model.encode(["", "\ud800"]);
    for (const vector of vectors) expect(norm(vector)).toBeCloseTo(1, 6);
  });

  it("normalizes unless told otherwise", async () => {
    const unit = await model.encode(SENTENCES[2]!);
    const raw = await model.encode(SENTENCES[2]!, { normalize: false });
    expect(norm(unit)).toBeCloseTo(1, 6);
    expect(norm(raw)).not.toBeCloseTo(1, 1);
    raw.forEach((x, i) => expect(x / norm(raw)).toBeCloseTo(unit[i]!, 6));
  });

  it("cuts texts at maxLength, and at the model's own maximum", async () => {
    const words = "the cat sleeps on the sofa ".repeat(20);
    const { ids } = model.tokenizer.encode(words, MAX_LENGTH);
    expect(await model.encode(words)).toEqual(await model.encode(ids));
    const short = model.tokenizer.encode(words, 8).ids;
    expect(await model.encode(words, { maxLength: 8 })).toEqual(await model.encode(short));
  });

  it("puts the prompt before every text", async () => {
    expect(await model.encode(["cat", "dog"], { prompt: "the " })).toEqual(
      await model.encode(["the cat", "the dog"]),
    );
  });

  it("dimensions keeps the head of a vector, on the unit sphere if it was", async () => {
    const whole = await model.encode(SENTENCES[0]!, { normalize: false });
    const options = { dimensions: 12, normalize: false };
    expect(await model.encode(SENTENCES[0]!, options)).toEqual(whole.slice(0, 12));
    const head = await model.encode(SENTENCES[0]!, { dimensions: 12 });
    expect(norm(head)).toBeCloseTo(1, 6);
    head.forEach((x, i) => expect(x).toBeCloseTo(whole[i]! / norm(whole.slice(0, 12)), 6));
  });

  it("reports progress after every batch, up to all of them", async () => {
    const seen: { done: number; total: number }[] = [];
    await model.encode(TEXTS, { batchSize: 20, onProgress: (progress) => seen.push(progress) });
    expect(seen.length).toBeGreaterThanOrEqual(8);
    expect(seen.every(({ total }) => total === 150)).toBe(true);
    expect(seen.map(({ done }) => done)).toEqual(
      seen.map(({ done }) => done).toSorted((a, b) => a - b),
    );
    expect(seen.at(-1)!.done).toBe(150);
  });

  it("ends with the reason of its signal, and goes on to serve others", async () => {
    const reason = new Error("enough");
    await expect(model.encode(TEXTS, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const aborted = model.encode(TEXTS, {
      batchSize: 5,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    });
    await expect(aborted).rejects.toBe(reason);
    expect(await model.encode(SENTENCES)).toEqual(reference.get("f32")!.encode(SENTENCES));
  });

  it.each([
    ["batchSize 0", { batchSize: 0 }, "batchSize 0: expected a whole number from 1"],
    ["half a batch", { batchSize: 1.5 }, "batchSize 1.5: expected a whole number from 1"],
    ["no length", { maxLength: 1 }, "maxLength 1: expected a whole number of at least 2"],
    [
      "more than the model's length",
      { maxLength: 49 },
      "maxLength 49: expected a whole number from 1 to 48",
    ],
    ["no dimensions", { dimensions: 0 }, "dimensions 0: expected a whole number from 1 to 64"],
    [
      "too many dimensions",
      { dimensions: 65 },
      "dimensions 65: expected a whole number from 1 to 64",
    ],
  ])("refuses %s", async (_, options, message) => {
    await expect(model.encode("cat", options)).rejects.toThrow(message);
  });

  it.each([
    ["none", [], "text 1: expected 1 to 48 token ids, found 0"],
    [
      "too many",
      Array.from({ length: 49 }, () => 5),
      "text 1: expected 1 to 48 token ids, found 49",
    ],
    ["one outside the vocabulary", [2, 9999, 3], "text 1: token id 9999 is outside the vocabulary"],
    ["half of one", [2, 5.5, 3], "text 1: token id 5.5 is outside the vocabulary"],
  ])("refuses token ids: %s", async (_, ids, message) => {
    await expect(model.encode([[2, 3], ids])).rejects.toThrow(message);
  });

  it("knows the model's prompts by name, and puts its default one before texts", async () => {
    const { tokenizer } = model;
    const prompts = { query: "the ", passage: "a " };
    const { encoder } = reference.get("f32")!;
    const withPrompts = (defaultPrompt?: string): SentenceModel => {
      const config = {
        ...encoder.config,
        prompts,
        ...(defaultPrompt !== undefined && { defaultPrompt }),
      };
      const encode = encoder.encode.bind(encoder);
      return new SentenceModel({ config, dimension: 64, encode }, tokenizer, kernels);
    };
    const expected = await model.encode("the cat");
    expect(await withPrompts().encode("cat", { promptName: "query" })).toEqual(expected);
    expect(await withPrompts("query").encode("cat")).toEqual(expected);
    expect(await withPrompts("query").encode("the cat", { prompt: "" })).toEqual(expected);
    await expect(withPrompts().encode("cat", { promptName: "title" })).rejects.toThrow(
      'promptName "title": the model has query, passage',
    );
  });
});

describe("encodeStream", () => {
  async function* lines(): AsyncGenerator<string> {
    for (const text of TEXTS) yield text;
  }

  it("gives the rows of each window, in order, of an async or a plain iterable", async () => {
    const expected = reference.get("f32")!.encode(TEXTS);
    for (const [texts, window] of [
      [lines(), 64] as const,
      [TEXTS, 1000] as const,
      [TEXTS, 50] as const,
    ]) {
      const sizes: number[] = [];
      const rows: Float32Array[] = [];
      for await (const some of model.encodeStream(texts, { window })) {
        sizes.push(some.length);
        rows.push(...some);
      }
      expect(rows).toEqual(expected);
      expect(sizes).toEqual(window === 64 ? [64, 64, 22] : window === 50 ? [50, 50, 50] : [150]);
    }
  });

  it("gives nothing of nothing, and refuses int8 without ranges", async () => {
    expect(await model.encodeStream([]).next()).toMatchObject({ done: true });
    await expect(model.encodeStream(TEXTS, { precision: "int8" }).next()).rejects.toThrow(
      'precision "int8" of a stream needs ranges',
    );
  });
});

describe("similarity", () => {
  const [a, b, c] = SENTENCES as [string, string, string];

  it("has the shapes of the original", async () => {
    const ab = await model.similarity(a, b);
    expect(ab).toBeTypeOf("number");
    const vector = await model.similarity(a, [b, a, c]);
    expect(vector).toBeInstanceOf(Float32Array);
    expect(vector[0]).toBe(ab);
    expect(vector[1]).toBeCloseTo(1, 6);
    const matrix = await model.similarity([a, c], [b, a, c]);
    expect(matrix).toHaveLength(2);
    expect(matrix[0]).toEqual(vector);
    expect(matrix[1]![2]).toBeCloseTo(1, 6);
    const column = await model.similarity([b, c], a);
    expect(column.map((row) => row.length)).toEqual([1, 1]);
    expect(column[0]![0]).toBeCloseTo(ab, 6);
    expect(await model.similarity(a, [])).toEqual(new Float32Array());
    expect(await model.similarity([], b)).toEqual([]);
  });

  it("of pairs compares the first with the first, and refuses uneven lists", async () => {
    const scores = await model.pairSimilarities([a, b], [b, b]);
    expect(scores[0]).toBeCloseTo(await model.similarity(a, b), 6);
    expect(scores[1]).toBeCloseTo(1, 6);
    await expect(model.pairSimilarities([a], [])).rejects.toThrow(
      "expected lists of one length, found 1 and 0 texts",
    );
  });
});

describe("load", () => {
  it("overrides pooling and maximal length", async () => {
    await using other = await SimCSE.load(folderOf("f32"), {
      pooling: "cls_before_pooler",
      maxLength: 10,
      threads: 1,
    });
    expect(other.config).toMatchObject({ pooling: "cls_before_pooler", maxLength: 10 });
    expect(await other.encode("a cat")).not.toEqual(await model.encode("a cat"));
    const { ids } = model.tokenizer.encode(SENTENCES.join(" "), 10);
    expect(await other.encode(SENTENCES.join(" "))).toEqual(await other.encode(ids));
  });

  it.each([
    [
      "too long a maximum",
      { maxLength: 65 },
      "maxLength 65: expected a whole number from 2 to the 64 positions",
    ],
    ["fewer threads than none", { threads: -1 }, "threads -1: expected a whole number from 0"],
    ["half a thread", { threads: 0.5 }, "threads 0.5: expected a whole number from 0"],
    [
      "a head that the weights lack",
      { pooling: "cls" },
      "pooler.dense.weight: expected [64, 64], absent",
    ],
  ] as const)("refuses %s", async (_, options, message) => {
    await expect(SimCSE.load(folderOf("f32"), options)).rejects.toThrow(message);
  });

  it("refuses a tokenizer of another model", async () => {
    const { tokenizer } = await SimCSE.load(folderOf("f32"), { threads: 1 });
    const encoder = { config: structuredClone(model.config), dimension: 64, encode: () => [] };
    Object.assign(encoder.config.encoder, { vocabSize: 10 });
    expect(() => new SimCSE(encoder, tokenizer, kernels)).toThrow("they do not belong together");
  });
});

describe("the pool", () => {
  it("answers concurrent calls each with its own vectors", async () => {
    const answers = await Promise.all(TEXTS.map((text) => model.encode(text)));
    expect(answers).toEqual(reference.get("f32")!.encode(TEXTS));
  });

  it("leaves the event loop free while it encodes", async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await model.encode(Array.from({ length: 20 }, () => TEXTS).flat(), { batchSize: 500 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
  });

  it("rejects what is not done when it is closed, and what comes after", async () => {
    const closing = await SimCSE.load(folderOf("f32"), { threads: 1 });
    const calls = [closing.encode(TEXTS), closing.encode("a cat")].map((call) =>
      expect(call).rejects.toThrow("the model is closed; load it again to encode"),
    );
    await closing.close();
    await closing.close();
    await Promise.all(calls);
    await expect(closing.encode("a cat")).rejects.toThrow("the model is closed");
  });

  it("passes on the error of a batch, and works on", async () => {
    const { config, tensors, weightsFile } = await readModelFolder(folderOf("f32"));
    const pool = await EncoderPool.start(config, tensors, weightsFile, 1);
    await expect(pool.encode([[1, 2, 100_000]])).rejects.toThrow(RangeError);
    expect(await pool.encode([[2, 5, 3]])).toHaveLength(1);
    await pool.close();
  });

  it("does not keep the process alive when it is idle, and does while a call waits", () => {
    const script = `
      import { SimCSE } from "./src/node/index.ts";
      const model = await SimCSE.load(${JSON.stringify(folderOf("int8"))}, { threads: 2 });
      model.encode(["a cat", "a dog"]).then((rows) => console.log(rows.length));`;
    const child = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      encoding: "utf8",
      timeout: 20_000,
    });
    expect(child).toMatchObject({ status: 0, stdout: "2\n", stderr: "" });
  });

  it.each([
    ["10,000 calls of a pool", 10_000, "int8"],
    ["100,000 calls on this thread", 100_000, "edge"],
  ])("does not grow memory in %s", (_, calls, kind) => {
    const script = `
      import { readFile } from "node:fs/promises";
      import { SimCSE as Edge } from "./src/edge.ts";
      import { compileKernels } from "./src/node/binaries.ts";
      import { SimCSE } from "./src/node/index.ts";
      const folder = ${JSON.stringify(folderOf("int8"))};
      const names = ["config.json", "tokenizer.json", "model.safetensors"];
      const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(folder + "/" + name)])));
      const model = ${JSON.stringify(kind)} === "edge"
        ? await Edge.load(files, await compileKernels("edge"))
        : await SimCSE.load(folder, { threads: 1 });
      const memory = () => (gc(), process.memoryUsage());
      const calls = async (n) => { for (let i = 0; i < n; i++) await (i % 10 ? model.encode("a cat") : model.similarity("a cat", "a dog")); };
      await calls(2000);
      const before = memory();
      await calls(${calls});
      const after = memory();
      console.log(JSON.stringify(["rss", "heapUsed", "external"].map((kind) => (after[kind] - before[kind]) / 2 ** 20)));`;
    const options = ["--expose-gc", "--input-type=module", "--eval", script];
    const { stdout, stderr } = spawnSync(process.execPath, options, { encoding: "utf8" });
    expect(stderr).toBe("");
    const [rss, heap, external] = JSON.parse(stdout) as [number, number, number];
    expect(rss).toBeLessThan(16);
    expect(heap).toBeLessThan(1);
    expect(external).toBeLessThan(1); // linear memory is there
  });
});

describe("buildIndex", () => {
  it("takes texts, or the lines of a file", async () => {
    const file = join(directory, "corpus.txt");
    writeFileSync(file, `\ufeff${SENTENCES.join("\r\n")}\n`);
    const ofFile = await model.buildIndex(file);
    const ofTexts = await model.buildIndex(SENTENCES);
    expect(ofFile.items).toEqual(ofTexts.items);
    expect(await ofFile.search("a cat")).toEqual(await ofTexts.search("a cat"));
    await expect(model.buildIndex(join(directory, "absent.txt"))).rejects.toThrow(
      /absent\.txt: expected UTF-8 text .* cannot be read \(ENOENT.*\); check the path/,
    );
  });
});
