import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { init, Interrupted, quantize, train, vocab } from "../../src/cli/commands.ts";
import { FormatError, UsageError } from "../../src/errors.ts";
import { SENTENCES } from "../worker/tiny-model.ts";

const folder = mkdtempSync(join(tmpdir(), "simcse-commands-"));
const path = (name: string): string => join(folder, name);
const weights = (name: string): Buffer => readFileSync(join(path(name), "model.safetensors"));
const settings = (output: string) => ({
  model: path("model"),
  corpus: path("corpus.txt"),
  output: path(output),
  steps: 6,
  batchSize: 4,
  threads: 1,
  matryoshka: [8],
});

beforeAll(async () => {
  writeFileSync(path("corpus.txt"), SENTENCES.join("\n"));
  await vocab({ corpus: path("corpus.txt"), output: path("t.json"), size: 150 });
  await init({ tokenizer: path("t.json"), output: path("model"), layers: 1, hidden: 16 });
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("commands as functions", () => {
  it("train reports every step, and tells what the command prints", async () => {
    const notes: string[] = [];
    const steps: number[] = [];
    const state = await train(settings("whole"), {
      onNote: (text) => notes.push(text),
      onReport: ({ step }) => steps.push(step),
    });
    expect(state).toEqual({ step: 6 });
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
    expect(notes.join("\n")).toMatch(/7 sentences.*[^]*trained 6 steps in/);
  });

  it("a signal ends a run, which resumes to the same bits; no listener of the process is left", async () => {
    const before = process.listenerCount("SIGINT");
    const stop = new AbortController();
    const hooks = { signal: stop.signal, onReport: () => stop.abort() };
    await expect(train(settings("stopped"), hooks)).rejects.toThrow(Interrupted);
    expect(existsSync(join(path("stopped"), "model.safetensors"))).toBe(false);
    await train({ ...settings("stopped"), resume: true });
    expect(weights("stopped").equals(weights("whole"))).toBe(true);
    expect(process.listenerCount("SIGINT")).toBe(before);
  });

  it("quantize writes a smaller folder", async () => {
    await quantize({ model: path("model"), output: path("int8") });
    expect(weights("int8").length).toBeLessThan(weights("model").length);
  });

  it.each([
    [{ batchSize: 1 }, FormatError, "train: batchSize: expected a whole number from 2. Found 1"],
    [{ batchSise: 2 }, FormatError, "train: batchSise is no option of train"],
    [{ matryoshka: [8, 3] }, FormatError, "train: matryoshka: expected a whole number from 4"],
    [{ output: undefined }, UsageError, "train: expected output, found none"],
  ])("refuses %j", async (wrong, kind, message) => {
    const found = train({ ...settings("x"), ...wrong } as ReturnType<typeof settings>);
    await expect(found).rejects.toThrow(kind);
    await expect(found).rejects.toThrow(message);
  });
});
