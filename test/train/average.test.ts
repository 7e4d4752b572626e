import { describe, expect, it } from "vitest";
import type { SafetensorsTensor } from "../../src/files/safetensors.ts";
import { type ModelConfig, staticEncoder } from "../../src/model/config.ts";
import { type AveragedModel, averageWeights } from "../../src/train/average.ts";

const config: ModelConfig = {
  encoder: staticEncoder(2, 4),
  pooling: "avg",
  maxLength: 8,
  dtype: "f32",
  table: { rows: 2 },
};
const tensor = (values: number[], ...shape: number[]): SafetensorsTensor => ({
  dtype: "F32",
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
});
const model = (name: string, share: number, ...values: number[]): AveragedModel => ({
  name,
  share,
  config,
  tokenizerJson: { model: { vocab: { a: 0 } } },
  tensors: new Map([["embeddings", tensor(values, 1, values.length)]]),
});

describe("averageWeights", () => {
  it("weighs models by their shares, whatever these sum to", () => {
    const average = averageWeights([model("a", 3, 1, -2, 8), model("b", 1, 5, 2, 0)]);
    expect([...average.keys()]).toEqual(["embeddings"]);
    const { shape, data } = average.get("embeddings")!;
    expect(shape).toEqual([1, 3]);
    expect([...new Float32Array(data.slice().buffer)]).toEqual([2, -1, 6]);
  });

  it("of a model with itself is the model, bit for bit", () => {
    const one = model("a", 0.1, 0.1, 1e-30, -3e7);
    const { data } = averageWeights([one, { ...one, share: 0.7 }]).get("embeddings")!;
    expect(data).toEqual(one.tensors.get("embeddings")!.data);
  });

  it("weighs layers by shares of their own, which may go beyond a model", () => {
    const layered = (one: AveragedModel, layerShare: number, ...bias: number[]): AveragedModel => ({
      ...one,
      layerShare,
      tensors: new Map([...one.tensors, ["encoder.layer.0.output.dense.bias", tensor(bias, 2)]]),
    });
    const a = layered(model("a", 1, 1, 2), -0.5, 0, 3);
    const b = layered(model("b", 3, 5, 2), 2.5, 1, 3);
    const values = [...averageWeights([a, b]).values()].map(({ data }) => [
      ...new Float32Array(data.slice().buffer),
    ]);
    expect(values).toEqual([
      [4, 2],
      [1.25, 3],
    ]);
    expect(() => averageWeights([a, { ...b, layerShare: 0.5 }])).toThrow(
      "shares -0.5, 0.5: expected a sum above 0, found 0",
    );
    expect(() =>
      averageWeights([{ ...model("a", 1, 1), layerShare: 1 }, model("b", 1, 1)]),
    ).toThrow("a: expected a model with layers");
  });

  const first = model("a", 1, 1, 2);
  it.each<[string, AveragedModel, string]>([
    [
      "quantised model",
      { ...first, name: "b", config: { ...config, dtype: "int8" } },
      "b: expected a model in f32, found int8",
    ],
    [
      "model of another shape",
      { ...first, name: "b", config: { ...config, encoder: staticEncoder(2, 8) } },
      "b: expected the shape of a",
    ],
    [
      "model of another tokenizer",
      { ...first, name: "b", tokenizerJson: {} },
      "b: expected the tokenizer of a",
    ],
    ["model with other weights", model("b", 1, 1, 2, 3), "b: expected the weights of a"],
  ])("refuses a %s", (_, other, message) => {
    expect(() => averageWeights([first, other])).toThrow(message);
  });
});
