import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ablationEffect, ABLATION_NAMES, ABLATIONS } from "../../src/evaluate/ablations.ts";

describe("ablationEffect", () => {
  it("compares seed by seed, and calls a direction only beyond two standard errors", () => {
    const found = ablationEffect([79, 81, 80], [82, 83, 83], -1.4);
    expect(found).toMatchObject({ mean: 80, deviation: 1, direction: "same" });
    expect(found.effect).toBeCloseTo(-8 / 3, 12);
    expect(found.standardError).toBeCloseTo(1 / 3, 12);
    expect(ablationEffect([79, 81, 80], [82, 83, 83], 1.4).direction).toBe("opposite");
    expect(ablationEffect([79, 86], [82, 83], -1.4).direction).toBe("unclear");
    expect(ablationEffect([79], [82], -1.4)).toMatchObject({ direction: "same", deviation: NaN });
    expect(ablationEffect([82], [82], -1.4).direction).toBe("unclear");
    expect(ablationEffect([79], [82], undefined).direction).toBeUndefined();
  });

  it("refuses scores that are not of the same seeds", () => {
    expect(() => ablationEffect([1, 2], [1], 0)).toThrow(RangeError);
    expect(() => ablationEffect([], [], 0)).toThrow(RangeError);
  });
});

describe("simcse ablate", () => {
  const folder = mkdtempSync(join(tmpdir(), "simcse-ablate-"));
  const path = (...names: string[]): string => join(folder, ...names);
  const simcse = (...args: string[]): { code: number | null; out: string; errors: string } => {
    const found = spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
    return { code: found.status, out: found.stdout, errors: found.stderr };
  };
  const ablate = (...more: string[]): ReturnType<typeof simcse> =>
    // prettier-ignore
    simcse("ablate", "--model", path("model"), "--dev", path("dev.tsv"), "--output", path("out"), "--steps", "2", "--batch-size", "4", "--threads", "1", "--max-length", "12", "--learning-rate", "1e-2", ...more);
  beforeAll(() => {
    const nouns = ["cat", "dog", "bird", "horse", "fish", "child"];
    const sentences = nouns.flatMap((a) => nouns.map((b) => `the ${a} sees a ${b} near water`));
    writeFileSync(path("corpus.txt"), sentences.join("\n"));
    const triplets = sentences
      .slice(0, 12)
      .map((s, i) => `${s},${sentences[i + 1]},${sentences[i + 9]}`);
    writeFileSync(path("nli.csv"), ["sent0,sent1,hard_neg", ...triplets].join("\n"));
    const dev = sentences
      .slice(0, 30)
      .map((s, i) => `${(i * 7) % 6}\t${s}\t${sentences[(i * 5) % 36]}`);
    writeFileSync(path("dev.tsv"), dev.join("\n"));
    for (const args of [
      // prettier-ignore
      ["vocab", "--corpus", path("corpus.txt"), "--output", path("t.json"), "--size", "120", "--min-frequency", "1"],
      // prettier-ignore
      ["init", "--tokenizer", path("t.json"), "--output", path("model"), "--hidden", "16", "--intermediate", "16", "--heads", "2", "--layers", "1", "--max-length", "16"],
    ]) {
      const { code, errors } = simcse(...args);
      if (code !== 0) throw new Error(errors);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("trains every row of every ablation, prints ours beside the paper's, and trains a shared row once", () => {
    // prettier-ignore
    const { code, out, errors } = ablate("--seeds", "1", "--corpus", path("corpus.txt"), "--triplets", path("nli.csv"));
    expect(code, errors).toBe(0);
    for (const name of ABLATION_NAMES) {
      expect(out).toContain(`${ABLATIONS[name].title} (${ABLATIONS[name].source})`);
      for (const row of ABLATIONS[name].rows) expect(out).toContain(`\n${row.name} `);
    }
    expect(out).toMatch(
      /^fixed 0\.1 +43\.6 +-38\.9 +-?\d+\.\d\d +[+-]?\d+\.\d +(same|opposite|unclear)$/m,
    );
    const rows = ABLATION_NAMES.flatMap((name) => ABLATIONS[name].rows);
    // SimCSE twice more, one deleted word once more, batches of 64 are others than those of 4; α = 1 is τ = 0.05 and λ = 0.
    expect(readdirSync(path("out", "scores"))).toHaveLength(rows.length - 4);
    expect(readdirSync(path("out"))).toEqual(["scores"]);
  }, 120_000);

  it("goes on where it was ended: what is scored is not trained again", () => {
    const more = ["--rows", "objective", "--corpus", path("corpus.txt"), "--seeds", "2", "--json"];
    const first = ablate(...more);
    expect(first.code, first.errors).toBe(0);
    const scores = path("out", "scores");
    const written = readdirSync(scores).map((name) => join(scores, name));
    const [gone, ...kept] = written.filter((file) =>
      readFileSync(file, "utf8").includes('"neighbours": 3'),
    );
    const times = new Map(written.map((file) => [file, statSync(file).mtimeMs]));
    rmSync(gone!);
    const second = ablate(...more);
    expect(second.out).toBe(first.out);
    expect(second.errors.match(/trained 2 steps/g)).toHaveLength(1);
    for (const file of kept) expect(statSync(file).mtimeMs).toBe(times.get(file));
    const report = JSON.parse(second.out) as { objective: { scores: number[]; name: string }[] };
    expect(report.objective.map(({ scores: found }) => found.length)).toEqual([2, 2, 2, 2]);
  }, 60_000);

  it("says which data an ablation lacks, before it trains", () => {
    const { code, errors } = ablate(
      "--rows",
      "dropout,temperature",
      "--corpus",
      path("corpus.txt"),
    );
    expect([code, errors]).toEqual([
      2,
      expect.stringContaining("temperature, supervised: expected --triplets <file>"),
    ]);
    expect(ablate("--rows", "dropuot").errors).toContain('there is no ablation "dropuot"');
  });
});
