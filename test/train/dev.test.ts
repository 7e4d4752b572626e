import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lengthUpTo } from "../../src/report/tensorboard.ts";
import { RandomStream } from "../../src/train/random.ts";

/** A mixture of neighbours and triplets, evaluated as it trains, by the real command. */
const folder = mkdtempSync(join(tmpdir(), "simcse-dev-"));
const EVENTS = "events.out.tfevents.simcse-edge";
const path = (...names: string[]): string => join(folder, ...names);

function simcse(args: readonly string[]): { code: number | null; errors: string } {
  const child = spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
  return { code: child.status, errors: child.stderr };
}

/** Kills a run so many milliseconds after its first step, and tells whether it was still running. */
async function killInside(args: readonly string[], delayMs: number): Promise<boolean> {
  const child = spawn(process.execPath, ["src/cli/main.ts", ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr.on("data", (chunk: Buffer) => {
    if (/step \d+\//.test(chunk.toString())) setTimeout(() => child.kill("SIGKILL"), delayMs);
  });
  const [, signal] = (await once(child, "close")) as [number | null, string | null];
  return signal === "SIGKILL";
}

function training(name: string, ...more: string[]): string[] {
  // prettier-ignore
  return ["train", "--model", path("model"), "--output", path(name), "--train", path("text.txt:0.6"), path("triplets.csv:0.4"),
    "--neighbours", "2", "--steps", "60", "--batch-size", "16", "--learning-rate", "1e-3", "--schedule", "cosine",
    "--dev", path("dev.tsv"), "--eval-every", "6", "--checkpoint-every", "4", ...more];
}

function succeeds(args: readonly string[]): string {
  const { code, errors } = simcse(args);
  if (code !== 0) throw new Error(errors);
  return errors;
}

const weights = (...names: string[]): Buffer => readFileSync(path(...names, "model.safetensors"));

interface Metric {
  step: number;
  spearman?: number | null;
  alignment?: number;
  uniformity?: number;
  columns?: number;
}
function metrics(name: string): Metric[] {
  const lines = readFileSync(path(name, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Metric);
}

function best(name: string): Metric {
  return metrics(name)
    .filter(({ spearman }) => spearman !== undefined)
    .reduce((a, b) => (b.spearman! > a.spearman! ? b : a));
}

const WORDS = "a the file folder reads writes quickly server client returns opens value".split(" ");
const words = new RandomStream(4, 9);
const sentence = (): string =>
  Array.from({ length: 4 + words.below(8) }, () => WORDS[words.below(WORDS.length)]).join(" ");

beforeAll(() => {
  const list = (n: number, row: () => string): string => Array.from({ length: n }, row).join("\n");
  writeFileSync(
    path("text.txt"),
    list(60, () => `${list(5, sentence)}\n`),
  );
  const triplet = (): string => `${sentence()},${sentence()},${sentence()}`;
  writeFileSync(path("triplets.csv"), `sent0,sent1,hard_neg\n${list(100, triplet)}`);
  writeFileSync(
    path("dev.tsv"),
    list(40, () => `${words.below(6)}\t${sentence()}\t${sentence()}`),
  );
  succeeds(["vocab", "--corpus", path("text.txt"), "--output", path("t.json"), "--size", "120"]);
  // prettier-ignore
  succeeds(["init", "--tokenizer", path("t.json"), "--output", path("model"), "--hidden", "32", "--heads", "4", "--intermediate", "64"]);
  succeeds(training("whole", "--threads", "1"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("a run with graded pairs", () => {
  it("keeps the weights of its best evaluation, the first of equal ones", () => {
    expect(weights("whole").equals(weights("whole", "best"))).toBe(true);
    const scores = metrics("whole").filter(({ spearman }) => spearman !== undefined);
    expect(scores.map(({ step }) => step)).toEqual([6, 12, 18, 24, 30, 36, 42, 48, 54, 60]);
    const args = ["eval", "--model", path("whole"), "--pairs", path("dev.tsv"), "--json"];
    const { stdout } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
      encoding: "utf8",
    });
    const spearman = Number(/"spearman": ([-\d.e]+)/.exec(stdout)?.[1]);
    expect(spearman).toBe(best("whole").spearman);
  });

  it("of batches with and without hard negatives has the same bits on two threads", () => {
    expect(new Set(metrics("whole").map(({ columns }) => columns))).toContain(3);
    expect(new Set(metrics("whole").map(({ columns }) => columns))).toContain(2);
    succeeds(training("two", "--threads", "2"));
    expect(weights("two").equals(weights("whole"))).toBe(true);
  });

  it("leaves a report of its curves, and the same metrics for TensorBoard", () => {
    expect(readFileSync(path("whole", "report.html"), "utf8")).toContain(
      `Best dev Spearman ${best("whole").spearman!.toFixed(2)} at step ${best("whole").step}.`,
    );
    const events = readFileSync(path("whole", EVENTS));
    expect(lengthUpTo(events, 59)).toBeLessThan(lengthUpTo(events, 60));
    expect(lengthUpTo(events, 60)).toBe(events.length);
  });

  it("killed and resumed ends in the same bits, evaluations and choice", async () => {
    const random = new RandomStream(Date.now(), 1);
    let kills = 0;
    for (let attempt = 0; attempt < 4; attempt++) {
      if (await killInside(training("killed", "--resume"), random.below(150))) kills++;
    }
    succeeds(training("killed", "--resume"));
    expect(kills).toBeGreaterThan(0);
    expect(weights("killed").equals(weights("whole"))).toBe(true);
    expect(metrics("killed")).toEqual(metrics("whole"));
    // Times differ and have a fixed size.
    const size = (name: string): number => statSync(path(name, EVENTS)).size;
    expect(size("killed")).toBe(size("whole"));
  });

  it("ends when patience does, and stays ended when it is resumed", () => {
    // A learning rate of 0 gives every evaluation the same score, of which the first is kept.
    const args = training("patient", "--patience", "3", "--learning-rate", "0");
    expect(succeeds(args)).toContain("these are the weights of step 6");
    expect(metrics("patient").at(-1)!.step).toBe(24);
    expect(succeeds([...args, "--resume"])).toContain("trained 0 steps");
    expect(weights("patient").equals(weights("model"))).toBe(true);
  });
});

it("pairs without grades give alignment and uniformity, and choose no weights", () => {
  const pairs = Array.from({ length: 40 }, () => [sentence(), sentence()]);
  writeFileSync(path("pairs.tsv"), `a\tb\n${pairs.map((pair) => pair.join("\t")).join("\n")}\n`);
  const args = training("ungraded", "--dev-pairs", path("pairs.tsv"));
  const without = args.filter((_, i) => args[i] !== "--dev" && args[i - 1] !== "--dev");
  const errors = succeeds(without);
  expect(errors).toMatch(/step 60: dev alignment \d\.\d+ {2}uniformity -\d/);
  const found = metrics("ungraded").filter(({ uniformity }) => uniformity !== undefined);
  expect(found.map(({ step }) => step)).toEqual([6, 12, 18, 24, 30, 36, 42, 48, 54, 60]);
  expect(found.at(-1)!.spearman).toBeNull();
  expect(existsSync(path("ungraded", "best"))).toBe(false);
  const page = readFileSync(path("ungraded", "report.html"), "utf8");
  expect(page).toContain("Alignment and uniformity");
  expect(page).not.toContain("Dev score");
  // The same pairs as eval measures them, all graded 5 but one that is far below.
  const graded = [...pairs.map((pair) => [5, ...pair]), [0, ...pairs[0]!]];
  writeFileSync(path("graded.tsv"), graded.map((row) => row.join("\t")).join("\n"));
  const { stdout } = spawnSync(
    process.execPath,
    [
      "src/cli/main.ts",
      "eval",
      "--model",
      path("ungraded"),
      "--pairs",
      path("graded.tsv"),
      "--json",
    ],
    { encoding: "utf8" },
  );
  const [{ alignment, uniformity }] = JSON.parse(stdout) as [Metric];
  // Sentences in another order have another sum.
  expect(found.at(-1)!.alignment).toBeCloseTo(alignment!, 6);
  expect(found.at(-1)!.uniformity).toBeCloseTo(uniformity!, 6);
});

describe("simcse train", () => {
  it("takes options from a file, unless the command line has them", () => {
    const settings = { model: path("model"), train: [path("text.txt")], steps: 9, dropout: false };
    writeFileSync(path("run.json"), JSON.stringify(settings));
    succeeds(["train", "--config", path("run.json"), "--output", path("config"), "--steps", "3"]);
    expect(metrics("config").length).toBe(3);
  });

  it.each([
    [{ batchSise: 3 }, "batchSise is no option of train"],
    [{ batchSize: 1 }, "batchSize: expected a whole number from 2. Found 1"],
    [{ dropout: 0.1 }, "dropout: expected true or false, found 0.1"],
    [{ train: "a.txt" }, 'train: expected a list of strings, found "a.txt"'],
    [{ schedule: "square" }, "schedule: Allowed choices are linear, cosine, constant"],
  ])("refuses a file with %j", (settings, message) => {
    writeFileSync(path("broken.json"), JSON.stringify(settings));
    const { code, errors } = simcse(["train", "--config", path("broken.json")]);
    expect(code).toBe(1);
    expect(errors).toContain(`${path("broken.json")}: ${message}`);
  });

  it("takes the columns that a file names, whatever --columns says of the others", () => {
    // prettier-ignore
    const errors = succeeds(["train", "--model", path("model"), "--output", path("columns"), "--train", path("triplets.csv:sent1,sent0:0.5"),
      path("triplets.csv:0.5"), "--columns", "sent0,hard_neg", "--steps", "2", "--batch-size", "4"]);
    expect(errors).toMatch(/triplets\.csv: \d+ rows \(sent1, sent0\)/);
    expect(errors).toMatch(/triplets\.csv: \d+ rows \(sent0, hard_neg\)/);
    // prettier-ignore
    const missing = simcse(["train", "--model", path("model"), "--output", path("x"), "--train", path("triplets.csv:sent0,positive")]);
    expect(missing.errors).toContain(
      `${path("triplets.csv")}: expected a column positive, found sent0, sent1, hard_neg`,
    );
  });

  it("trains the recipes' settings", () => {
    for (const recipe of readdirSync("recipes").filter(
      (name) => !/nano|mini/.test(name) && name.endsWith(".json"),
    )) {
      // prettier-ignore
      const { code, errors } = simcse(["train", "--config", join("recipes", recipe), "--model", path("model"), "--output", path("recipe"),
        "--train", path("triplets.csv"), "--dev", path("dev.tsv"), "--dry-run"]);
      expect(code, errors).toBe(0);
    }
  });

  it("--dry-run prints what a run takes, and writes nothing", () => {
    const args = ["src/cli/main.ts", ...training("dry", "--dry-run")];
    const { stdout, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(status).toBe(0);
    for (const row of ["parameters", "moments of Adam, for the whole run", "time"]) {
      expect(stdout).toContain(row);
    }
    expect(existsSync(path("dry"))).toBe(false);
  });

  it("--seeds trains with each, and prints mean and standard deviation", () => {
    const args = ["src/cli/main.ts", ...training("seeds", "--seeds", "2", "--steps", "6")];
    const { stdout, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(status).toBe(0);
    const scores = [42, 43].map((seed) => best(`seeds/seed-${seed}`).spearman!);
    const mean = (scores[0]! + scores[1]!) / 2;
    const deviation = Math.abs(scores[0]! - scores[1]!) / Math.SQRT2;
    expect(stdout).toMatch(new RegExp(`mean +${mean.toFixed(2)}\\n`));
    expect(stdout).toMatch(new RegExp(`standard deviation +${deviation.toFixed(2)}\\n`));
  });
});

describe("simcse train refuses", () => {
  it.each([
    ["no data", ["--output", path("x")], "nothing to train on; give one or more --train"],
    [
      "a share for one file and none for another",
      ["--train", path("text.txt:0.5"), path("triplets.csv")],
      "expected a share (--train",
    ],
    [
      "patience without graded pairs",
      ["--train", path("text.txt"), "--patience", "2", "--dev-pairs", path("text.txt")],
      "--patience needs graded pairs",
    ],
    [
      "evaluations of nothing",
      ["--train", path("text.txt"), "--eval-every", "2"],
      "--eval-every needs pairs; give --dev <file> or --dev-pairs <file>",
    ],
  ])("%s", (_, more, message) => {
    // prettier-ignore
    const { code, errors } = simcse(["train", "--model", path("model"), "--output", path("refused"), ...more]);
    expect(code).toBe(2);
    expect(errors).toContain(message);
  });
});
