import fc from "fast-check";
import { sampleCorrelation, sampleRankCorrelation } from "simple-statistics";
import { describe, expect, it } from "vitest";
import {
  bootstrapInterval,
  pearson,
  ranks,
  spearman,
  pairedBootstrap,
} from "../../src/evaluate/statistics.ts";

// The literals are SciPy 1.17's rankdata, pearsonr and spearmanr.
const X = [1, 2, 2, 3, 3, 3, 4, 0.5];
const Y = [10, 20, 20, 15, 40, 30, 30, 5];
const COSINES = [0.91, 0.13, 0.55, 0.55, -0.2, 0.78, 0.4, 0.55, 0.99, 0.01];
const GRADES = [5, 1, 3, 2, 0, 4, 2, 3, 4, 0];

/** Lists of pairs with many ties, neither side constant. */
const tiedPairs = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: -9, max: 9 })), {
    minLength: 3,
    maxLength: 60,
  })
  .map((pairs) => [pairs.map(([x]) => x), pairs.map(([, y]) => y / 8)] as const)
  .filter(([x, y]) => new Set(x).size > 1 && new Set(y).size > 1);

/** Width of the interval of n pairs whose correlation is about 0.7. */
const width = (n: number): number => {
  const x = Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898));
  const y = x.map((value, i) => value + Math.sin(i * 78.233));
  const [low, high] = bootstrapInterval(x, y);
  expect(low).toBeLessThan(spearman(x, y));
  expect(high).toBeGreaterThan(spearman(x, y));
  return high - low;
};

/** A Weyl sequence: evenly spread in [0, 1). */
const fraction = (i: number, step: number): number => (i * step) % 1;

describe("ranks", () => {
  it("gives ties the mean of their ranks, as SciPy's rankdata", () => {
    expect([...ranks(X)]).toEqual([2, 3.5, 3.5, 6, 6, 6, 8, 1]);
    expect([...ranks(GRADES)]).toEqual([10, 3, 6.5, 4.5, 1.5, 8.5, 4.5, 6.5, 8.5, 1.5]);
  });

  it("orders infinities, and takes -0 and 0 as equal", () => {
    expect([...ranks([Infinity, -0, 0, -Infinity, Infinity])]).toEqual([4.5, 2.5, 2.5, 1, 4.5]);
  });

  it("of nothing are nothing", () => {
    expect([...ranks([])]).toEqual([]);
  });

  it("refuse a NaN and name its position", () => {
    expect(() => ranks([1, NaN, 2])).toThrow(
      new RangeError("value 1 of 3 is NaN, which has no rank"),
    );
  });

  it("sum to n (n + 1) / 2 whatever the ties", () => {
    fc.assert(
      fc.property(tiedPairs, ([x]) => {
        expect(ranks(x).reduce((sum, rank) => sum + rank)).toBe((x.length * (x.length + 1)) / 2);
      }),
    );
  });
});

describe("pearson", () => {
  it("equals SciPy's pearsonr to 1e-14", () => {
    expect(pearson(X, Y)).toBeCloseTo(0.7893961708999248, 14);
    expect(pearson(COSINES, GRADES)).toBeCloseTo(0.9598733460195428, 14);
  });

  it("equals simple-statistics to 1e-12", () => {
    fc.assert(
      fc.property(tiedPairs, ([x, y]) => {
        expect(pearson(x, y)).toBeCloseTo(sampleCorrelation(x, y), 12);
      }),
    );
  });

  it("is NaN where one side does not vary, even if its mean is rounded", () => {
    expect(pearson([0.1, 0.1, 0.1], [1, 2, 3])).toBeNaN();
    expect(pearson([1, 2, 3], [0.1, 0.1, 0.1])).toBeNaN();
    expect(pearson([1], [2])).toBeNaN();
    expect(pearson([], [])).toBeNaN();
  });

  it("refuses lists of different lengths and values that are not finite", () => {
    expect(() => pearson([1, 2], [1])).toThrow(
      new RangeError("a correlation needs two lists of one length, found 2 and 1"),
    );
    expect(() => pearson([1, Infinity], [1, 2])).toThrow(
      new RangeError("value 1 of 2 is Infinity; Pearson's correlation needs finite numbers"),
    );
    expect(() => pearson([1, 2], [NaN, 2])).toThrow(/^value 0 of 2 is NaN/);
  });
});

describe("spearman", () => {
  it("equals SciPy's spearmanr with ties to 1e-14", () => {
    expect(spearman(X, Y)).toBeCloseTo(0.7827445953659216, 14);
    expect(spearman(COSINES, GRADES)).toBeCloseTo(0.9565217391304349, 14);
  });

  it("equals simple-statistics to 1e-12", () => {
    fc.assert(
      fc.property(tiedPairs, ([x, y]) => {
        expect(spearman(x, y)).toBeCloseTo(sampleRankCorrelation(x, y), 12);
      }),
    );
  });

  it("does not change under increasing functions or the order of the pairs", () => {
    fc.assert(
      fc.property(tiedPairs, ([x, y]) => {
        const value = spearman(x, y);
        expect(spearman(x.map(Math.exp), y)).toBe(value);
        expect(spearman(x.toReversed(), y.toReversed())).toBeCloseTo(value, 12);
        expect(spearman(y, x)).toBe(value);
      }),
    );
  });

  it("is 1 of a list with itself, -1 with its opposite, NaN with a constant", () => {
    expect(spearman(GRADES, GRADES)).toBe(1);
    expect(
      spearman(
        GRADES,
        GRADES.map((grade) => -grade),
      ),
    ).toBe(-1);
    expect(
      spearman(
        GRADES,
        GRADES.map(() => 3),
      ),
    ).toBeNaN();
  });

  it("refuses lists of different lengths and NaN", () => {
    expect(() => spearman([1, 2, 3], [1, 2])).toThrow(/lists of one length, found 3 and 2/);
    expect(() => spearman([1, 2, NaN], [1, 2, 3])).toThrow(/^value 2 of 3 is NaN/);
  });
});

describe("bootstrapInterval", () => {
  it("is the same for the same seed and another for another", () => {
    const interval = bootstrapInterval(COSINES, GRADES, { seed: 7 });
    expect(bootstrapInterval(COSINES, GRADES, { seed: 7 })).toEqual(interval);
    expect(bootstrapInterval(COSINES, GRADES, { seed: 8 })).not.toEqual(interval);
  });

  it("equals drawing, ranking and sorting plain lists", () => {
    // Levels near 1 make the quantiles the least and the greatest of two draws.
    const [low, high] = bootstrapInterval(X, Y, { samples: 2, seed: 3, level: 1 - 1e-15 });
    let state = 3;
    const random = (): number => {
      state = (state + 0x6d2b79f5) | 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
    const draws = [0, 1].map(() => {
      const drawn = X.map(() => Math.floor(random() * X.length));
      return spearman(
        drawn.map((i) => X[i]!),
        drawn.map((i) => Y[i]!),
      );
    });
    expect(low).toBeCloseTo(Math.min(...draws), 12);
    expect(high).toBeCloseTo(Math.max(...draws), 12);
  });

  it("holds the correlation and narrows as 1 / √n", () => {
    const ratio = width(100) / width(1600);
    expect(ratio).toBeGreaterThan(3);
    expect(ratio).toBeLessThan(5);
  });

  it("of 95 % agrees with Fisher's interval of a normal sample to 0.02", () => {
    // 2000 pairs of correlation 0.6 by Box & Muller from a Weyl sequence; 1.06 / (n - 3) is Fieller's variance.
    const pairs = Array.from({ length: 2000 }, (_, i) => {
      const radius = Math.sqrt(-2 * Math.log(1 - fraction(i + 1, 0.7548776662466927)));
      const angle = 2 * Math.PI * fraction(i + 1, 0.5698402909980532);
      const x = radius * Math.cos(angle);
      return [x, 0.6 * x + 0.8 * radius * Math.sin(angle)] as const;
    });
    const x = pairs.map(([value]) => value);
    const y = pairs.map(([, value]) => value);
    const z = Math.atanh(spearman(x, y));
    const half = 1.96 * Math.sqrt(1.06 / (2000 - 3));
    const [low, high] = bootstrapInterval(x, y);
    expect(Math.abs(low - Math.tanh(z - half))).toBeLessThan(0.02);
    expect(Math.abs(high - Math.tanh(z + half))).toBeLessThan(0.02);
  });

  it("is [NaN, NaN] where no draw varies", () => {
    expect(bootstrapInterval([1, 1, 1], [1, 2, 3])).toEqual([NaN, NaN]);
    expect(bootstrapInterval([], [])).toEqual([NaN, NaN]);
  });

  it("refuses impossible options, unequal lists and NaN", () => {
    expect(() => bootstrapInterval(X, Y, { samples: 0 })).toThrow(
      new RangeError("samples must be a whole number from 1, found 0"),
    );
    expect(() => bootstrapInterval(X, Y, { level: 95 })).toThrow(
      new RangeError("level must lie in (0, 1), found 95"),
    );
    expect(() => bootstrapInterval(X, [1])).toThrow(/lists of one length, found 8 and 1/);
    expect(() => bootstrapInterval([NaN, 1], [1, 2])).toThrow(/^value 0 of 2 is NaN/);
  });
});

describe("pairedBootstrap", () => {
  const grades = Array.from({ length: 200 }, (_, i) => i % 6);
  const noise = (scale: number): number[] =>
    grades.map((grade, i) => grade + scale * Math.sin(1 + 12.9898 * i * scale));

  it("has the difference of the correlations, inside an interval that is the same each time", () => {
    const [good, bad] = [noise(0.5), noise(5)];
    const found = pairedBootstrap(good, bad, grades);
    expect(found.difference).toBe(spearman(good, grades) - spearman(bad, grades));
    expect(found.interval[0]).toBeLessThan(found.difference);
    expect(found.interval[1]).toBeGreaterThan(found.difference);
    expect(found.notBetter).toBe(0);
    expect(pairedBootstrap(good, bad, grades)).toEqual(found);
  });

  it("is 0 to 0 for a model and itself, which is never better", () => {
    const scores = noise(3);
    expect(pairedBootstrap(scores, scores, grades)).toEqual({
      difference: 0,
      interval: [0, 0],
      notBetter: 1,
    });
  });
});
