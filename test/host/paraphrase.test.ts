import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { evaluatePairs } from "../../src/evaluate/measures.ts";
import { scoreParaphrases } from "../../src/evaluate/paraphrase.ts";
import { readPairs } from "../../src/node/pairs-file.ts";
import { GRADED_PARQUET, PARQUET } from "./parquet.ts";

const golden = JSON.parse(
  readFileSync(new URL("../golden/evaluation.json", import.meta.url), "utf8"),
).paraphrase as {
  scores: number[];
  labels: number[];
  accuracy: number;
  threshold: number;
  f1: number;
  averagePrecision: number;
  tied: { scores: number[]; f1: number; averagePrecision: number };
};

describe("scoreParaphrases", () => {
  it("has the accuracy and threshold of sentence-transformers, and scikit-learn's F1 and average precision", () => {
    const found = scoreParaphrases(golden.scores, golden.labels);
    expect(found.accuracy).toBeCloseTo(100 * golden.accuracy, 10);
    expect(found.threshold).toBeCloseTo(golden.threshold, 12);
    expect(found.f1).toBeCloseTo(100 * golden.f1, 10);
    expect(found.averagePrecision).toBeCloseTo(100 * golden.averagePrecision, 10);
  });

  it("tells pairs of equal scores alike, as scikit-learn does", () => {
    const { scores, f1, averagePrecision } = golden.tied;
    const found = scoreParaphrases(scores, golden.labels);
    expect(found.f1).toBeCloseTo(100 * f1, 10);
    expect(found.averagePrecision).toBeCloseTo(100 * averagePrecision, 10);
    // One threshold could separate the first two only by their order in the file.
    expect(scoreParaphrases([0.5, 0.5, 0.1], [1, 0, 0]).accuracy).toBeCloseTo(200 / 3, 10);
  });

  it("has the accuracy of its own threshold, for any scores", () => {
    const pair = fc.record({
      score: fc.integer({ min: -9, max: 9 }),
      label: fc.integer({ min: 0, max: 1 }),
    });
    fc.assert(
      fc.property(fc.array(pair, { minLength: 4, maxLength: 30 }), (drawn) => {
        const pairs = [{ score: 3, label: 1 }, { score: -2, label: 0 }, ...drawn];
        const found = scoreParaphrases(
          pairs.map(({ score }) => score),
          pairs.map(({ label }) => label),
        );
        const told = pairs.filter(
          ({ score, label }) => (score > found.threshold ? 1 : 0) === label,
        );
        expect(found.accuracy).toBeCloseTo((100 * told.length) / pairs.length, 10);
      }),
    );
  });

  it.each([
    [[0.1, 0.2], [1, 1], /found 2 labels, 2 of 1 and 0 of 0/],
    [[0.1, 0.2], [1, 3], /found 2 labels, 1 of 1 and 0 of 0/],
    [[0.1, 0.2], [1], /each of 2 scores, .*found 1 labels/],
    [[0.1, NaN], [1, 0], /^score 1 of 2 is NaN/],
  ])("refuses scores %j with labels %j", (scores, labels, message) => {
    expect(() => scoreParaphrases(scores, labels)).toThrow(message);
  });
});

describe("evaluatePairs", () => {
  const encode = async (texts: string[]): Promise<Float32Array[]> =>
    texts.map((text) => Float32Array.of(text.length, 1));

  it("scores labels as paraphrases, and grades not", async () => {
    const labelled = [
      { score: 1, a: "a", b: "b" },
      { score: 0, a: "a", b: "a long one" },
      { score: 1, a: "aa", b: "bb" },
    ];
    const { paraphrase, alignment } = await evaluatePairs(labelled, encode, { samples: 10 });
    expect(paraphrase).toMatchObject({ accuracy: 100, averagePrecision: 100, f1: 100 });
    expect(alignment).toBe(0);
    const graded = labelled.map((pair) => ({ ...pair, score: 4 * pair.score + 1 }));
    expect(await evaluatePairs(graded, encode, { samples: 10 })).not.toHaveProperty("paraphrase");
  });
});

describe("readPairs", () => {
  const folder = mkdtempSync(join(tmpdir(), "simcse-pairs-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };

  it("reads grades that are numbers from Parquet, and leaves out those that are null", async () => {
    expect(await readPairs(file("p.parquet", Buffer.from(GRADED_PARQUET, "base64")))).toEqual({
      pairs: [
        { score: 4.5, a: "a cat", b: "a kitten" },
        { score: 0, a: "naïve 漢", b: "b" },
      ],
      ungraded: 1,
    });
  });

  it("reads compressed text", async () => {
    const name = file("p.csv.gz", gzipSync('label,sentence1,sentence2\n1,"a, b",c\n'));
    expect((await readPairs(name)).pairs).toEqual([{ score: 1, a: "a, b", b: "c" }]);
  });

  it.each([
    [
      "other columns",
      "o.parquet",
      Buffer.from(PARQUET.zstd, "base64"),
      /o\.parquet: expected the columns score, .*found id, sent0, sent1/,
    ],
    [
      "half a Parquet file",
      "h.parquet",
      Buffer.from(GRADED_PARQUET, "base64").subarray(0, 300),
      /h\.parquet: expected Parquet/,
    ],
    ["UTF-16", "u.tsv", Buffer.from("1\ta\tb\n", "utf16le"), /u\.tsv:1: found a NUL/],
    [
      "half a character",
      "c.tsv",
      Buffer.from("1\ta\té").subarray(0, -1),
      /c\.tsv:\d+: found bytes that are not UTF-8/,
    ],
    [
      "half a compressed file",
      "z.tsv.gz",
      gzipSync("1\ta\tb\n".repeat(99)).subarray(0, 20),
      /z\.tsv\.gz:\d+: expected what its extension says/,
    ],
    ["a line cut off", "l.tsv", "1\ta\tb\n0\tc", /l\.tsv:2: expected 3 fields/],
  ])("refuses %s by name", async (_, name, content, message) => {
    const reading = readPairs(file(name, content));
    await expect(reading).rejects.toThrow(FormatError);
    await expect(reading).rejects.toThrow(message);
  });
});
