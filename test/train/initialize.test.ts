import { describe, expect, it } from "vitest";
import { type ModelConfig, staticEncoder } from "../../src/model/config.ts";
import { planParameters } from "../../src/model/parameters.ts";
import { planStatic } from "../../src/model/static.ts";
import { foldStatic, storeWeights } from "../../src/model/weights.ts";
import { type ModelFolder, openModel } from "../../src/node/model-folder.ts";
import { Arena, size } from "../../src/runtime/arena.ts";
import { tokenizerFromVocab, unframed } from "../../src/tokenizer/vocab.ts";
import { beginAsStatic, initializeStatic, initializeWeights } from "../../src/train/initialize.ts";

const letters = Array.from("abcdefghijklmnopqrstuvwxyz");
const pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ...letters];
const tokenizer = tokenizerFromVocab(pieces.join("\n"), {}, "vocab.txt");
const HIDDEN = 64;
const counts = pieces.map((_, i) => (i < 5 ? 0 : 2 ** (i % 12)));

function staticModel(): { folder: ModelFolder; table: Float32Array } {
  const encoder = staticEncoder(pieces.length, HIDDEN);
  const arena = new Arena(64);
  const weights = planStatic(arena, encoder, pieces.length);
  const buffer = new ArrayBuffer(arena.top);
  initializeStatic(buffer, weights, counts, 1);
  const table = { rows: pieces.length };
  const config: ModelConfig = { encoder, pooling: "avg", maxLength: 64, dtype: "f32", table };
  const mapping = Int32Array.from(pieces, (_, i) => i);
  const tensors = new Map(storeWeights(buffer, weights.named));
  const data = new Uint8Array(mapping.buffer);
  tensors.set("mapping", { dtype: "I32", shape: [pieces.length], data });
  const folded = foldStatic(config, tensors);
  const vectors = folded.tensors.get("embedding.weight")!.data.slice().buffer;
  const folder = { path: "s", ...folded, tokenizerJson: unframed(tokenizer), weightsFile: "s" };
  return { folder, table: new Float32Array(vectors) };
}

describe("initializeStatic", () => {
  it("weighs tokens by a / (a + p), and gives them vectors of a length near 1", () => {
    const encoder = staticEncoder(pieces.length, HIDDEN);
    const arena = new Arena(64);
    const p = planStatic(arena, encoder, pieces.length);
    const buffer = new ArrayBuffer(arena.top);
    initializeStatic(buffer, p, counts, 1);
    const total = counts.reduce((sum, n) => sum + n, 0);
    new Float32Array(buffer, p.weights.ptr, pieces.length).forEach((weight, id) =>
      expect(weight).toBeCloseTo(1e-3 / (1e-3 + counts[id]! / total), 6),
    );
    const vectors = new Float32Array(buffer, p.table.ptr, size(p.table.shape));
    expect(Math.hypot(...vectors) / Math.sqrt(pieces.length)).toBeCloseTo(1, 1);
  });
});

describe("beginAsStatic", () => {
  it("makes an encoder whose cosines are nearly those of the static model", async () => {
    const { folder, table } = staticModel();
    const encoder = {
      ...folder.config.encoder,
      numLayers: 2,
      numHeads: 4,
      intermediateSize: 128,
      maxPositions: 64,
      typeVocabSize: 2,
    };
    const arena = new Arena(64);
    const p = planParameters(arena, encoder, false);
    const buffer = new ArrayBuffer(arena.top);
    initializeWeights(buffer, p, 1);
    table.fill(0, 2 * HIDDEN, 4 * HIDDEN); // [CLS] and [SEP], which the static model never sees
    beginAsStatic(buffer, p, table);
    const bert = await openModel({
      path: "m",
      config: { encoder, pooling: "avg", maxLength: 64, dtype: "f32" },
      tokenizerJson: tokenizer,
      tensors: new Map(storeWeights(buffer, p.named)),
      weightsFile: "m",
    });
    const model = await openModel(folder);
    const texts = ["a b c", "b c d", "x y", "z k f a", "q r s t u v", "c d"];
    const [want, found] = [model, bert].map((m) => m.encode(texts));
    const dot = (a: Float32Array, b: Float32Array): number =>
      a.reduce((sum, x, i) => sum + x * b[i]!, 0);
    for (const [i, j] of texts.flatMap((_, a) => texts.map((__, b) => [a, b] as const))) {
      const error = dot(found![i]!, found![j]!) - dot(want![i]!, want![j]!);
      expect(Math.abs(error), `${texts[i]} and ${texts[j]}`).toBeLessThan(0.1);
    }
  });
});
