import { describe, expect, it } from "vitest";
import { maskBatch, type MaskingOptions } from "../../src/train/masking.ts";

const OPTIONS: MaskingOptions = {
  rate: 0.15,
  maskId: 4,
  vocabSize: 1000,
  special: new Set([0, 2, 3]),
};
/** [CLS], tokens of 100 … 999, [SEP]. */
const sentences = Array.from({ length: 400 }, (_, row) =>
  Int32Array.of(2, ...Array.from({ length: 50 }, (__, i) => 100 + ((row * 37 + i * 11) % 900)), 3),
);

describe("masking", () => {
  const before = sentences.map((ids) => [...ids]);
  const { sequences, places, labels } = maskBatch(sentences, OPTIONS, 1, 1);
  const flat = sequences.flatMap((ids) => [...ids]);
  const original = before.flat();

  it("leaves its input, special tokens and all that is not to guess as they were", () => {
    expect(sentences.map((ids) => [...ids])).toEqual(before);
    const chosen = new Set(places);
    expect(flat.filter((_, i) => !chosen.has(i))).toEqual(
      original.filter((_, i) => !chosen.has(i)),
    );
    expect([...labels]).toEqual([...places].map((place) => original[place]));
    expect([...labels].some((id) => OPTIONS.special.has(id))).toBe(false);
    expect([...places]).toEqual([...chosen].toSorted((a, b) => a - b));
  });

  it("chooses 15 % of the tokens: 80 % become [MASK], 10 % any token, 10 % stay, within 3 σ", () => {
    const tokens = 400 * 50;
    const within = (count: number, n: number, p: number): void =>
      expect(Math.abs(count - n * p)).toBeLessThan(3 * Math.sqrt(n * p * (1 - p)));
    const n = places.length;
    within(n, tokens, 0.15);
    const masks = [...places].filter((place) => flat[place] === OPTIONS.maskId).length;
    const same = [...places].filter((place) => flat[place] === original[place]).length;
    within(masks, n, 0.8);
    within(same, n, 0.1);
    within(n - masks - same, n, 0.1);
  });

  it("is a function of seed and step, and differs with either", () => {
    expect(maskBatch(sentences, OPTIONS, 1, 1)).toEqual({ sequences, places, labels });
    expect(maskBatch(sentences, OPTIONS, 2, 1).places).not.toEqual(places);
    expect(maskBatch(sentences, OPTIONS, 1, 2).places).not.toEqual(places);
  });
});
