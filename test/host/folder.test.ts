import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type SafetensorsTensor, toFloat32 } from "../../src/files/safetensors.ts";
import { type ModelConfig, parseConfig } from "../../src/model/config.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openModel, readModelFolder, writeModelFolder } from "../../src/node/model-folder.ts";
import { quantizeModel } from "../../src/quantize/quantize.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { tokenizerFromVocab } from "../../src/tokenizer/vocab.ts";

import {
  base,
  bert,
  encoder,
  expected,
  file,
  float,
  folderOf,
  hidden,
  own,
  refusal,
  root,
  sentenceTransformer,
  tokenizer,
  vectorsOf,
  vocab,
  weights,
} from "./folders.ts";

describe("Hugging Face's folders give the vectors of the BERT they are, bit for bit", () => {
  const renamed = (rename: (name: string) => string): Map<string, SafetensorsTensor> =>
    new Map([...weights].map(([name, tensor]) => [rename(name), tensor]));
  const positions = weights.get("embeddings.position_embeddings.weight")!;
  const types = "embeddings.token_type_embeddings.weight";

  it("with the prefix and the layer norms of BERT's first checkpoints, and other heads", async () => {
    const old = renamed(
      (name) =>
        `bert.${name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")}`,
    );
    old.set("cls.predictions.bias", float([1], 1));
    const path = folderOf({ ...base, "model.safetensors": file(old) });
    expect(await vectorsOf(path)).toEqual(await expected());
  });

  it("in shards, in bfloat16", async () => {
    const half = new Map(
      [...weights].map(([name, tensor]) => {
        const bits = new Uint32Array(toFloat32(tensor).buffer);
        const data = new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer);
        return [name, { dtype: "BF16", shape: tensor.shape, data } as const];
      }),
    );
    const widened = new Map(
      [...half].map(([name, tensor]) => [name, float(toFloat32(tensor), ...tensor.shape)]),
    );
    const names = [...half.keys()];
    const shard = (of: number): [string, SafetensorsTensor][] =>
      [...half].filter((_, i) => i % 2 === of);
    const map = names.map((name, i) => [name, `part-${i % 2}.safetensors`]);
    const { "model.safetensors": _, ...rest } = base;
    const path = folderOf({
      ...rest,
      "model.safetensors.index.json": { weight_map: Object.fromEntries(map) },
      "part-0.safetensors": file(new Map(shard(0))),
      "part-1.safetensors": file(new Map(shard(1))),
    });
    const whole = folderOf({ ...base, "model.safetensors": file(widened) });
    expect(await vectorsOf(path)).toEqual(await vectorsOf(whole));
    const outside = folderOf({
      ...rest,
      "model.safetensors.index.json": { weight_map: { a: "../x.safetensors" } },
    });
    expect(await refusal(outside)).toContain('expected the name of a file beside it, found "../x');
  });

  it("with vocab.txt instead of tokenizer.json", async () => {
    const { "tokenizer.json": _, ...rest } = base;
    const path = folderOf({ ...rest, "vocab.txt": vocab.replaceAll("\n", "\r\n") });
    expect(await vectorsOf(path)).toEqual(await expected());
    const cased = folderOf({
      ...rest,
      "vocab.txt": vocab,
      "tokenizer_config.json": { do_lower_case: false },
    });
    expect(await vectorsOf(cased)).not.toEqual(await expected());
    expect(await refusal(folderOf({ ...rest, "vocab.txt": "a\nb\n" }))).toContain(
      "found no [PAD], [UNK], [CLS], [SEP], [MASK]",
    );
  });

  it("as a RoBERTa, whose positions begin after two unused rows, with one token type", async () => {
    const roberta = renamed((name) => `roberta.${name}`);
    const unused = new Float32Array(2 * hidden).fill(9);
    const rows = [...unused, ...toFloat32(positions)];
    const oneType = toFloat32(weights.get(types)!).slice(0, hidden);
    roberta.set("roberta.embeddings.position_embeddings.weight", float(rows, 26, hidden));
    roberta.set(`roberta.${types}`, float(oneType, 1, hidden));
    const path = folderOf({
      ...base,
      "config.json": {
        ...own({}),
        model_type: "roberta",
        max_position_embeddings: 26,
        type_vocab_size: 1,
        pad_token_id: 1,
      },
      "model.safetensors": file(roberta),
    });
    expect((await readModelFolder(path)).config.maxLength).toBe(24);
    expect(await vectorsOf(path)).toEqual(await expected());
  });

  it("as a DistilBERT, with names of its own and no token types", async () => {
    const names = [
      ["encoder.layer.", "transformer.layer."],
      ["attention.self.query", "attention.q_lin"],
      ["attention.self.key", "attention.k_lin"],
      ["attention.self.value", "attention.v_lin"],
      ["attention.output.dense", "attention.out_lin"],
      ["attention.output.LayerNorm", "sa_layer_norm"],
      ["intermediate.dense", "ffn.lin1"],
      ["output.dense", "ffn.lin2"],
      ["output.LayerNorm", "output_layer_norm"],
    ] as const;
    const distil = renamed(
      (name) => `distilbert.${names.reduce((text, [from, to]) => text.replace(from, to), name)}`,
    );
    distil.delete(`distilbert.${types}`);
    distil.delete("distilbert.pooler.dense.weight");
    const path = folderOf({
      ...base,
      "config.json": {
        model_type: "distilbert",
        vocab_size: encoder.vocabSize,
        dim: hidden,
        n_layers: encoder.numLayers,
        n_heads: encoder.numHeads,
        hidden_dim: encoder.intermediateSize,
        max_position_embeddings: encoder.maxPositions,
        activation: "gelu",
        simcse_edge: {},
      },
      "model.safetensors": file(distil),
    });
    const zeros = new Map(weights).set(types, float(new Float32Array(2 * hidden), 2, hidden));
    const plain = folderOf({ ...base, "model.safetensors": file(zeros) });
    expect(await vectorsOf(path)).toEqual(await vectorsOf(plain));
  });

  it.each([
    [{ model_type: "mpnet" }, 'model_type is "mpnet"; should be one of: bert, distilbert, roberta'],
    [{ hidden_act: "relu" }, 'hidden_act is "relu"; should be one of: gelu, gelu_pytorch_tanh'],
    [{ position_embedding_type: "relative_key" }, "should be one of: absolute"],
  ])("or refuse by name what they lack: %o", async (fields, message) => {
    const path = folderOf({ ...base, "config.json": { ...own({}), ...fields } });
    expect(await refusal(path)).toContain(message);
  });

  it("and warn, when they do not say how they pool, of what was chosen", async () => {
    const warnings: string[] = [];
    const listen = (warning: Error): void => void warnings.push(warning.message);
    process.on("warning", listen);
    const head = new Map(weights);
    for (const part of ["weight", "bias"]) {
      head.set(`mlp.dense.${part}`, head.get(`pooler.dense.${part}`)!);
      head.delete(`pooler.dense.${part}`);
    }
    const plain = { ...base, "config.json": bert };
    const simcse = { ...plain, "model.safetensors": file(head) };
    expect(await vectorsOf(folderOf(plain))).toEqual(await expected({ pooling: "avg" }));
    expect(await vectorsOf(folderOf(simcse, "sup-simcse-bert"))).toEqual(
      await expected({ pooling: "cls" }),
    );
    expect(await vectorsOf(folderOf(simcse, "unsup-simcse-bert"))).toEqual(
      await expected({ pooling: "cls_before_pooler" }),
    );
    await new Promise(setImmediate);
    process.off("warning", listen);
    expect(warnings.map((text) => /chose (\w+)/.exec(text)?.[1])).toEqual([
      "avg",
      "cls",
      "cls_before_pooler",
    ]);
  });

  it("from PyTorch's own format, where there is no other", async () => {
    const { "model.safetensors": _, ...rest } = base;
    const path = folderOf({ ...rest, "pytorch_model.bin": readFileSync("test/golden/torch.bin") });
    expect((await readModelFolder(path)).tensors.get("part")?.shape).toEqual([2, 2]);
  });
});

describe("sentence-transformers' folders", () => {
  it.each([
    ["pooling_mode_cls_token", "cls", "cls_before_pooler"],
    ["pooling_mode_mean_tokens", "mean", "avg"],
    ["pooling_mode_max_tokens", "max", "max"],
    ["pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", "mean_sqrt_len"],
    ["pooling_mode_weightedmean_tokens", "weightedmean", "weightedmean"],
    ["pooling_mode_lasttoken", "lasttoken", "lasttoken"],
  ])("pool as they say, by %s or by %s", async (key, word, ours) => {
    const old = { word_embedding_dimension: hidden, pooling_mode_mean_tokens: false, [key]: true };
    const current = { embedding_dimension: hidden, pooling_mode: word };
    const path = "sentence_transformers.sentence_transformer.modules.pooling.Pooling";
    const want = await expected({ pooling: ours });
    expect(await vectorsOf(sentenceTransformer([["Pooling", "1_Pooling", old]]))).toEqual(want);
    expect(await vectorsOf(sentenceTransformer([[path, "1_Pooling", current]]))).toEqual(want);
  });

  it("concatenate poolings in sentence-transformers' order, whatever theirs is", async () => {
    const want = await expected({ pooling: ["cls_before_pooler", "max", "avg"] });
    const list = { pooling_mode: ["mean", "cls", "max"] };
    expect(await vectorsOf(sentenceTransformer([["Pooling", "1_Pooling", list]]))).toEqual(want);
    expect(want[0]!.length).toBe(3 * hidden);
  });

  const pooling = ["Pooling", "1_Pooling", { pooling_mode: "cls" }] as const;
  const dense = {
    in_features: hidden,
    out_features: hidden,
    bias: true,
    activation_function: "torch.nn.modules.activation.Tanh",
  };
  const denseWeights = file(
    new Map([
      ["linear.weight", weights.get("pooler.dense.weight")!],
      ["linear.bias", weights.get("pooler.dense.bias")!],
    ]),
  );

  it("with Dense and Normalize: BERT's pooler, if it is that, bit for bit", async () => {
    const path = sentenceTransformer(
      [pooling, ["Dense", "2_Dense", dense], ["Normalize", "3_Normalize"]],
      { "2_Dense/model.safetensors": denseWeights },
    );
    const want = await expected({ pooling: "cls" });
    const found = await vectorsOf(path);
    found.forEach((vector, i) =>
      vector.forEach((value, j) => expect(value).toBeCloseTo(want[i]![j]!, 6)),
    );
  });

  it("with the settings of their other files", async () => {
    const path = sentenceTransformer([pooling], {
      "sentence_bert_config.json": { max_seq_length: 8, do_lower_case: true },
      "config_sentence_transformers.json": {
        prompts: { query: "a ", document: "" },
        default_prompt_name: "query",
        truncate_dim: 16,
      },
      "tokenizer.json": tokenizerFromVocab(vocab, { do_lower_case: false }, "vocab.txt"),
    });
    const folder = await readModelFolder(path);
    expect(folder.config).toMatchObject({
      maxLength: 8,
      prompts: { query: "a " },
      defaultPrompt: "query",
      dimension: 16,
    });
    const read = new Tokenizer(folder.tokenizerJson);
    expect(read.encode("A B", 8)).toEqual(read.encode("a b", 8));
    expect((await openModel(folder)).encode(["b"])[0]!.length).toBe(16);
  });

  it.each([
    ["a module that is unknown", [["CNN", "1_CNN"]], "should be one of: Transformer, StaticEmb"],
    ["a folder outside", [["Pooling", "../1_Pooling"]], "leads out of the folder"],
    ["a pooling that is unknown", [["Pooling", "p", { pooling_mode: "attn" }]], "pooling_mode is"],
    ["two encoders", [["Transformer", "x"]], "expected one encoder, and that first"],
    [
      "an activation that is unknown",
      [pooling, ["Dense", "2_Dense", { ...dense, activation_function: "os.system" }]],
      'activation_function is "system"; should be one of: Tanh, Identity',
    ],
    [
      "sizes that do not fit",
      [pooling, ["Dense", "2_Dense", { ...dense, in_features: 8 }]],
      "dense takes vectors of 8, not of 32",
    ],
  ] as const)("are refused for %s", async (_, modules, message) => {
    const path = sentenceTransformer(modules, { "2_Dense/model.safetensors": denseWeights });
    expect(await refusal(path)).toContain(message);
  });

  it("are refused for models of another kind", async () => {
    const path = sentenceTransformer([pooling], {
      "config_sentence_transformers.json": { model_type: "SparseEncoder" },
    });
    expect(await refusal(path)).toContain('model_type is "SparseEncoder"');
  });
});

describe("a folder we write", () => {
  const dense = { type: "dense", inputs: 2 * hidden, outputs: 8, activation: "tanh" } as const;
  const more = new Map([
    ...weights,
    [
      "modules.0.linear.weight",
      float(
        Array.from({ length: 16 * hidden }, (_, i) => Math.sin(i) / 8),
        8,
        2 * hidden,
      ),
    ],
    [
      "modules.0.linear.bias",
      float(
        Array.from({ length: 8 }, (_, i) => i / 8),
        8,
      ),
    ],
    [
      "modules.1.norm.weight",
      float(
        Array.from({ length: 8 }, (_, i) => 1 + i),
        8,
      ),
    ],
    [
      "modules.1.norm.bias",
      float(
        Array.from({ length: 8 }, (_, i) => i / 4),
        8,
      ),
    ],
  ] as const);
  const cases: readonly (readonly [string, Partial<ModelConfig>])[] = [
    ["avg", { pooling: "avg", prompts: { query: "a " }, defaultPrompt: "query" }],
    ["cls", { pooling: "cls" }],
    [
      "poolings and modules",
      {
        pooling: ["cls_before_pooler", "max"],
        modules: [dense, { type: "layer_norm", size: 8 }, { type: "normalize" }],
        dimension: 4,
      },
    ],
  ];

  it.each(cases)("says to sentence-transformers what it says to us: %s", async (_, changes) => {
    const config: ModelConfig = { ...parseConfig(bert, "golden"), maxLength: 12, ...changes };
    const path = folderOf({});
    await writeModelFolder(path, { config, tokenizerJson: tokenizer, tensors: more });
    const ours = await vectorsOf(path);
    expect((await readModelFolder(path)).config).toEqual(config);

    const { simcse_edge: _own, ...rest } = JSON.parse(
      readFileSync(join(path, "config.json"), "utf8"),
    );
    writeFileSync(join(path, "config.json"), JSON.stringify(rest));
    const { config: theirs } = await readModelFolder(path);
    expect(theirs).toMatchObject({ maxLength: 12, encoder: config.encoder });
    expect(theirs.prompts).toEqual(config.prompts);
    expect(await vectorsOf(path)).toEqual(ours);
  });

  it("has the files that sentence-transformers before 5.4 and text-embeddings-inference read", async () => {
    const path = join(root, "written-old");
    const config: ModelConfig = { ...parseConfig(bert, "golden"), pooling: "cls" };
    await writeModelFolder(path, { config, tokenizerJson: tokenizer, tensors: weights });
    const json = (name: string): unknown => JSON.parse(readFileSync(join(path, name), "utf8"));
    expect(json("modules.json")).toMatchObject([
      { path: "", type: "sentence_transformers.models.Transformer" },
      { path: "1_Pooling", type: "sentence_transformers.models.Pooling" },
      { path: "2_Dense", type: "sentence_transformers.models.Dense" },
    ]);
    expect(json("1_Pooling/config.json")).toEqual({
      word_embedding_dimension: hidden,
      pooling_mode_cls_token: true,
      pooling_mode_max_tokens: false,
      pooling_mode_mean_tokens: false,
      pooling_mode_mean_sqrt_len_tokens: false,
      pooling_mode_weightedmean_tokens: false,
      pooling_mode_lasttoken: false,
      include_prompt: true,
    });
    expect(json("sentence_bert_config.json")).toEqual({ max_seq_length: 24, do_lower_case: false });
    expect(json("tokenizer_config.json")).toMatchObject({
      cls_token: "[CLS]",
      model_max_length: 24,
    });
    expect(readFileSync(join(path, "README.md"), "utf8")).toMatch(/^---\nlibrary_name: /);
  });

  it.each(["avg_top2", "avg_first_last", "avg_embeddings_last"] as const)(
    "is refused by sentence-transformers, which has no %s, and opened by us",
    async (pooling) => {
      const path = join(root, pooling);
      const config: ModelConfig = { ...parseConfig(bert, "golden"), pooling };
      await writeModelFolder(path, { config, tokenizerJson: tokenizer, tensors: weights });
      expect(readFileSync(join(path, "modules.json"), "utf8")).toContain(
        `simcse_edge.pooling.${pooling}`,
      );
      expect(existsSync(join(path, "1_Pooling"))).toBe(false);
      expect(await vectorsOf(path)).toEqual(await expected({ pooling }));
    },
  );

  it.each([
    ["int8", 0.999],
    ["int4", 0.99],
  ] as const)("in %s, modules and all, stays near the f32 model", async (dtype, least) => {
    const config: ModelConfig = { ...parseConfig(bert, "golden"), ...cases[2]![1] };
    const quantized = quantizeModel(await compileKernels("node"), config, more, "golden", dtype);
    const paths = [join(root, "f32"), join(root, dtype)] as const;
    await writeModelFolder(paths[0], { config, tokenizerJson: tokenizer, tensors: more });
    await writeModelFolder(paths[1], { ...quantized, tokenizerJson: tokenizer });
    const [a, b] = await Promise.all(paths.map(vectorsOf));
    a!.forEach((vector, i) => {
      const cosine = vector.reduce((sum, value, j) => sum + value * b![i]![j]!, 0);
      expect(cosine).toBeGreaterThan(least);
    });
  });

  it("of an earlier version's int8 weights says to quantize again", async () => {
    const config: ModelConfig = { ...parseConfig(bert, "golden"), dtype: "int8" };
    const { tensors } = quantizeModel(
      await compileKernels("node"),
      { ...config, dtype: "f32" },
      more,
      "golden",
    );
    const old = tensors.map(([name, tensor]): (typeof tensors)[0] => [
      name.replace(/(dense|qkv)\.codes$/, "$1.packed"),
      tensor,
    ]);
    const path = join(root, "old");
    await writeModelFolder(path, { config, tokenizerJson: tokenizer, tensors: old });
    await expect(vectorsOf(path)).rejects.toThrow(
      /qkv\.codes: .*an earlier version quantized it: quantize the f32 model again/,
    );
  });
});

/** Real files, too large or of licences that keep them out of this repository. */
const shared = process.env["SIMCSE_SHARED"] ?? "../shared";
const needs = (path: string): string => (existsSync(path) ? "" : " (skipped: needs ../shared)");

const realVocab = join(shared, "data/vocab/bert-base-uncased");
it.skipIf(!existsSync(realVocab))(
  `BERT's vocab.txt makes BERT's tokenizer.json${needs(realVocab)}`,
  () => {
    const read = (name: string): string => readFileSync(join(realVocab, name), "utf8");
    const made = tokenizerFromVocab(
      read("vocab.txt"),
      JSON.parse(read("tokenizer_config.json")),
      "vocab.txt",
    );
    const theirs = JSON.parse(read("tokenizer.json"));
    expect(made).toEqual({ ...theirs, truncation: null, padding: null });
  },
);
