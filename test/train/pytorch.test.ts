import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseSafetensors, serializeSafetensors, toFloat32 } from "../../src/files/safetensors.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { needs } from "../needs.ts";
import { sentences } from "./text.ts";

/** Runs that go on in PyTorch by `examples/pytorch/train.py`, and come back, with their moments of AdamW. */
const folder = mkdtempSync(join(tmpdir(), "simcse-pytorch-"));
const path = (...names: string[]): string => join(folder, ...names);
const ROWS = 16;

/** A Python that has PyTorch. */
const python = [process.env["SIMCSE_PYTHON"], "python3", "/usr/bin/python3"].find(
  (command) => command && spawnSync(command, ["-c", "import torch"]).status === 0,
);

function simcse(...args: string[]): string {
  const found = spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
  if (found.status !== 0) throw new Error(found.stderr);
  return found.stderr;
}

/** Six steps, each of all rows, so that the order of the data does not matter. */
function train(model: string, output: string, ...more: string[]): void {
  // prettier-ignore
  simcse("train", "--model", path(model), "--train", path("rows.csv"), "--output", path(output), "--steps", "6", "--batch-size", String(ROWS),
    "--schedule", "constant", "--learning-rate", "1e-4", "--weight-decay", "0.01", "--no-dropout", "--threads", "1", ...more);
}

/** The same in PyTorch, by so many processes, each told what torchrun would tell it. */
async function trainThere(
  model: string,
  adam: string,
  output: string,
  processes = 1,
): Promise<void> {
  // prettier-ignore
  const args = ["examples/pytorch/train.py", path(model), "--adam", path(adam), "--tokens", path("rows.jsonl"), "--output", path(output),
    "--steps", "6", "--batch-size", String(ROWS), "--learning-rate", "1e-4", "--weight-decay", "0.01", "--no-dropout"];
  const port = 20_000 + (process.pid % 20_000);
  const env = { ...process.env, OMP_NUM_THREADS: "1", WORLD_SIZE: String(processes) };
  const ranks = Array.from({ length: processes }, (_, rank) =>
    promisify(execFile)(python!, args, {
      env: { ...env, RANK: String(rank), MASTER_ADDR: "127.0.0.1", MASTER_PORT: String(port) },
    }),
  );
  await Promise.all(ranks);
}

function read(...names: string[]) {
  const { tensors, metadata } = parseSafetensors(readFileSync(path(...names)), names.join("/"));
  return { tensors, metadata };
}

type Tensors = ReturnType<typeof read>;

/** How far two files are from each other, as a share of how far the second is from a third, or from 0. */
function distance(found: Tensors, want: Tensors, kind: RegExp, from?: Tensors): number {
  // The gradient of the keys' biases is rounding, which Adam normalises.
  const names = [...want.tensors.keys()].filter((n) => kind.test(n) && !n.endsWith("key.bias"));
  expect(names.length).toBeGreaterThan(30);
  let [error, all] = [0, 0];
  for (const name of names) {
    const [a, b, c] = [found, want, from].map((file) => file && toFloat32(file.tensors.get(name)!));
    b!.forEach((x, i) => {
      error += (x - a![i]!) ** 2;
      all += (x - (c?.[i] ?? 0)) ** 2;
    });
  }
  return Math.sqrt(error / all);
}
const WEIGHTS = /^(embeddings|encoder|pooler)/;
/** Sums in another order differ by rounding, which Adam enlarges where a gradient is small. */
const ROUNDING = 2e-3;

beforeAll(() => {
  const columns = [1, 2, 3].map((seed) => sentences(ROWS, seed));
  const rows = columns[0]!.map((_, i) => columns.map((column) => column[i]!));
  writeFileSync(
    path("rows.csv"),
    ["sent0,sent1,hard_neg", ...rows.map((row) => row.join())].join("\n"),
  );
  writeFileSync(path("text.txt"), columns.flat().join("\n"));
  // prettier-ignore
  simcse("vocab", "--corpus", path("text.txt"), "--output", path("t.json"), "--size", "120");
  // prettier-ignore
  simcse("init", "--tokenizer", path("t.json"), "--output", path("model"), "--hidden", "32", "--heads", "4", "--intermediate", "64", "--pooling", "cls");
  const tokenizer = new Tokenizer(JSON.parse(readFileSync(path("t.json"), "utf8")));
  const ids = rows.map((row) => row.map((text) => [...tokenizer.encode(text, 32).ids]));
  writeFileSync(path("rows.jsonl"), ids.map((row) => JSON.stringify(row)).join("\n"));
  train("model", "first");
});
afterAll(() => rmSync(folder, { recursive: true }));

const adamOf = (output: string): string => join(output, "checkpoint.safetensors");

describe("--adam", () => {
  it("goes on with the moments of another run, which one step counts", () => {
    train("first", "second", "--adam", path(adamOf("first")));
    train("first", "forgetful");
    train("model", "whole", "--steps", "12");
    const whole = read(adamOf("whole"));
    const second = read(adamOf("second"));
    expect([second, whole].map(({ metadata }) => metadata["adam_steps"])).toEqual(["12", "12"]);
    // Two runs of six steps are one of twelve, but for the order of the rows in a batch.
    const first = read(adamOf("first"));
    expect(distance(second, whole, WEIGHTS, first)).toBeLessThan(ROUNDING);
    expect(distance(second, whole, /^adam/)).toBeLessThan(ROUNDING);
    expect(distance(read(adamOf("forgetful")), whole, WEIGHTS, first)).toBeGreaterThan(0.2);
  });

  it("refuses a file without steps, and moments of another model, by name", () => {
    const adam = ["--adam", path("first", "model.safetensors")];
    expect(() => train("first", "x", ...adam)).toThrow(
      "model.safetensors: expected adam_steps in the metadata, a whole number, found none",
    );
    const { tensors } = read(adamOf("first"));
    const some = [...tensors].filter(([name]) => name !== "adam.second.pooler.dense.bias");
    writeFileSync(path("some"), serializeSafetensors(some, { adam_steps: "6" }));
    expect(() => train("first", "x", "--adam", path("some"))).toThrow(
      "adam.second.pooler.dense.bias: expected [32], absent from",
    );
  });
});

describe("examples/pytorch/train.py", () => {
  it("takes the steps that simcse train takes, and hands its moments back", async (test) => {
    needs(test, python, "a python3 with PyTorch");
    await trainThere("first", adamOf("first"), "there");
    const [first, whole] = [read(adamOf("first")), read(adamOf("whole"))];
    expect(distance(read("there", "model.safetensors"), whole, WEIGHTS, first)).toBeLessThan(
      ROUNDING,
    );
    const moments = read("there", "adam.safetensors");
    expect(moments.metadata["adam_steps"]).toBe("12");
    for (const kind of [/^adam\.first/, /^adam\.second/]) {
      expect(distance(moments, whole, kind)).toBeLessThan(ROUNDING);
    }
    train("there", "back", "--adam", path("there", "adam.safetensors"));
    train("whole", "on", "--adam", path(adamOf("whole")));
    const back = read(adamOf("back"));
    expect(back.metadata["adam_steps"]).toBe("18");
    expect(distance(back, read(adamOf("on")), WEIGHTS, whole)).toBeLessThan(ROUNDING);
  }, 60_000);

  it("by two processes takes the steps of one", async (test) => {
    needs(test, python, "a python3 with PyTorch");
    await trainThere("first", adamOf("first"), "two", 2);
    const [one, two] = ["there", "two"].map((name) => read(name, "model.safetensors"));
    expect(distance(two!, one!, WEIGHTS, read(adamOf("first")))).toBeLessThan(ROUNDING);
  }, 60_000);
});
