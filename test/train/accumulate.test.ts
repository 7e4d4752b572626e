import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StepOptions } from "../../src/train/step.ts";
import type { StepReport } from "../../src/train/trainer.ts";
import { killOnceWritten } from "./kill.ts";
import { encoder, start } from "./steps.ts";
import { sentences } from "./text.ts";

/** Steps of several batches: the mean of their gradients, and the bits of a run that is killed. */

/** Largest difference of each tensor, as a share of its largest element. */
function expectNear(
  found: Map<string, Float32Array>,
  want: Map<string, Float32Array>,
  most: number,
): void {
  expect([...found.keys()]).toEqual([...want.keys()]);
  for (const [name, values] of want) {
    const scale = values.reduce((largest, x) => Math.max(largest, Math.abs(x)), 1e-3);
    const other = found.get(name)!;
    const error = values.reduce((largest, x, i) => Math.max(largest, Math.abs(x - other[i]!)), 0);
    expect(error / scale, name).toBeLessThan(most);
  }
}

const CASES: [string, Partial<StepOptions>][] = [
  ["an encoder", {}],
  ["an encoder in chunks", { pooling: "cls", chunkSize: 3 }],
  ["one that guesses masked tokens", { mlmWeight: 0.5 }],
  ["a static table", { tableRows: encoder.vocabSize / 2 }],
  ["one with a layer", { tableRows: encoder.vocabSize / 2, dense: { outputs: 20, tanh: true } }],
];

describe("a step of three batches", () => {
  it.each(CASES)(
    "has the mean of their gradients, each with its own dropout: %s",
    (_title, changes) => {
      const together = start({ ...changes, accumulate: 3 });
      const norms = [1, 2, 3].map((n, part) => together.run(3 + n, 2, part).norm);
      // The same batches and dropout alone, each in a memory of its own; the second step has batches 4, 5 and 6.
      const alone = [4, 5, 6].map((n) => {
        const one = start(changes);
        one.run(n, n, 0);
        return one.named("gradients");
      });
      const found = together.named("gradients");
      const mean = new Map(
        [...found].map(([name, values]) => [
          name,
          values.map((_, i) => alone.reduce((sum, own) => sum + own.get(name)![i]!, 0) / 3),
        ]),
      );
      expectNear(found, mean, 1e-5);
      const squares = [...mean.values()].reduce((sum, g) => sum + Math.hypot(...g) ** 2, 0);
      expect(norms[2]! / Math.sqrt(squares)).toBeCloseTo(1, 4);
      expect(alone[0]).not.toEqual(alone[1]);
    },
  );

  it.each(CASES)(
    "that are the same batch moves the weights as one of it, without dropout: %s",
    (_title, changes) => {
      const [once, thrice] = [{}, { accumulate: 3 }].map((more) =>
        start({ ...changes, ...more, dropout: false }),
      ) as [ReturnType<typeof start>, ReturnType<typeof start>];
      for (let step = 1; step <= 5; step++) {
        const one = once.run(step, step, 0, 1e-3);
        const parts = [0, 1, 2].map((part) => thrice.run(step, step, part, 1e-3));
        for (const { loss } of parts) expect(loss / one.loss).toBeCloseTo(1, 4);
        expect(parts[2]!.norm / one.norm).toBeCloseTo(1, 4);
      }
      once.settle(5);
      thrice.settle(5);
      const [want, found] = [once.named("weights"), thrice.named("weights")];
      // Adam normalises the keys' biases, whose gradients are rounding.
      for (const name of want.keys()) {
        if (!name.endsWith("key.bias")) continue;
        want.delete(name);
        found.delete(name);
      }
      expectNear(found, want, 1e-3);
    },
  );

  it("moves nothing before the last of them", () => {
    const { run, settle, named } = start({ accumulate: 2 });
    const before = named("weights");
    run(1, 1, 0, 1e-3);
    expect(named("weights")).toEqual(before);
    run(2, 1, 1, 1e-3);
    settle(1);
    expect(named("weights")).not.toEqual(before);
  });
});

describe("simcse train --accumulate", () => {
  const folder = mkdtempSync(join(tmpdir(), "simcse-accumulate-"));
  const path = (...names: string[]): string => join(folder, ...names);
  const simcse = (args: readonly string[]): string => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(stderr);
    return stdout;
  };
  // prettier-ignore
  const training = (output: string, ...more: string[]): string[] => ["train", "--model", path("model"), "--train", path("a.txt"), path("b.csv"),
    "--output", path(output), "--batch-size", "8", "--max-length", "16", "--learning-rate", "1e-3", "--checkpoint-every", "1", ...more];
  const weights = (output: string): Buffer => readFileSync(path(output, "model.safetensors"));
  const reports = (output: string): StepReport[] => {
    const lines = readFileSync(path(output, "metrics.jsonl"), "utf8").trim().split("\n");
    return lines.map((line) => JSON.parse(line) as StepReport);
  };

  beforeAll(() => {
    writeFileSync(path("a.txt"), sentences(80, 2).join("\n"));
    const columns = [3, 4, 5].map((seed) => sentences(40, seed));
    const triplets = columns[0]!.map((_, i) => columns.map((column) => column[i]).join());
    writeFileSync(path("b.csv"), ["sent0,sent1,hard_neg", ...triplets].join("\n"));
    simcse(["vocab", "--corpus", path("a.txt"), "--output", path("t.json"), "--size", "120"]);
    // prettier-ignore
    simcse(["init", "--tokenizer", path("t.json"), "--output", path("model"), "--hidden", "32", "--heads", "4", "--intermediate", "64"]);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("makes a third of the steps of an epoch, of all its tokens, and reports mean losses", () => {
    simcse(training("one", "--threads", "1", "--learning-rate", "0"));
    simcse(training("three", "--threads", "1", "--learning-rate", "0", "--accumulate", "3"));
    const [one, three] = [reports("one"), reports("three")];
    expect([one.length, three.length]).toEqual([15, 5]);
    three.forEach((report, i) => {
      const own = one.slice(3 * i, 3 * i + 3);
      const sum = (key: "loss" | "tokens"): number => own.reduce((all, x) => all + x[key], 0);
      expect(report.tokens).toBe(sum("tokens"));
      expect(report.loss).toBeCloseTo(sum("loss") / 3, 6);
    });
  });

  it("killed and resumed by another team, with chunks, masked tokens and an average, ends in the same bits", async () => {
    // prettier-ignore
    const options = ["--accumulate", "3", "--epochs", "2", "--chunk-size", "5", "--mlm-weight", "0.1", "--ema", "0.99"];
    simcse(training("whole", "--threads", "1", ...options));
    await killOnceWritten(
      training("killed", "--threads", "2", ...options),
      path("killed", "checkpoint.safetensors"),
    );
    simcse(training("killed", "--threads", "3", "--resume", ...options));
    expect(weights("killed").equals(weights("whole"))).toBe(true);
    expect(() => simcse(training("killed", "--resume", ...options, "--accumulate", "2"))).toThrow(
      "cannot resume, step.accumulate was 3, now 2",
    );
  });
});
