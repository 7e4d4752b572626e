import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Classifier, type Examples, PROTOCOLS } from "../../src/evaluate/classifier.ts";
import {
  GRID,
  parseClassFile,
  parseMrpc,
  parseSickEntailment,
  parseSst,
  parseTrec,
  scoreTransfer,
  stratifiedFolds,
  transferFeatures,
} from "../../src/evaluate/transfer.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openEmbedder } from "../../src/node/embedders.ts";
import { readTransferTask } from "../../src/node/eval-data.ts";
import { trainClassifier } from "../oracle/classifier.ts";

const golden = JSON.parse(
  readFileSync(new URL("../golden/evaluation.json", import.meta.url), "utf8"),
).classifier as { rows: number[][]; labels: number[]; train: number; accuracy: number };
const module = await compileKernels("node");
const examples = (from: number, to: number): Examples => ({
  rows: golden.rows.slice(from, to).map((row) => Float32Array.from(row)),
  labels: golden.labels.slice(from, to),
});
const train = examples(0, golden.train);
const test = examples(golden.train, golden.rows.length);

describe("Classifier", () => {
  // Tenacity -1 ends the training at the first check without progress; with a label that is no class that is the second.
  it.each(["adam", "rmsprop"] as const)(
    "with %s and λ has the weights of the float64 oracle to 1e-5 after 8 epochs",
    (optimizer) => {
      const classifier = new Classifier(
        module,
        { folds: 2, optimizer, batchSize: 64, tenacity: -1, epochSize: 8 },
        6,
        3,
      );
      classifier.fit(train, { rows: [train.rows[0]!], labels: [9] }, [1e-2]);
      const expected = trainClassifier(
        train.rows.map((row) => [...row]),
        train.labels,
        3,
        { l2: 1e-2, epochs: 8, batchSize: 64, optimizer },
      );
      classifier.parameters.forEach((row, c) =>
        row.forEach((value, j) => expect(Math.abs(value - expected[c]![j]!)).toBeLessThan(1e-5)),
      );
    },
  );

  it.each(["adam", "rmsprop"] as const)(
    "with %s is within 1 point of scikit-learn once it has converged",
    (optimizer) => {
      const protocol = { ...PROTOCOLS.test, optimizer, tenacity: -1, epochSize: 400 };
      const classifier = new Classifier(module, protocol, 6, 3);
      classifier.fit(train, train, [1e-5]);
      expect(Math.abs(classifier.score(test)[0]! - golden.accuracy)).toBeLessThan(0.01);
    },
  );

  it("gives the same bits whatever it was trained on before", () => {
    const classifier = new Classifier(module, PROTOCOLS.fast, 6, 3);
    const held = examples(golden.train, golden.train + 50);
    const first = [classifier.fit(train, held, [1e-3]), ...classifier.parameters];
    classifier.fit(test, train, [1e-5]);
    expect([classifier.fit(train, held, [1e-3]), ...classifier.parameters]).toEqual(first);
  });

  it("gives each λ of a grid the accuracy that it has alone, to the bit", () => {
    const held = examples(golden.train, golden.train + 50);
    const together = new Classifier(module, PROTOCOLS.fast, 6, 3, GRID.length);
    const accuracies = together.fit(train, held, GRID);
    const scores = together.score(test);
    GRID.forEach((l2, i) => {
      const alone = new Classifier(module, PROTOCOLS.fast, 6, 3);
      expect(alone.fit(train, held, [l2])).toEqual([accuracies[i]]);
      expect(alone.score(test)).toEqual([scores[i]]);
    });
  });

  it("takes dimensions and classes that are no multiples of 4, and batches that are cut short", () => {
    const rows = Array.from({ length: 130 }, (_, i) =>
      Float32Array.of(i % 2 === 0 ? 1 : -1, 0.5, i / 130),
    );
    const labels = rows.map((_, i) => i % 2);
    const classifier = new Classifier(module, PROTOCOLS.test, 3, 2);
    expect(classifier.fit({ rows, labels }, { rows, labels }, [1e-5])).toEqual([1]);
    expect(classifier.predict(rows)).toEqual([labels]);
  });
});

describe("scoreTransfer", () => {
  it("nests folds without a test set, and picks λ on dev with one", () => {
    const classifier = new Classifier(module, PROTOCOLS.fast, 6, 3, GRID.length);
    const nested = scoreTransfer({ train }, classifier, 5);
    const split = scoreTransfer({ train, dev: train, test }, classifier, 5);
    for (const { accuracy, devAccuracy } of [nested, split]) {
      expect(Math.abs(accuracy - 100 * golden.accuracy)).toBeLessThan(6);
      expect(Math.abs(devAccuracy - 100 * golden.accuracy)).toBeLessThan(6);
    }
    expect([nested.examples, split.examples]).toEqual([300, 300]);
  });
});

// Figures of test/golden/senteval.py and of scikit-learn, on the same vectors: 10 folds, means of seeds.
const DATA = "../shared/data";
const there = existsSync(`${DATA}/static`) && existsSync(`${DATA}/transfer`);
describe.skipIf(!there)(
  there ? "the real data" : "the real data (skipped: needs ../shared/data)",
  () => {
    const vectorsOf = async (task: "MR" | "CR"): Promise<Examples> => {
      const found = await readTransferTask(DATA, task);
      if (!("data" in found)) throw new Error(`${task} is not there`);
      const { texts, labels } = found.data.train;
      const model = await openEmbedder(`${DATA}/static`);
      return { rows: await model.encode(texts.map(([text]) => text!)), labels };
    };

    it.each([
      ["CR", 73.2],
      ["MR", 66.1],
    ] as const)(
      "%s: a regression that has converged is within a point of scikit-learn's %d",
      async (task, published) => {
        const { rows, labels } = await vectorsOf(task);
        // Ten times as long: Adam's steps do not depend on it, and unit vectors need 1000 epochs.
        const long = rows.map((row) => row.map((value) => 10 * value));
        const protocol = { ...PROTOCOLS.test, tenacity: -1, epochSize: 50 };
        const classifier = new Classifier(module, protocol, long[0]!.length, 2);
        const part = (indices: Uint32Array): Examples => ({
          rows: Array.from(indices, (i) => long[i]!),
          labels: Array.from(indices, (i) => labels[i]!),
        });
        const accuracies = stratifiedFolds(labels, 10).map(([rest, fold]) => {
          classifier.fit(part(rest), { rows: [long[0]!], labels: [9] }, [1e-5]);
          return 100 * classifier.score(part(fold))[0]!;
        });
        const mean = accuracies.reduce((sum, accuracy) => sum + accuracy, 0) / 10;
        expect(Math.abs(mean - published)).toBeLessThan(1);
      },
      60_000,
    );

    it("CR: as SentEval stops it, it is within a point of SentEval's own 70.9", async () => {
      const all = await vectorsOf("CR");
      const classifier = new Classifier(
        module,
        PROTOCOLS.test,
        all.rows[0]!.length,
        2,
        GRID.length,
      );
      const { accuracy } = scoreTransfer({ train: all }, classifier, 10);
      expect(Math.abs(accuracy - 70.9)).toBeLessThan(1);
    }, 60_000);
  },
);

describe("stratifiedFolds", () => {
  it("partition the examples and share out each class evenly", () => {
    const labels = Array.from({ length: 103 }, (_, i) => (i % 4 === 0 ? 1 : 0));
    const folds = stratifiedFolds(labels, 10);
    expect(folds.flatMap(([, fold]) => [...fold]).toSorted((a, b) => a - b)).toEqual(
      labels.map((_, i) => i),
    );
    for (const [rest, fold] of folds) {
      expect(rest.length + fold.length).toBe(103);
      const ones = [...fold].filter((i) => labels[i] === 1).length;
      expect(ones).toBeGreaterThanOrEqual(2);
      expect(ones).toBeLessThanOrEqual(3);
    }
  });

  it("refuse fewer examples than folds", () => {
    expect(() => stratifiedFolds([0, 1], 5)).toThrow(
      new RangeError("5 folds need as many examples, found 2"),
    );
  });
});

describe("transfer data", () => {
  it("reads SentEval's four formats", () => {
    expect(parseClassFile("good .\n\nfine \n", 1, "f")).toEqual({
      texts: [["good ."], ["."], ["fine"]],
      labels: [1, 1, 1],
    });
    expect(parseSst("good film\t1\nbad\t0\n", "f").labels).toEqual([1, 0]);
    expect(parseTrec("NUM:dist How far ?\nABBR:exp What ?\n", "f")).toEqual({
      texts: [["How far ?"], ["What ?"]],
      labels: [5, 0],
    });
    expect(parseMrpc("Quality\t#1\n1\t7\t8\ta b\tc d\n0\t7\t8\te\tf\n", "f")).toEqual({
      texts: [
        ["a b", "c d"],
        ["e", "f"],
      ],
      labels: [1, 0],
    });
  });

  it("reads SICK's judgements, and refuses a file cut off within one", () => {
    const head = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n";
    expect(
      parseSickEntailment(`${head}1\ta b\tc d\t4.5\tNEUTRAL\n2\te\tf\t1\tENTAILMENT\r\n`, "f"),
    ).toEqual({
      texts: [
        ["a b", "c d"],
        ["e", "f"],
      ],
      labels: [1, 2],
    });
    expect(() => parseSickEntailment(`${head}1\ta b\tc d\t4.5\tNEUT`, "sick")).toThrow(
      /^sick:2: expected number, sentence, .* found "NEUT"$/,
    );
  });

  it("gives pairs |u - v| and u v as features, and texts their vector", () => {
    const [u, v] = [Float32Array.of(1, -2), Float32Array.of(3, 4)];
    expect([...transferFeatures([u, v])]).toEqual([2, 6, 3, -8]);
    expect(transferFeatures([u])).toBe(u);
  });

  it.each([
    [
      "a label that is none",
      () => parseSst("good\t2\n", "sst"),
      /^sst:1: expected the label 0 or 1/,
    ],
    [
      "a sentence cut off",
      () => parseMrpc("head\n1\t7\t8\ta", "mrpc"),
      /^mrpc:2: .*found "other fields"/,
    ],
    [
      "an unknown class",
      () => parseTrec("XX:y Why ?", "trec"),
      /^trec:1: expected a class and a question/,
    ],
    ["an empty file", () => parseClassFile("\n", 0, "mr"), /^mr: .* found none; the file is empty/],
  ])("refuses %s with file and line", (_, parse, message) => {
    expect(parse).toThrow(message);
  });
});
