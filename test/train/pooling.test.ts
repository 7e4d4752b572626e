import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseSafetensors, type SafetensorsTensor } from "../../src/files/safetensors.ts";
import { POOLINGS } from "../../src/model/config.ts";
import { SimCSE } from "../../src/node/index.ts";
import type { DevReport, StepReport } from "../../src/train/trainer.ts";

/** Poolings of a run by the command: what is trained, what is scored, and what the folder that comes out says. */
const folder = mkdtempSync(join(tmpdir(), "simcse-pooling-"));
const path = (...names: string[]): string => join(folder, ...names);

function simcse(...args: string[]): { code: number | null; errors: string } {
  const found = spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
  return { code: found.status, errors: found.stderr };
}

function train(output: string, ...more: string[]): ReturnType<typeof simcse> {
  // prettier-ignore
  return simcse("train", "--model", path("model"), "--train", path("corpus.txt"), "--output", path(output),
    "--steps", "12", "--batch-size", "12", "--learning-rate", "1e-3", "--max-length", "16", "--threads", "1", ...more);
}

function succeeds(found: ReturnType<typeof simcse>): string {
  if (found.code !== 0) throw new Error(found.errors);
  return found.errors;
}

const json = (...names: string[]): any => JSON.parse(readFileSync(path(...names), "utf8"));

function tensorsOf(output: string): ReadonlyMap<string, SafetensorsTensor> {
  return parseSafetensors(readFileSync(path(output, "model.safetensors")), output).tensors;
}

function metrics(output: string): (StepReport | DevReport)[] {
  const lines = readFileSync(path(output, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as StepReport | DevReport);
}

beforeAll(() => {
  const nouns = ["cat", "dog", "bird", "horse", "fish", "child"];
  const sentences = nouns.flatMap((a) => nouns.map((b) => `the ${a} sees a ${b} near water`));
  writeFileSync(path("corpus.txt"), sentences.join("\n"));
  const pairs = sentences.map((s, i) => `${(i * 7) % 6}\t${s}\t${sentences[(i * 5) % 36]}`);
  writeFileSync(path("dev.tsv"), pairs.join("\n"));
  // prettier-ignore
  succeeds(simcse("vocab", "--corpus", path("corpus.txt"), "--output", path("t.json"), "--size", "120", "--min-frequency", "1"));
  // prettier-ignore
  succeeds(simcse("init", "--tokenizer", path("t.json"), "--output", path("model"), "--hidden", "16", "--intermediate", "32", "--heads", "2", "--layers", "3", "--max-length", "16"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("simcse train --pooling", () => {
  it.each(POOLINGS)("%s learns, and is the pooling of the folder that comes out", async (name) => {
    const notes = succeeds(train(name, "--pooling", name));
    expect(notes.includes("has no layer on the first token; it begins at random")).toBe(
      name === "cls",
    );
    const losses = metrics(name).flatMap((metric) => ("loss" in metric ? [metric.loss] : []));
    expect(losses).toHaveLength(12);
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    expect(json(name, "config.json").simcse_edge.pooling).toBe(name);
    await using model = await SimCSE.load(path(name));
    expect(await model.similarity("the cat sees a dog", "the cat sees a dog")).toBeCloseTo(1, 5);
  });

  it("refuses others than avg of a static model", () => {
    // prettier-ignore
    succeeds(simcse("init", "--static", "--tokenizer", path("t.json"), "--output", path("static"), "--hidden", "16"));
    const { code, errors } = train("x", "--model", path("static"), "--pooling", "avg_top2");
    expect(code).toBe(2);
    expect(errors).toContain("--pooling avg_top2: ");
    expect(errors).toContain("is a static model, which has only avg");
  });
});

describe("simcse train --mlp-only-train", () => {
  beforeAll(() => {
    writeFileSync(path("settings.json"), '{ "pooling": "cls", "mlpOnlyTrain": true }');
    for (const [end, dev] of [
      ["", ["--dev", path("dev.tsv"), "--eval-every", "6"]],
      ["-last", []],
    ] as const) {
      succeeds(train(`only${end}`, "--config", path("settings.json"), ...dev));
      // prettier-ignore
      succeeds(train(`kept${end}`, "--config", path("settings.json"), "--no-mlp-only-train", ...dev));
    }
  }, 60_000);

  it("trains the bits of pooling cls, and scores without the layer", () => {
    const [only, kept] = ["only", "kept"].map(metrics) as [StepReport[], StepReport[]];
    const losses = (run: StepReport[]): unknown[] => run.filter((metric) => "loss" in metric);
    const scores = (run: StepReport[]): unknown[] => run.filter((metric) => "spearman" in metric);
    expect(losses(only)).toEqual(losses(kept));
    expect(scores(only)).toHaveLength(2);
    expect(scores(only)).not.toEqual(scores(kept));
    expect(json("kept", "config.json").simcse_edge.pooling).toBe("cls");
    expect(json("kept", "modules.json")).toHaveLength(3);
  });

  it("makes a folder of pooling cls_before_pooler, without a dense module, whose layer another run goes on from", () => {
    for (const name of ["only", "only/best"]) {
      expect(json(name, "config.json").simcse_edge.pooling).toBe("cls_before_pooler");
      expect(json(name, "modules.json").map(({ type }: { type: string }) => type)).toEqual([
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
      ]);
      expect(existsSync(path(name, "2_Dense"))).toBe(false);
    }
    const layer = tensorsOf("only").get("pooler.dense.weight")!;
    expect(layer.shape).toEqual([16, 16]);
    const more = ["--model", path("only"), "--mlp-only-train", "--learning-rate", "0"];
    expect(succeeds(train("more", ...more))).not.toContain("begins at random");
    expect(tensorsOf("more").get("pooler.dense.weight")!.data).toEqual(layer.data);
  });

  it("gives the vectors that the layer would have got", async () => {
    expect(tensorsOf("only-last")).toEqual(tensorsOf("kept-last"));
    const vectors = async (...args: Parameters<typeof SimCSE.load>): Promise<Float32Array> => {
      await using model = await SimCSE.load(...args);
      return await model.encode("the cat sees a dog");
    };
    const [only, kept] = [path("only-last"), path("kept-last")];
    expect(await vectors(only)).toEqual(await vectors(kept, { pooling: "cls_before_pooler" }));
    expect(await vectors(only)).not.toEqual(await vectors(kept));
  });

  it.each([
    [["--pooling", "avg"], "expected pooling cls, which has a layer to leave out, found avg"],
    [["--pooling", "cls_before_pooler"], "found cls_before_pooler; give --pooling cls, or"],
  ])("refuses %j", (more, message) => {
    const { code, errors } = train("x", "--mlp-only-train", ...more);
    expect(code).toBe(2);
    expect(errors).toContain(message);
  });

  it("is no run to resume without it, as other weights are best then", () => {
    const { code, errors } = train("only", "--pooling", "cls", "--resume");
    expect(code).toBe(1);
    expect(errors).toContain('cannot resume, served was "cls_before_pooler", now undefined');
  });
});
