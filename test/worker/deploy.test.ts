import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { planParameters } from "../../src/model/parameters.ts";
import { storeWeights } from "../../src/model/weights.ts";
import { limitTable } from "../../src/cli/deploy.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { type ModelFolder, readModelFolder } from "../../src/node/model-folder.ts";
import { measureLimits } from "../../src/node/worker-limits.ts";
import { writeWorkerProject } from "../../src/node/worker-project.ts";
import { quantizeModel } from "../../src/quantize/quantize.ts";
import type { QuantizedDtype } from "../../src/model/config.ts";
import { Arena } from "../../src/runtime/arena.ts";
import { initializeWeights } from "../../src/train/initialize.ts";
import { writeTinyModel } from "./tiny-model.ts";

let directory: string;
let tiny: ModelFolder;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "simcse-deploy-"));
  await writeTinyModel(join(directory, "tiny"), "int8");
  tiny = await readModelFolder(join(directory, "tiny"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A BERT of random weights with so many layers of so many numbers. */
async function bert(
  numLayers: number,
  hiddenSize: number,
  dtype: QuantizedDtype,
): Promise<ModelFolder> {
  const encoder = {
    ...tiny.config.encoder,
    vocabSize: 30_522,
    hiddenSize,
    numLayers,
    numHeads: 12,
    intermediateSize: 4 * hiddenSize,
    maxPositions: 512,
  };
  const config = { ...tiny.config, encoder, maxLength: 256, dtype: "f32" } as const;
  const arena = new Arena();
  const weights = planParameters(arena, encoder, false);
  const buffer = new ArrayBuffer(arena.top);
  initializeWeights(buffer, weights, 7);
  const tensors = new Map(storeWeights(buffer, weights.named));
  const kernels = await compileKernels("node");
  const quantized = quantizeModel(kernels, config, tensors, "random", dtype);
  return { ...tiny, config: quantized.config, tensors: new Map(quantized.tensors) };
}

it.each([
  ["MiniLM in int8", 6, 384, "int8", "durable-object", 9],
  ["BERT-base in int4", 12, 768, "int4", undefined, 8],
] as const)(
  "%s encodes 128 tokens in workerd within every limit, MiniLM beside an index of documents",
  // A busy machine collects the garbage of loading later, which then counts as heap.
  { retry: 2, timeout: 180_000 },
  async (name, layers, hidden, dtype, documents, rows) => {
    const model = await bert(layers, hidden, dtype);
    const contents = { model, ...(documents && { documents }) };
    const limits = await measureLimits(await writeWorkerProject(join(directory, name), contents));
    console.log(limitTable(limits));
    expect(limits).toHaveLength(rows);
    for (const { name: limit, value, most } of limits) {
      expect(value, limit).toBeGreaterThan(0);
      expect(value, limit).toBeLessThanOrEqual(most);
    }
  },
);

it("weights as modules of the script count for memory twice, and work", async () => {
  const output = join(directory, "module");
  const project = await writeWorkerProject(output, { model: tiny, store: "module" });
  const limits = await measureLimits(project);
  const value = (start: string): number => limits.find(({ name }) => name.startsWith(start))!.value;
  const { bytes } = project.manifest.weights;
  expect(value("Worker, all")).toBeGreaterThan(bytes / 2 ** 20);
  expect(value("…") - value("linear")).toBeGreaterThan(bytes / 1e6);
});

it("a wrangler.jsonc of the user's own stays, and ours is written again", async () => {
  const output = join(directory, "own");
  const file = join(output, "wrangler.jsonc");
  await writeWorkerProject(output, { model: tiny, name: "One" });
  await writeWorkerProject(output, { model: tiny, name: "Two", store: "r2", bucket: "weights" });
  const written = await readFile(file, "utf8");
  expect(written).toContain('"name": "two"');
  expect(written).toContain('"bucket_name": "weights"');
  await writeWorkerProject(output, { model: tiny, documents: "durable-object" });
  const kept = await readFile(file, "utf8");
  expect(kept).toMatch(/"new_sqlite_classes": \[\s*"Documents"/);
  expect(Number(/"MAX_INDEX_BYTES": "(\d+)"/.exec(kept)![1])).toBeGreaterThan(200_000 * 404);
  await writeWorkerProject(output, { model: tiny, name: "Two", documents: "vectorize" });
  expect(await readFile(file, "utf8")).toMatch(/"VECTORIZE",\s*"index_name": "two"/);
  await writeFile(file, `{"name": "mine"}`);
  await writeWorkerProject(output, { model: tiny });
  expect(await readFile(file, "utf8")).toBe(`{"name": "mine"}`);
});
