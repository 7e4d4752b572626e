import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseSafetensors, type SafetensorsTensor } from "../../src/files/safetensors.ts";
import {
  type InferencePooling,
  type ModelConfig,
  parseConfig,
  QUANTIZED_DTYPES,
} from "../../src/model/config.ts";
import { allocateEncoders } from "../../src/model/load-encoders.ts";
import { SentenceEncoder } from "../../src/model/sentence-encoder.ts";
import { quantizeModel } from "../../src/quantize/quantize.ts";
import { compiled, INFERENCE_TARGETS } from "../kernels/harness.ts";
import { type Mode, pooling } from "../oracle/pooling.ts";

/** The encoder as it serves, f32, against PyTorch in float64; `test/golden/README.md` says how the numbers were made. */
const golden = JSON.parse(readFileSync("test/golden/encoder.json", "utf8"));
const config = parseConfig(golden.config, "test/golden/encoder.json");
const { tensors } = parseSafetensors(readFileSync("test/golden/encoder.safetensors"), "golden");

function open(
  target: (typeof INFERENCE_TARGETS)[number],
  model: ModelConfig,
  weights: ReadonlyMap<string, SafetensorsTensor>,
): SentenceEncoder {
  const memory = allocateEncoders(compiled(target), model, weights, "golden", {
    shared: target === "node",
  });
  return new SentenceEncoder(compiled(target), model, memory);
}

function worst(found: readonly Float32Array[], expected: readonly ArrayLike<number>[]): number {
  return Math.max(
    ...found.flatMap((vector, i) => {
      expect(vector.length).toBe(expected[i]!.length);
      return [...vector].map((value, j) => Math.abs(value - expected[i]![j]!));
    }),
  );
}

const lengths: number[] = golden.sentences.map((ids: number[]) => ids.length);
const [embedded, first, last]: number[][] = golden.forward.hiddenStates.map((state: number[][]) =>
  state.flat(),
);
const average = (a: number[], b: number[]): number[] => a.map((value, i) => (value + b[i]!) / 2);

/** Sentence vectors as the float64 oracle pools PyTorch's token vectors. */
function pooled(tokens: number[], mode: Mode): number[][] {
  const { hiddenSize } = config.encoder;
  const flat = [...pooling(tokens, lengths, hiddenSize, mode)];
  return lengths.map((_, s) => flat.slice(s * hiddenSize, (s + 1) * hiddenSize));
}

const EXPECTED: Record<InferencePooling, number[][]> = {
  ...golden.forward.embeddings,
  avg_top2: pooled(average(first!, last!), "mean"),
  avg_first_last: pooled(average(first!, last!), "mean"), // of two layers, the first is the last but one
  avg_embeddings_last: pooled(average(embedded!, last!), "mean"),
  max: pooled(last!, "max"),
  mean_sqrt_len: pooled(last!, "meanSqrtLen"),
  weightedmean: pooled(last!, "weightedMean"),
  lasttoken: pooled(last!, "last"),
};
const POOLINGS = Object.keys(EXPECTED) as InferencePooling[];

describe.each(INFERENCE_TARGETS)("%s: SentenceEncoder equals PyTorch to 3e-6", (target) => {
  it.each(POOLINGS)("with pooling %s", (word) => {
    const encoder = open(target, { ...config, pooling: word }, tensors);
    const vectors = encoder.encode(golden.sentences, { normalize: false });
    expect(worst(vectors, EXPECTED[word])).toBeLessThan(3e-6);
  });

  it("with poolings concatenated, in their order", () => {
    const list = ["cls_before_pooler", "max", "weightedmean"] as const;
    const encoder = open(target, { ...config, pooling: list }, tensors);
    const expected = lengths.map((_, s) => list.flatMap((word) => EXPECTED[word][s]!));
    expect(encoder.dimension).toBe(3 * config.encoder.hiddenSize);
    expect(worst(encoder.encode(golden.sentences, { normalize: false }), expected)).toBeLessThan(
      3e-6,
    );
  });

  it("with one layer, whose other layer is the embeddings or itself", () => {
    const encoder = { ...config.encoder, numLayers: 1 };
    const expected = {
      avg_top2: pooled(average(embedded!, first!), "mean"),
      avg_first_last: pooled(first!, "mean"),
      avg_embeddings_last: pooled(average(embedded!, first!), "mean"),
    };
    for (const word of ["avg_top2", "avg_first_last", "avg_embeddings_last"] as const) {
      const model = open(target, { ...config, encoder, pooling: word }, tensors);
      const vectors = model.encode(golden.sentences, { normalize: false });
      expect(worst(vectors, expected[word]), word).toBeLessThan(3e-6);
    }
  });
});

describe("modules after pooling", () => {
  const { hiddenSize } = config.encoder;
  const tensor = (values: number[], ...shape: number[]): SafetensorsTensor => ({
    dtype: "F32",
    shape,
    data: new Uint8Array(Float32Array.from(values).buffer),
  });
  const weight = Array.from({ length: 8 * hiddenSize }, (_, i) => Math.sin(i) / 4);
  const bias = Array.from({ length: 8 }, (_, i) => i / 8);
  const gamma = Array.from({ length: 8 }, (_, i) => 1 + i / 4);
  const withModules = new Map([
    ...tensors,
    ["modules.0.linear.weight", tensor(weight, 8, hiddenSize)],
    ["modules.0.linear.bias", tensor(bias, 8)],
    ["modules.1.norm.weight", tensor(gamma, 8)],
    ["modules.1.norm.bias", tensor(bias, 8)],
  ] as const);
  const dense = { type: "dense", inputs: hiddenSize, outputs: 8, activation: "tanh" } as const;
  const norm = { type: "layer_norm", size: 8 } as const;

  const expected = EXPECTED.avg.map((x) => {
    const y = bias.map((b, j) =>
      Math.tanh(x.reduce((sum, value, i) => sum + value * weight[j * hiddenSize + i]!, b)),
    );
    const mean = y.reduce((sum, v) => sum + v, 0) / 8;
    const variance = y.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 8;
    return y.map((v, j) => gamma[j]! * ((v - mean) / Math.sqrt(variance + 1e-5)) + bias[j]!);
  });
  const unit = (x: number[]): number[] => x.map((v) => v / Math.hypot(...x));

  it.each(INFERENCE_TARGETS)("%s: dense, layer norm and normalize follow one another", (target) => {
    const modules = [dense, norm, { type: "normalize" }] as const;
    const encoder = open(target, { ...config, modules }, withModules);
    expect(encoder.dimension).toBe(8);
    const vectors = encoder.encode(golden.sentences, { normalize: false });
    expect(worst(vectors, expected.map(unit))).toBeLessThan(5e-6);
  });

  it("a truncated vector is the head of the whole one, on the unit sphere again", () => {
    const encoder = open("edge", { ...config, modules: [dense, norm], dimension: 4 }, withModules);
    const heads = expected.map((x) => x.slice(0, 4));
    expect(encoder.dimension).toBe(4);
    expect(worst(encoder.encode(golden.sentences, { normalize: false }), heads)).toBeLessThan(1e-5);
    expect(worst(encoder.encode(golden.sentences), heads.map(unit))).toBeLessThan(5e-6);
  });
});

/**
 * Folders with `config.json`, `model.safetensors` and PyTorch's `golden.json`; too large to keep here.
 * SIMCSE_GOLDEN_MODELS names them, separated by colons.
 */
const folders = (process.env["SIMCSE_GOLDEN_MODELS"] ?? "").split(":").filter(existsSync);
const title = folders.length > 0 ? "" : " (skipped: needs SIMCSE_GOLDEN_MODELS)";

describe.skipIf(folders.length === 0)(`SentenceEncoder of larger models${title}`, () => {
  it.each(folders)("%s equals PyTorch to 2e-5 of its float32", (folder) => {
    const model = parseConfig(JSON.parse(readFileSync(`${folder}/config.json`, "utf8")), folder);
    const file = parseSafetensors(readFileSync(`${folder}/model.safetensors`), folder);
    const cases: { name: string; ids: number[][]; types: number[][]; [key: string]: unknown }[] =
      JSON.parse(readFileSync(`${folder}/golden.json`, "utf8"));
    const words = [
      ["avg", "mean_pooled"],
      ["cls_before_pooler", "cls"],
    ] as const;
    for (const [word, key] of words) {
      const encoder = open("edge", { ...model, pooling: word }, file.tensors);
      for (const { name, ids, types, [key]: expected } of cases) {
        if (types.flat().some((type) => type !== 0)) continue; // single texts are all we encode
        const error = worst(encoder.encode(ids, { normalize: false }), expected as number[][]);
        expect(error, `${name}, ${word}`).toBeLessThan(2e-5);
      }
    }
  });
});

describe.each(INFERENCE_TARGETS)("%s: the last layer of first tokens alone", (target) => {
  const models = [
    { name: "f32", model: config, weights: tensors },
    ...QUANTIZED_DTYPES.map((dtype) => {
      const quantized = quantizeModel(compiled("node"), config, tensors, "golden", dtype);
      return { name: dtype, model: quantized.config, weights: new Map(quantized.tensors) };
    }),
  ];

  it.each(models)("gives the vectors of the whole layer, bit for bit, $name", (c) => {
    const encode = (word: ModelConfig["pooling"]): Float32Array[] =>
      open(target, { ...c.model, pooling: word }, c.weights).encode(golden.sentences, {
        normalize: false,
      });
    const { hiddenSize } = config.encoder;
    // "max" needs all tokens of the last layer, so that first tokens are computed among them.
    const whole = encode(["cls_before_pooler", "max"]).map((vector) => vector.slice(0, hiddenSize));
    expect(encode("cls_before_pooler")).toEqual(whole);
  });
});
