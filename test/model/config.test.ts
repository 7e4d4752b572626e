import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  type ModelConfig,
  parseConfig,
  serializeConfig,
  sizesOf,
  staticEncoder,
  trainablePooling,
} from "../../src/model/config.ts";

const bert: object = JSON.parse(readFileSync("test/golden/encoder.json", "utf8")).config;
const config = parseConfig(bert, "config.json");
const own = (settings: object): object => ({ ...bert, simcse_edge: settings });

const dense = { type: "dense", inputs: 64, outputs: 8, activation: "tanh" } as const;
const CONFIGS: readonly ModelConfig[] = [
  config,
  { ...config, pooling: "weightedmean", maxLength: 7, dtype: "int8" },
  {
    ...config,
    pooling: ["max", "lasttoken"],
    dtype: "int4",
    modules: [dense, { type: "layer_norm", size: 8 }, { type: "normalize" }],
    dimension: 4,
    prompts: { query: "find: " },
    defaultPrompt: "query",
  },
  { ...config, encoder: { ...config.encoder, tanhGelu: true } },
  { ...config, encoder: staticEncoder(40, 8), maxLength: 8192, table: { rows: 3, ignoredId: 1 } },
];

it.each(CONFIGS)("parseConfig is the inverse of serializeConfig: $pooling", (c) => {
  expect(parseConfig(JSON.parse(JSON.stringify(serializeConfig(c))), "config.json")).toEqual(c);
});

it("a static model has no layers to pool from", () => {
  const table: ModelConfig = { ...CONFIGS.at(-1)!, pooling: "avg_top2" };
  expect(() => parseConfig(serializeConfig(table), "m")).toThrow(
    'm: pooling "avg_top2": "avg_top2" is impossible here, a static model has no layers for it',
  );
});

it("sizesOf says how large pooled and sentence vectors are", () => {
  expect(CONFIGS.map(sizesOf)).toEqual([
    { pooled: 32, vector: 32 },
    { pooled: 32, vector: 32 },
    { pooled: 64, vector: 4 },
    { pooled: 32, vector: 32 },
    { pooled: 8, vector: 8 },
  ]);
});

it.each(["gelu_new", "gelu_pytorch_tanh"])("%s is the tanh form of GELU", (name) => {
  expect(parseConfig({ ...bert, hidden_act: name }, "config.json").encoder.tanhGelu).toBe(true);
});

it("a configuration says to PyTorch what it is: a BertModel", () => {
  expect(serializeConfig(config)).toMatchObject({ architectures: ["BertModel"], ...bert });
});

describe("parseConfig names the field, its value and what would do:", () => {
  it.each([
    [{ pooling: "attention" }, 'simcse_edge.pooling is "attention"; should be one of: cls, cls_b'],
    [{ pooling: [] }, "pooling [] is an empty list; expected a pooling"],
    [{ pooling: ["cls", "max"] }, '"cls" is impossible here, it stands alone'],
    [{ max_length: 25 }, "simcse_edge.max_length must be a whole number from 2 to 24, found 25"],
    [{ dimension: 6 }, "dimension must be a multiple of 4 of at most 32, found 6"],
    [{ dimension: 64 }, "dimension must be a multiple of 4 of at most 32, found 64"],
    [{ modules: [dense] }, 'pooling "avg": dense takes vectors of 64, not of 32'],
    [{ modules: [{ type: "cnn" }] }, 'simcse_edge.modules.type is "cnn"; should be one of: dense'],
    [{ modules: {} }, "expected a list, simcse_edge.modules"],
    [{ prompts: { query: 1 } }, "simcse_edge.prompts.query must be a string"],
    [{ default_prompt: "query" }, 'simcse_edge.default_prompt is "query"'],
    [[], "config.json: simcse_edge: expected a JSON object"],
  ])("%o", (settings, message) => {
    expect(() => parseConfig(own(settings), "config.json")).toThrow(message);
  });
});

describe("what cannot be trained is refused by name:", () => {
  it.each([
    [
      { pooling: "max" },
      'm: pooling "max" cannot be trained; use one of cls, cls_before_pooler, avg, avg_top2, avg_first_last, avg_embeddings_last',
    ],
    [{ pooling: ["avg", "max"] }, 'pooling ["avg","max"] cannot be trained'],
    [{ dtype: "int8" }, "a model of int8 weights cannot be trained"],
    [{ dtype: "int4" }, "a model of int4 weights cannot be trained"],
    [{ modules: [dense] }, "modules after it cannot be trained"],
  ] as const)("%o", (changes, message) => {
    expect(() => trainablePooling({ ...config, ...changes }, "m")).toThrow(message);
  });

  it("but normalizing afterwards changes no cosine", () => {
    expect(trainablePooling({ ...config, modules: [{ type: "normalize" }] }, "m")).toBe("avg");
  });
});
