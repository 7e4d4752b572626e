import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toAiSdk } from "../../src/adapters/ai-sdk.ts";
import { toLangChain } from "../../src/adapters/langchain.ts";
import { SimCSE } from "../../src/node/index.ts";
import { MAX_LENGTH, SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-adapters-"));
let model: SimCSE;
beforeAll(async () => {
  await writeTinyModel(directory, "int8");
  model = await SimCSE.load(directory, { threads: 1 });
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true });
});

const arrays = (rows: readonly Float32Array[]): number[][] => rows.map((row) => Array.from(row));

describe("toLangChain", () => {
  it("embeds queries and documents as arrays of numbers", async () => {
    const embeddings = toLangChain(model);
    const expected = arrays(await model.encode(SENTENCES));
    expect(await embeddings.embedDocuments([...SENTENCES])).toEqual(expected);
    expect(await embeddings.embedQuery(SENTENCES[0]!)).toEqual(expected[0]);
    expect(await embeddings.embedDocuments([])).toEqual([]);
  });

  it("puts their prompts before queries and documents", async () => {
    const embeddings = toLangChain(model, {
      queryPrompt: "the ",
      documentPrompt: "a ",
      dimensions: 8,
    });
    const [query, document] = arrays(await model.encode(["the cat", "a cat"], { dimensions: 8 }));
    expect(await embeddings.embedQuery("cat")).toEqual(query);
    expect(await embeddings.embedDocuments(["cat"])).toEqual([document]);
  });
});

describe("toAiSdk", () => {
  it("is an EmbeddingModelV3: embeddings, tokens and warnings", async () => {
    const embedding = toAiSdk(model, { modelId: "tiny" });
    expect(embedding).toMatchObject({
      specificationVersion: "v3",
      provider: "simcse-edge",
      modelId: "tiny",
      maxEmbeddingsPerCall: Infinity,
      supportsParallelCalls: true,
    });
    const tokens = SENTENCES.reduce(
      (sum, text) => sum + model.tokenizer.encode(text, MAX_LENGTH).ids.length,
      0,
    );
    expect(await embedding.doEmbed({ values: [...SENTENCES] })).toEqual({
      embeddings: arrays(await model.encode(SENTENCES)),
      usage: { tokens },
      warnings: [],
    });
  });

  it("obeys its options and the caller's signal", async () => {
    const embedding = toAiSdk(model, { dimensions: 8, prompt: "the ", maxLength: 6 });
    const { embeddings } = await embedding.doEmbed({ values: ["cat sleeps on the sofa"] });
    const options = { dimensions: 8, maxLength: 6 };
    expect(embeddings).toEqual(arrays(await model.encode(["the cat sleeps on the sofa"], options)));
    const abortSignal = AbortSignal.abort(new Error("enough"));
    await expect(embedding.doEmbed({ values: ["a"], abortSignal })).rejects.toThrow("enough");
  });
});
