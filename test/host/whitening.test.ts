import fc from "fast-check";
import { EigenvalueDecomposition } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { measureGeometry } from "../../src/evaluate/geometry.ts";
import { fitWhitening, secondMoment, symmetricEigen } from "../../src/evaluate/whitening.ts";
import { averageWords, readWordVectors, wordsOf } from "../../src/evaluate/word-vectors.ts";

const symmetric = fc
  .integer({ min: 1, max: 8 })
  .chain((n) =>
    fc
      .array(fc.double({ min: -5, max: 5, noNaN: true }), { minLength: n * n, maxLength: n * n })
      .map((values) =>
        Array.from({ length: n }, (_, i) =>
          Float64Array.from({ length: n }, (__, j) => values[n * Math.min(i, j) + Math.max(i, j)]!),
        ),
      ),
  );
const dot = (x: ArrayLike<number>, y: ArrayLike<number>): number =>
  Array.from(x).reduce((sum, value, j) => sum + value * y[j]!, 0);

describe("symmetricEigen", () => {
  it("gives A v = λ v to 1e-12, vectors of length 1 at right angles, and falling values", () => {
    fc.assert(
      fc.property(symmetric, (matrix) => {
        const { values, vectors } = symmetricEigen(matrix);
        vectors.forEach((v, i) => {
          matrix.forEach((row, k) => expect(dot(row, v)).toBeCloseTo(values[i]! * v[k]!, 11));
          vectors.forEach((w, j) => expect(dot(v, w)).toBeCloseTo(i === j ? 1 : 0, 12));
          if (i > 0) expect(values[i]!).toBeLessThanOrEqual(values[i - 1]!);
        });
      }),
    );
  });

  it("gives the eigenvalues of ml-matrix to 1e-12 of the largest, and its vectors up to their sign", () => {
    const n = 48;
    const rows = Array.from({ length: 200 }, (_, i) =>
      Float64Array.from({ length: n }, (__, j) => Math.sin(1 + 7.3 * i * (j + 1)) / (j + 1)),
    );
    const matrix = secondMoment(rows, new Float64Array(n));
    const { values, vectors } = symmetricEigen(matrix);
    const oracle = new EigenvalueDecomposition(
      matrix.map((row) => [...row]),
      { assumeSymmetric: true },
    );
    const columns = oracle.eigenvectorMatrix;
    oracle.realEigenvalues.toReversed().forEach((expected, i) => {
      expect(Math.abs(values[i]! - expected)).toBeLessThan(1e-12 * values[0]!);
      expect(Math.abs(dot(vectors[i]!, columns.getColumn(n - 1 - i)))).toBeCloseTo(1, 9);
    });
  });

  it("knows the eigenvalues of a chain of springs, 2 - 2 cos(kπ / (n + 1)), for n = 60", () => {
    const n = 60;
    const chain = Array.from({ length: n }, (_, i) =>
      Float64Array.from({ length: n }, (__, j) => (i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0)),
    );
    symmetricEigen(chain).values.forEach((value, i) =>
      expect(value).toBeCloseTo(2 - 2 * Math.cos(((n - i) * Math.PI) / (n + 1)), 12),
    );
  });
});

describe("fitWhitening", () => {
  const rows = Array.from({ length: 200 }, (_, i) =>
    Float32Array.of(
      Math.sin(i * 12.9),
      Math.sin(i * 12.9) + 0.3 * Math.sin(i * 78.2),
      5,
      Math.sin(i * 3.1),
    ),
  );

  it("gives the corpus mean 0 and covariance 1 in the directions that vary", () => {
    const white = rows.map(fitWhitening(rows));
    const zero = new Float64Array(3);
    const mean = zero.map((_, j) => white.reduce((sum, row) => sum + row[j]!, 0) / rows.length);
    mean.forEach((value) => expect(value).toBeCloseTo(0, 5));
    secondMoment(white, zero).forEach((row, i) =>
      row.forEach((value, j) => expect(value).toBeCloseTo(i === j ? 1 : 0, 4)),
    );
  });

  it("keeps the directions of most variance first", () => {
    const all = fitWhitening(rows);
    const two = fitWhitening(rows, 2);
    expect([...two(rows[7]!)]).toEqual([...all(rows[7]!).subarray(0, 2)]);
  });

  it("refuses more dimensions than there are", () => {
    expect(() => fitWhitening(rows, 4)).toThrow(
      "whitening to 4 dimensions: 200 vectors of 4 vary in 3 directions; " +
        "give more sentences, or keep at most as many dimensions",
    );
    expect(() => fitWhitening([])).toThrow(RangeError);
  });
});

describe("measureGeometry", () => {
  // Sentences are angles on a circle of any radius.
  const pairs = [
    { score: 5, a: "0", b: "10" },
    { score: 4, a: "0", b: "60" },
    { score: 0, a: "0", b: "180" },
  ];
  const rowOf = (text: string): Float32Array => {
    const angle = (Number(text) * Math.PI) / 180;
    return Float32Array.of(3 * Math.cos(angle), 3 * Math.sin(angle));
  };

  it("aligns the pairs graded above 4 only", () => {
    const expected = 2 - 2 * Math.cos(Math.PI / 18);
    expect(measureGeometry(pairs, rowOf).alignment).toBeCloseTo(expected, 6);
  });

  it("counts each pair once, in the band of its grade and the bin of its cosine", () => {
    const { histograms } = measureGeometry(pairs, rowOf);
    expect(histograms.map(({ grades }) => grades)).toEqual([
      "0 to 1",
      "1 to 2",
      "2 to 3",
      "3 to 4",
      "4 to 5",
    ]);
    expect(histograms[4]!.counts[39]).toBe(1); // cos 10°
    expect(histograms[3]!.counts.slice(29, 31).reduce((sum, n) => sum + n)).toBe(1); // cos 60°
    expect(histograms[0]!.counts[0]).toBe(1); // cos 180°
    expect(histograms.flatMap(({ counts }) => counts).reduce((sum, n) => sum + n)).toBe(3);
  });

  it("has the singular values of the unit vectors, over the largest", () => {
    const spectrum = measureGeometry([{ score: 5, a: "0", b: "90" }], rowOf).spectrum;
    expect(spectrum[0]).toBe(1);
    expect(spectrum[1]).toBeCloseTo(1, 6);
  });
});

describe("word vectors", () => {
  async function* lines(...content: string[]): AsyncGenerator<string> {
    yield* content;
  }

  it("are read with or without word2vec's first line, only the wanted ones", async () => {
    const glove = await readWordVectors(lines("a 1 2", "b 3 4"), new Set(["b"]), "f");
    const word2vec = await readWordVectors(lines("2 2", "a 1 2", "b 3 4 "), new Set(["b"]), "f");
    expect(glove).toEqual({ vectors: new Map([["b", Float32Array.of(3, 4)]]), dimension: 2 });
    expect(word2vec).toEqual(glove);
  });

  it("are averaged over the words that are there, in lower case where need be; zeros without any", async () => {
    const wanted = new Set(["cat", "."]);
    const { vectors, dimension } = await readWordVectors(lines("cat 1 2", ". 3 4"), wanted, "f");
    expect(averageWords(["Cat.", "dog"], vectors, dimension).map((row) => [...row])).toEqual([
      [2, 3],
      [0, 0],
    ]);
    expect(wordsOf("Don't stop, été!")).toEqual(["Don", "'", "t", "stop", ",", "été", "!"]);
  });

  it.each([
    [
      "a line cut off",
      ["a 1 2", "b 3"],
      'f:2: expected a word and 2 numbers with spaces between them, found "b 3"',
    ],
    [
      "no numbers",
      ["a x y"],
      'f:1: expected a word and its numbers with spaces between them, found "a x y"',
    ],
    ["an empty file", [], "f: expected lines of a word and its vector, found none"],
  ])("refuse %s with file and line", async (_, content, message) => {
    await expect(readWordVectors(lines(...content), new Set(["b"]), "f")).rejects.toThrow(message);
  });
});
