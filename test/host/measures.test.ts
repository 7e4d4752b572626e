import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { alignment, cosineScores, evaluatePairs, uniformity } from "../../src/evaluate/measures.ts";

const row = (...values: number[]): Float32Array => new Float32Array(values);
const rows = fc
  .array(fc.array(fc.integer({ min: -8, max: 8 }), { minLength: 3, maxLength: 3 }), {
    minLength: 2,
    maxLength: 12,
  })
  .map((lists) => lists.map((values) => new Float32Array(values)));

// Sentences are "angle word word": the model below puts them on the circle at that angle.
const pairs = [
  { score: 5, a: "0 cat", b: "5 cat" },
  { score: 4, a: "0 cat", b: "20 cat sat" },
  { score: 3, a: "10 dog", b: "60 dog" },
  { score: 1, a: "0 cat", b: "85 bird" },
  { score: 0, a: "10 dog", b: "170 plane" },
];
const encode = async (texts: string[]): Promise<Float32Array[]> =>
  texts.map((text) => {
    const angle = (parseInt(text, 10) * Math.PI) / 180;
    return row(3 * Math.cos(angle), 3 * Math.sin(angle));
  });

/** Squared distance of unit vectors at an angle. */
const squared = (degrees: number): number => 2 - 2 * Math.cos((degrees * Math.PI) / 180);

describe("cosineScores", () => {
  it("are 1, 0, -1 and 1/√2 for equal, right, opposite and half right angles", () => {
    const scores = cosineScores(
      [row(2, 0), row(2, 0), row(2, 0), row(2, 0)],
      [row(5, 0), row(0, 3), row(-1, 0), row(1, 1)],
    );
    expect([...scores]).toEqual([1, 0, -1, Math.fround(Math.SQRT1_2)]);
  });

  it("are exactly 1 for a row and itself, so that such pairs tie", () => {
    fc.assert(
      fc.property(rows, (list) => {
        const varied = list.filter((values) => values.some((value) => value !== 0));
        expect([...cosineScores(varied, varied)]).toEqual(varied.map(() => 1));
      }),
    );
  });

  it("are 0 for a zero vector", () => {
    expect([...cosineScores([row(0, 0), row(1, 2)], [row(1, 1), row(0, 0)])]).toEqual([0, 0]);
  });

  it("do not depend on lengths, even where float32 squares overflow or vanish", () => {
    expect(cosineScores([row(3e30, 4e30)], [row(3e-30, 4e-30)])[0]).toBeCloseTo(1, 6);
  });

  it("refuse lists and rows of different lengths", () => {
    expect(() => cosineScores([row(1)], [])).toThrow(
      new RangeError("cosines need two lists of one length, found 1 and 0 rows"),
    );
    expect(() => cosineScores([row(1, 2)], [row(1)])).toThrow(
      new RangeError("rows must have one dimension, found 2 and 1; do they come from one model?"),
    );
  });
});

describe("alignment", () => {
  it("is the mean of 2 - 2 cos for α = 2, and of its root for α = 1", () => {
    const embedded = [
      [row(2, 0), row(0, 3)],
      [row(1, 0), row(-7, 0)],
      [row(1, 1), row(4, 4)],
    ] as const;
    expect(alignment(embedded)).toBeCloseTo((2 + 4 + 0) / 3, 14);
    expect(alignment(embedded, 1)).toBeCloseTo((Math.SQRT2 + 2 + 0) / 3, 14);
  });

  it("is NaN of no pairs", () => {
    expect(alignment([])).toBeNaN();
  });
});

describe("uniformity", () => {
  it("is the log of the mean kernel of the three pairs of a right-angled triple", () => {
    const kernels = [Math.exp(-2 * 2), Math.exp(-2 * 4), Math.exp(-2 * 2)];
    const mean = kernels.reduce((sum, value) => sum + value) / 3;
    expect(uniformity([row(1, 0), row(0, 2), row(-3, 0)])).toBeCloseTo(Math.log(mean), 14);
  });

  it("of a sample of 1000 is within 0.1 of that of all 3000, and the same each time", () => {
    const all = Array.from({ length: 3000 }, (_, i) =>
      row(...Array.from({ length: 9 }, (__, j) => Math.sin(1 + 12.9 * i * (j + 1)) + 0.4)),
    );
    const sampled = uniformity(all, 2, 1000);
    expect(Math.abs(sampled - uniformity(all))).toBeLessThan(0.1);
    expect(sampled).not.toBe(uniformity(all));
    expect(uniformity(all, 2, 1000)).toBe(sampled);
    expect(uniformity(all.slice(0, 50), 2, 50)).toBe(uniformity(all.slice(0, 50)));
  });

  it("is 0 where all rows coincide and NaN of fewer than two", () => {
    expect(uniformity([row(1, 2), row(1, 2), row(2, 4)])).toBeCloseTo(0, 12);
    expect(uniformity([row(1, 2)])).toBeNaN();
    expect(uniformity([])).toBeNaN();
  });

  it("lies in [-4 t, 0] and does not change with lengths or order", () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(0.5, 2), (list, t) => {
        const value = uniformity(list, t);
        expect(value).toBeGreaterThanOrEqual(-4 * t - 1e-12);
        expect(value).toBeLessThanOrEqual(1e-12);
        const scaled = list.map((values, i) => values.map((v) => v * 2 ** i)).toReversed();
        expect(uniformity(scaled, t)).toBeCloseTo(value, 10);
      }),
    );
  });
});

describe("evaluatePairs", () => {
  it("gives 100 to a model that orders all pairs, and calls it once with each sentence once", async () => {
    const calls: string[][] = [];
    const report = await evaluatePairs(pairs, async (texts) => {
      calls.push(texts);
      return encode(texts);
    });
    expect(report.spearman).toBeCloseTo(100, 10);
    expect(report.interval[1]).toBeCloseTo(100, 10);
    expect(report.pairs).toBe(5);
    expect(calls).toEqual([
      ["0 cat", "5 cat", "20 cat sat", "10 dog", "60 dog", "85 bird", "170 plane"],
    ]);
  });

  it("aligns the pairs graded 4 and above, or as told", async () => {
    const report = await evaluatePairs(pairs, encode);
    expect(report.alignment).toBeCloseTo((squared(5) + squared(20)) / 2, 6);
    const strict = await evaluatePairs(pairs, encode, { positive: 4.5 });
    expect(strict.alignment).toBeCloseTo(squared(5), 6);
    const none = await evaluatePairs(pairs, encode, { positive: 6 });
    expect(none.alignment).toBeNaN();
  });

  it("reports uniformity of the different sentences, Pearson and the overlap of words", async () => {
    const report = await evaluatePairs(pairs, encode);
    const sentences = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))];
    expect(report.uniformity).toBe(uniformity(await encode(sentences)));
    // Grades 5 4 3 1 0 against cosines of 5, 20, 50, 85 and 160 degrees, and overlaps 1/3 1/4 1/3 0 0: SciPy.
    expect(report.pearson).toBeCloseTo(94.02173512850575, 5);
    expect(report.overlapSpearman).toBeCloseTo(79.05694150420948, 12);
  });

  it("passes seed and samples on to the interval", async () => {
    const noisy = pairs.map((pair, i) => ({ ...pair, score: [3, 5, 1, 4, 0][i]! }));
    const [first, again, other] = await Promise.all(
      [1, 1, 2].map((seed) => evaluatePairs(noisy, encode, { seed, samples: 50 })),
    );
    expect(again!.interval).toEqual(first!.interval);
    expect(other!.interval).not.toEqual(first!.interval);
  });

  it("refuses too few pairs, too few rows and rows that are not finite", async () => {
    await expect(evaluatePairs(pairs.slice(0, 1), encode)).rejects.toThrow(
      new RangeError("a correlation needs at least 2 graded pairs, found 1"),
    );
    await expect(evaluatePairs(pairs, async () => [row(1)])).rejects.toThrow(
      new RangeError("encode must give a row for each of 7 sentences, gave 1"),
    );
    await expect(
      evaluatePairs(pairs, async (texts) => texts.map(() => row(1, NaN))),
    ).rejects.toThrow(
      'the cosine of pair 0 is NaN: {"score":5,"a":"0 cat","b":"5 cat"}; the model gives values that are not finite',
    );
  });
});
