import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SimCSE } from "../../src/node/index.ts";
import { Teachers } from "../../src/node/teachers.ts";
import { RandomStream } from "../../src/train/random.ts";
import { killOnceWritten } from "./kill.ts";

/** Students of the model in the box, which is static and int8, and of an encoder of another vocabulary. */
const folder = mkdtempSync(join(tmpdir(), "simcse-distill-"));
const path = (...names: string[]): string => join(folder, ...names);
const NANO = "models/simcse-edge-nano";
const TEXTS = Array.from({ length: 240 }, (_, i) => {
  const random = new RandomStream(i, 9);
  const words =
    "a the cat dog ship market river child song plays sleeps falls rises quickly under near old red".split(
      " ",
    );
  return Array.from({ length: 4 + random.below(6) }, () => words[random.below(words.length)]).join(
    " ",
  );
});

const run = (...args: readonly string[]) =>
  spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
const succeeds = (...args: readonly string[]): string => {
  const { status, stderr } = run(...args);
  if (status !== 0) throw new Error(stderr);
  return stderr;
};
const training = (name: string, ...more: string[]): string[] =>
  // prettier-ignore
  ["train", "--model", path("model"), "--corpus", path("text.txt"), "--output", path(name), "--steps", "60", "--batch-size", "32",
    "--learning-rate", "3e-3", "--checkpoint-every", "2", "--teacher", NANO, ...more];
const weights = (name: string): Buffer => readFileSync(path(name, "model.safetensors"));
const metrics = (name: string): { loss: number; distillation: number; contrastive?: number }[] =>
  readFileSync(path(name, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

beforeAll(() => {
  writeFileSync(path("text.txt"), TEXTS.join("\n"));
  succeeds("vocab", "--corpus", path("text.txt"), "--output", path("t.json"), "--size", "120");
  const shape = ["--heads", "4", "--intermediate", "64", "--pooling", "cls", "--dropout", "0"];
  for (const [name, hidden] of [
    ["model", "32"],
    ["wide", "192"],
  ] as const) {
    // prettier-ignore
    succeeds("init", "--tokenizer", path("t.json"), "--output", path(name), "--hidden", hidden, "--layers", "1", ...shape);
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("teachers", () => {
  it("give the vectors of their models, of several at the mean of their cosines", async () => {
    await using nano = await SimCSE.load(NANO);
    await using wide = await SimCSE.load(path("wide"));
    const one = await Teachers.open([NANO], 1);
    const two = await Teachers.open([NANO, path("wide")], 2);
    for (const text of TEXTS) {
      one.add(text);
      two.add(text);
    }
    expect([one.dimension, two.dimension]).toEqual([192, 384]);
    expect(one.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(two.sha256).not.toBe(one.sha256);
    const numbers = [7, 3, 7, 239];
    const want = (await nano.encode(numbers.map((i) => TEXTS[i]!))).flatMap((row) => [...row]);
    expect([...(await one.vectors(numbers))]).toEqual(want);
    expect([...(await one.vectors(numbers))]).toEqual(want); // kept from before

    const vectors = await two.vectors([3, 7]);
    const cosine = vectors.subarray(0, 384).reduce((sum, x, i) => sum + x * vectors[384 + i]!, 0);
    const [a, b] = [TEXTS[3]!, TEXTS[7]!];
    const mean = ((await nano.similarity(a, b)) + (await wide.similarity(a, b))) / 2;
    expect(cosine).toBeCloseTo(mean, 6);
    await one.close();
    await two.close();
  });

  it("have a vector for a text without tokens of theirs", async () => {
    const teachers = await Teachers.open([NANO], 1);
    teachers.add("");
    teachers.add("a cat");
    const vectors = await teachers.vectors([0, 1]);
    expect(vectors.subarray(0, 192).every((x) => x === 0)).toBe(true);
    expect(Math.hypot(...vectors.subarray(192))).toBeCloseTo(1, 5);
    await teachers.close();
  });
});

describe("a student", () => {
  it("of similarities alone orders pairs as its teacher does, which it did not before", async () => {
    succeeds(
      ...training(
        "alone",
        "--model",
        path("wide"),
        "--objective",
        "distill",
        "--learning-rate",
        "1e-3",
      ),
    );
    const losses = metrics("alone");
    expect(losses.every(({ loss, distillation }) => loss === distillation)).toBe(true);
    expect(losses[0]!.contrastive).toBeUndefined();
    expect(losses.at(-1)!.loss).toBeLessThan(0.6 * losses[0]!.loss);
    await using nano = await SimCSE.load(NANO);
    const pairs = (model: SimCSE): Promise<Float32Array> =>
      model.pairSimilarities(TEXTS.slice(0, 120), TEXTS.slice(120));
    const teacher = await pairs(nano);
    const agreement = async (name: string): Promise<number> => {
      await using model = await SimCSE.load(path(name));
      const own = await pairs(model);
      const mean = (x: Float32Array): number => x.reduce((sum, v) => sum + v, 0) / x.length;
      const [x, y] = [own.map((v) => v - mean(own)), teacher.map((v) => v - mean(teacher))];
      return x.reduce((sum, v, i) => sum + v * y[i]!, 0) / Math.hypot(...x) / Math.hypot(...y);
    };
    const [before, after] = [await agreement("wide"), await agreement("alone")];
    expect(after).toBeGreaterThan(0.6);
    expect(after).toBeGreaterThan(before + 0.15);
  });

  it("of its teacher's vectors comes near to them", async () => {
    // prettier-ignore
    succeeds(...training("vectors", "--model", path("wide"), "--distill", "mse", "--objective", "distill"));
    await using nano = await SimCSE.load(NANO);
    await using student = await SimCSE.load(path("vectors"));
    const [a, b] = [await nano.encode(TEXTS), await student.encode(TEXTS)];
    const cosines = a.map((row, i) => row.reduce((sum, x, j) => sum + x * b[i]![j]!, 0));
    expect(cosines.reduce((sum, x) => sum + x, 0) / cosines.length).toBeGreaterThan(0.7);
    // |û - v|² = 2 - 2 cos
    expect(metrics("vectors").at(-1)!.loss).toBeLessThan(0.6);
  });

  it("beside the comparison and masked tokens, killed and resumed by another team, ends in the same bits", async () => {
    // prettier-ignore
    const options = ["--teacher", path("wide"), "--distill-weight", "0.5", "--mlm-weight", "0.1", "--matryoshka", "16", "--chunk-size", "24"];
    succeeds(...training("whole", ...options, "--threads", "1"));
    const parts = metrics("whole").map((m) => m as unknown as Record<string, number>);
    for (const { loss, contrastive, distillation, mlm } of parts) {
      expect(loss).toBeCloseTo(contrastive! + 0.5 * distillation! + 0.1 * mlm!, 6);
    }
    await killOnceWritten(
      training("killed", ...options, "--threads", "2"),
      path("killed", "checkpoint.safetensors"),
    );
    const resumed = succeeds(...training("killed", ...options, "--threads", "2", "--resume"));
    expect(resumed).toContain("resumed after step");
    expect(weights("killed").equals(weights("whole"))).toBe(true);
    const other = run(...training("killed", "--resume", ...options, "--teacher", NANO));
    expect(other.stderr).toContain("cannot resume, step.distill.dimension was 384, now 576");
  });

  it.each([
    [["--objective", "mlm"], "--teacher: expected no --objective mlm"],
    [["--distill", "mse"], "vectors of 192 numbers, the model of 32; use --distill similarity"],
    [["--teacher", NANO, "--distill", "mse"], "expected one --teacher, found 2"],
  ])("refuses %j", (options, message) => {
    const { status, stderr } = run(...training("refused", ...options));
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });

  it.each([
    ["--objective", "distill"],
    ["--distill", "mse"],
    ["--distill-weight", "1"],
  ])("refuses %s %s without a teacher", (...options) => {
    const args = ["--model", path("model"), "--corpus", path("text.txt"), "--output", path("x")];
    const { status, stderr } = run("train", ...args, ...options);
    expect(status).toBe(2);
    expect(stderr).toContain("expected a model to learn from; give --teacher <folder>");
  });
});
