import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addEval } from "../../src/cli/eval.ts";
import { FormatError } from "../../src/errors.ts";
import {
  averageScore,
  parseSick,
  parseStsBenchmark,
  parseStsYear,
  scoreSts,
  STS_SUBSETS,
} from "../../src/evaluate/sts.ts";
import { readStsTask, readTransferTask } from "../../src/node/eval-data.ts";
import { needs } from "../needs.ts";

const golden = JSON.parse(
  readFileSync(new URL("../golden/evaluation.json", import.meta.url), "utf8"),
) as {
  subsets: Record<
    string,
    { grades: number[]; cosines: number[]; spearman: number; pearson: number }
  >;
  spearman: number;
  pearson: number;
  mean: number;
  wmean: number;
};

describe("scoreSts", () => {
  it("has SciPy's correlations over all pairs, by subset, and their means", () => {
    const cosines = new Map<string, number>();
    const subsets = new Map(
      Object.entries(golden.subsets).map(([name, subset]) => {
        const pairs = subset.grades.map((score, i) => {
          cosines.set(`${name} ${i}`, subset.cosines[i]!);
          return { score, a: `${name} ${i}`, b: "other" };
        });
        return [name, { pairs, ungraded: 1 }];
      }),
    );
    const score = scoreSts(subsets, ({ a }) => cosines.get(a)!, { samples: 50 });
    for (const key of ["spearman", "pearson", "mean", "wmean"] as const) {
      expect(score[key], key).toBeCloseTo(100 * golden[key], 10);
    }
    for (const [name, { spearman, pearson, grades }] of Object.entries(golden.subsets)) {
      const subset = score.subsets[name]!;
      expect(subset.spearman).toBeCloseTo(100 * spearman, 10);
      expect(subset.pearson).toBeCloseTo(100 * pearson, 10);
      expect(subset.pairs).toBe(grades.length);
    }
    expect(score.pairs).toBe(155);
    expect(score.ungraded).toBe(3);
    expect(score.interval[0]).toBeLessThan(score.spearman);
    expect(score.interval[1]).toBeGreaterThan(score.spearman);
  });
});

describe("averageScore", () => {
  it("is the mean of scores with two decimals, as the paper prints it", () => {
    const paper = [68.4, 82.41, 74.38, 80.91, 78.56, 76.85, 72.23];
    expect(averageScore(paper)).toBe(76.25);
    expect(averageScore([0.004, 0.004])).toBe(0);
  });

  it("is absent where a score is", () => {
    expect(averageScore([1, undefined])).toBeUndefined();
  });
});

describe("SentEval's formats", () => {
  const file = (text: string): { text: string; name: string } => ({ text, name: "in" });

  it("skips and counts the pairs of a year without a score", () => {
    const gold = { text: "5.0\n\n1\n\n", name: "gs" };
    expect(parseStsYear(file("a\tb\nc\td\ne\tf\ng\th\n"), gold)).toEqual({
      pairs: [
        { score: 5, a: "a", b: "b" },
        { score: 1, a: "e", b: "f" },
      ],
      ungraded: 2,
    });
  });

  it("takes the right columns of STS-B and SICK", () => {
    expect(parseStsBenchmark("main\tMSR\t2012\t1\t4.5\ta\tb\textra\n", "f").pairs).toEqual([
      { score: 4.5, a: "a", b: "b" },
    ]);
    expect(parseSick("pair_ID\tA\tB\tscore\n7\ta\tb\t3.2\tNEUTRAL\n", "f").pairs).toEqual([
      { score: 3.2, a: "a", b: "b" },
    ]);
  });

  it.each([
    [
      "a gold file cut off",
      () => parseStsYear(file("a\tb\nc\td"), { text: "5", name: "gs" }),
      /^gs:1: the file ends here, in has 2 lines; expected a score for each pair/,
    ],
    [
      "a line cut off",
      () => parseStsBenchmark("a\tb\tc\td\t4\tx", "f"),
      /^f:1: expected at least 7 fields/,
    ],
    [
      "a score that is none",
      () => parseSick("h\n7\ta\tb\tnone", "f"),
      /^f:2: the score must be a number/,
    ],
  ])("refuse %s with file and line", (_, parse, message) => {
    expect(parse).toThrow(FormatError);
    expect(parse).toThrow(message);
  });
});

const folder = mkdtempSync(join(tmpdir(), "simcse-sts-"));
const at = (...names: string[]): string => join(folder, ...names);
const write = (path: string, text: string | Uint8Array): void => {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
};
const WORDS = ["cat", "dog", "bird", "fish", "sun", "moon", "sea", "tree"];
const LINES = WORDS.map((word, i) => `${i % 6}\tA ${word}.\tA ${i % 6 > 2 ? word : "stone"}.`);

function simcse(...args: string[]): { code: number | null; out: string; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
    encoding: "utf8",
  });
  return { code: status, out: stdout, errors: stderr };
}

beforeAll(() => {
  write(at("corpus.txt"), LINES.flatMap((line) => line.split("\t").slice(1)).join("\n"));
  // prettier-ignore
  for (const args of [
    ["vocab", "--corpus", at("corpus.txt"), "--output", at("tokenizer.json"), "--size", "120", "--min-frequency", "1"],
    ["init", "--tokenizer", at("tokenizer.json"), "--output", at("model"), "--hidden", "16", "--intermediate", "32", "--heads", "2", "--max-length", "16"],
  ]) {
    const { code, errors } = simcse(...args);
    if (code !== 0) throw new Error(errors);
  }
  // One half in the plain layout, the other in SentEval's.
  for (const year of ["STS12", "STS13", "STS14"] as const) {
    for (const subset of STS_SUBSETS[year]!) {
      write(
        at("data/sts", year.toLowerCase(), `${subset}.tsv`),
        [...LINES, "\tno\tscore"].join("\n"),
      );
    }
  }
  for (const year of ["STS15", "STS16"] as const) {
    for (const subset of STS_SUBSETS[year]!) {
      const own = at("data/STS", `${year}-en-test`);
      write(join(own, `STS.input.${subset}.txt`), LINES.map((line) => line.slice(2)).join("\n"));
      write(join(own, `STS.gs.${subset}.txt`), LINES.map((line) => line[0]).join("\n"));
    }
  }
  write(
    at("data/STS/STSBenchmark/sts-test.csv"),
    LINES.map((line) => `a\tb\tc\t1\t${line}`).join("\n"),
  );
  write(
    at("data/SICK/SICK_test_annotated.txt"),
    ["header", ...LINES.map((line, i) => `${i}\t${line.slice(2)}\t${line[0]}`)].join("\n"),
  );
  write(at("data/MR/rt-polarity.pos"), WORDS.map((word) => `good ${word}`).join("\n"));
  write(at("data/MR/rt-polarity.neg"), WORDS.map((word) => `bad ${word}`).join("\n"));
  write(
    at("data/TREC/train_5500.label"),
    Uint8Array.from([...new TextEncoder().encode("HUM:ind Who ?\nNUM:dist caf"), 0xe9]),
  );
  write(at("glove.txt"), WORDS.map((word, i) => `${word} ${i} 1 0.5 ${-i}`).join("\n"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("evaluation data", () => {
  it("names the subset that a year lacks, instead of scoring the others", async () => {
    write(at("part/sts12/MSRpar.tsv"), LINES.join("\n"));
    expect(await readStsTask(at("part"), "STS12", "test")).toEqual({
      missing: ["STS12/MSRvid", "STS12/SMTeuroparl", "STS12/OnWN", "STS12/SMTnews"],
    });
    expect(await readStsTask(at("part"), "STS-B", "dev")).toEqual({ missing: ["STS-B dev"] });
  });

  it("reads Latin-1, and names the file that a transfer task lacks", async () => {
    expect(await readTransferTask(at("data"), "TREC")).toEqual({ missing: ["TREC/TREC_10.label"] });
    expect(await readTransferTask(at("data"), "MRPC")).toEqual({ missing: ["MRPC"] });
  });

  it("refuses a file of bytes", async () => {
    write(at("bytes/sickr/dev.tsv"), Uint8Array.from([52, 10, 9, 0, 1]));
    await expect(readStsTask(at("bytes"), "SICK-R", "dev")).rejects.toThrow(
      /dev\.tsv:2: found a NUL, expected evaluation data/,
    );
  });
});

describe("simcse eval --tasks", () => {
  it("prints one object with all seven tasks and their average", () => {
    const { code, out, errors } = simcse(
      "eval",
      "--model",
      at("model"),
      "--tasks",
      "sts",
      "--data",
      at("data"),
      "--json",
    );
    expect(code, errors).toBe(0);
    const report = JSON.parse(out);
    expect(report).toMatchObject({
      model: at("model"),
      pooling: "avg",
      dtype: "f32",
      split: "test",
      missing: [],
    });
    expect(Object.keys(report.tasks)).toEqual([
      "STS12",
      "STS13",
      "STS14",
      "STS15",
      "STS16",
      "STS-B",
      "SICK-R",
    ]);
    expect(report.tasks.STS12).toMatchObject({ pairs: 40, ungraded: 5 });
    expect(Object.keys(report.tasks.STS16.subsets)).toEqual(STS_SUBSETS.STS16);
    const scores = Object.values(report.tasks as Record<string, { spearman: number }>);
    expect(report.average).toBe(averageScore(scores.map(({ spearman }) => spearman)));
    expect(report.geometry.spectrum).toHaveLength(16);
  });

  it("names what is missing and prints no average", () => {
    const { code, out, errors } = simcse(
      "eval",
      "--model",
      at("model"),
      "--tasks",
      "sts,MR,CR",
      "--data",
      at("data"),
      "--split",
      "dev",
      "--json",
    );
    expect(code, errors).toBe(0);
    const report = JSON.parse(out);
    expect(report.missing).toEqual(["STS-B dev", "SICK-R dev", "CR"]);
    expect(report.average).toBeNull();
    expect(report.tasks.MR.examples).toBe(16);
    expect(errors).toContain("missing STS-B dev, SICK-R dev, CR");
  });

  it("compares a model, random weights and word vectors, whitened, beside the paper's rows", () => {
    // prettier-ignore
    const { code, out, errors } = simcse("eval", "--model", at("model"), `whitened:random:${at("model")}`, `whitened:glove:${at("glove.txt")}`, "--tasks", "STS12", "--data", at("data"), "--published", "--whiten", at("corpus.txt"), "--dimensions", "2");
    expect(code, errors).toBe(0);
    const rows = out.split("\n");
    expect(rows[0]).toMatch(/^model +STS12 +STS13/);
    expect(rows.slice(1, 5).map((row) => row.split(/ +/)[0])).toEqual([
      "word",
      at("model"),
      `whitened:random:${at("model")}`,
      `whitened:glove:${at("glove.txt")}`,
    ]);
    expect(out).toMatch(/published: SimCSE-BERT-base \(unsupervised\) +68\.40 .* 76\.25\n/);
  });

  it("compares the poolings of a model, a row each", () => {
    const poolings = ["avg", "avg_first_last", "avg_embeddings_last", "cls_before_pooler"];
    const pairs = at("data/sts/sts12/OnWN.tsv");
    // prettier-ignore
    const { code, out, errors } = simcse("eval", "--model", at("model"), "--pooling", ...poolings, "--pairs", pairs, "--json");
    expect(code, errors).toBe(0);
    const reports = JSON.parse(out) as { model: string; pooling: string; uniformity: number }[];
    expect(reports.map(({ model }) => model)).toEqual(poolings.map(() => at("model")));
    expect(reports.map(({ pooling }) => pooling)).toEqual(poolings);
    expect(new Set(reports.map(({ uniformity }) => uniformity)).size).toBe(4);
  });

  it.each([
    ["neither tasks nor pairs", [], "expected --tasks, --pairs or --retrieval"],
    ["tasks without data", ["--tasks", "sts"], "expected --data <folder>"],
    ["an unknown task", ["--tasks", "STS17", "--data", "x"], 'there is no task "STS17"'],
    [
      "dimensions without a corpus",
      ["--pairs", "x", "--dimensions", "2"],
      "expected --whiten <corpus>",
    ],
    ["a corpus for no model", ["--pairs", "x", "--whiten", "x"], "expected a model to whiten"],
    [
      "two poolings in one object",
      ["--tasks", "sts", "--data", "x", "--json", "--pooling", "avg", "max"],
      "expected one --model and one --pooling",
    ],
    ["an unknown pooling", ["--pooling", "mean", "--pairs", "x"], "Allowed choices are cls"],
    [
      "a pooling of word vectors",
      ["--pooling", "max", "--pairs", "examples/software-pairs.tsv", "--model", "glove:x"],
      "word vectors are averaged",
    ],
    [
      "a head that is not there",
      ["--pooling", "cls", "--pairs", "examples/software-pairs.tsv"],
      "pooler.dense.weight",
    ],
    [
      "a folder without data",
      ["--tasks", "sts", "--data", "absent"],
      "absent: expected data of STS12",
    ],
  ])("refuses %s", async (_, args, message) => {
    const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
    addEval(program);
    const line = ["eval", "--model", at("model"), ...args];
    await expect(program.parseAsync(line, { from: "user" })).rejects.toThrow(message);
  });
});

const shared = process.env["SIMCSE_SHARED"] ?? "../shared";

describe("the real data", () => {
  it("has 3108 and 1500 pairs in STS12 and STS13, 1500 in STS-B dev and 500 in SICK-R dev", async (test) => {
    needs(test, existsSync(shared), "../shared");
    const sizes = { STS12: 3108, STS13: 1500, "STS-B": 1500, "SICK-R": 500 } as const;
    for (const [task, size] of Object.entries(sizes)) {
      const found = await readStsTask(join(shared, "data"), task as keyof typeof sizes, "dev");
      const subsets = "data" in found ? [...found.data.values()] : [];
      expect(
        subsets.reduce((sum, { pairs }) => sum + pairs.length, 0),
        task,
      ).toBe(size);
    }
    for (const [task, size] of [
      ["MR", 10662],
      ["CR", 3775],
    ] as const) {
      const found = await readTransferTask(join(shared, "data"), task);
      expect("data" in found && found.data.train.labels.length, task).toBe(size);
    }
  });

  it("scores the static model 53.03, 58.04 and 62.19 on STS12, STS13 and STS-B dev", (test) => {
    needs(test, existsSync(shared), "../shared");
    const data = join(shared, "data");
    // prettier-ignore
    const { code, out, errors } = simcse("eval", "--model", join(data, "static"), "--tasks", "STS12,STS13,STS-B", "--data", data, "--split", "dev", "--json");
    expect(code, errors).toBe(0);
    const { tasks } = JSON.parse(out) as { tasks: Record<string, { spearman: number }> };
    const scores = Object.values(tasks).map(({ spearman }) => spearman.toFixed(2));
    expect(scores).toEqual(["53.03", "58.04", "62.19"]);
  });
});
