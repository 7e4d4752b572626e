import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseSafetensors, toFloat32 } from "../../src/files/safetensors.ts";
import { SimCSE } from "../../src/node/index.ts";
import { killOnceWritten } from "./kill.ts";
import { encoder, start } from "./steps.ts";
import { sentences } from "./text.ts";

describe.each(["node", "portable"])("%s: a layer on the mean of a static model", (target) => {
  it.each([
    { outputs: 20, tanh: true },
    { outputs: 20, tanh: false, chunkSize: 3 },
    { outputs: 48, tanh: true, beginnings: [16] },
  ])("has for every parameter the slope of the loss, by central differences: %o", (changes) => {
    const { outputs, tanh, ...more } = changes;
    const dense = { outputs, tanh };
    const { plan, values, run, named } = start(
      { tableRows: encoder.vocabSize / 2, dense, temperature: 0.5, dropout: false, ...more },
      target,
    );
    run(1, 1, 0);
    const gradients = named("gradients");
    for (const tensor of plan.model.weights.named.filter(({ dtype }) => dtype === "F32")) {
      const gradient = gradients.get(tensor.name)!;
      const norm = Math.hypot(...gradient);
      expect(norm, tensor.name).toBeGreaterThan(1e-3);
      const own = values(tensor);
      const before = own.slice();
      const h = Math.min(2e-3 / norm, 0.02);
      const [above, below] = [h, -h].map((by) => {
        own.set(before.map((x, i) => x + (by * gradient[i]!) / norm));
        return run(1, 1, 0).loss;
      }) as [number, number];
      own.set(before);
      expect((above - below) / (2 * h) / norm, tensor.name).toBeCloseTo(1, 1.7);
    }
  });
});

describe("simcse init --static --dense", () => {
  const folder = mkdtempSync(join(tmpdir(), "simcse-dense-"));
  const path = (...names: string[]): string => join(folder, ...names);
  const simcse = (...args: string[]): { code: number | null; errors: string } => {
    const found = spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
    return { code: found.status, errors: found.stderr };
  };
  const succeeds = ({ code, errors }: ReturnType<typeof simcse>): void => {
    if (code !== 0) throw new Error(errors);
  };
  // prettier-ignore
  const training = (output: string, ...more: string[]): string[] => ["train", "--model", path("model"), "--train", path("text.txt"), "--output", path(output),
    "--neighbours", "1", "--steps", "20", "--batch-size", "16", "--learning-rate", "3e-3", "--ema", "0.9", "--checkpoint-every", "1", ...more];
  const weights = (output: string): Buffer => readFileSync(path(output, "model.safetensors"));

  beforeAll(() => {
    writeFileSync(path("text.txt"), sentences(120, 2).join("\n"));
    // prettier-ignore
    succeeds(simcse("vocab", "--corpus", path("text.txt"), "--output", path("t.json"), "--size", "120"));
    // prettier-ignore
    succeeds(simcse("init", "--static", "--dense", "16", "--tokenizer", path("t.json"), "--corpus", path("text.txt"), "--output", path("model"), "--hidden", "32"));
    succeeds(simcse(...training("whole", "--threads", "1")));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("trains a folder whose vectors are tanh(W mean + b), with a Dense for sentence-transformers", async () => {
    const modules = JSON.parse(readFileSync(path("whole", "modules.json"), "utf8"));
    expect(modules.map(({ type }: { type: string }) => type.split(".").at(-1))).toEqual([
      "StaticEmbedding",
      "Dense",
    ]);
    const there = parseSafetensors(
      readFileSync(path("whole", "1_Dense", "model.safetensors")),
      "x",
    );
    const { tensors } = parseSafetensors(weights("whole"), "whole");
    const [table, w, b] = [
      "embedding.weight",
      "modules.0.linear.weight",
      "modules.0.linear.bias",
    ].map((name) => toFloat32(tensors.get(name)!));
    expect(there.tensors.get("linear.weight")!.data).toEqual(
      tensors.get("modules.0.linear.weight")!.data,
    );
    await using model = await SimCSE.load(path("whole"));
    const ids = [20, 21, 30];
    const mean = Array.from({ length: 32 }, (_, j) =>
      ids.reduce((sum, id) => sum + table![32 * id + j]! / ids.length, 0),
    );
    const y = Array.from({ length: 16 }, (_, i) =>
      Math.tanh(mean.reduce((sum, x, j) => sum + x * w![32 * i + j]!, b![i]!)),
    );
    const found = await model.encode(ids, { normalize: false });
    expect(found).toHaveLength(16);
    y.forEach((value, i) => expect(found[i]).toBeCloseTo(value, 5));
  });

  it("killed and resumed by another team ends in the same bits, and quantises", async () => {
    await killOnceWritten(
      training("killed", "--threads", "2"),
      path("killed", "checkpoint.safetensors"),
    );
    succeeds(simcse(...training("killed", "--threads", "1", "--resume")));
    expect(weights("killed").equals(weights("whole"))).toBe(true);
    succeeds(simcse("quantize", "--model", path("whole"), "--output", path("int8")));
    await using int8 = await SimCSE.load(path("int8"));
    await using f32 = await SimCSE.load(path("whole"));
    const [a, b] = [await int8.encode("the file"), await f32.encode("the file")];
    expect(a.reduce((sum, x, i) => sum + x * b[i]!, 0)).toBeGreaterThan(0.99);
  });

  it("goes on from the table of such a run, and is no model to begin a transformer as", () => {
    succeeds(simcse(...training("on", "--model", path("whole"), "--steps", "2")));
    // prettier-ignore
    const { code, errors } = simcse("init", "--begin-as", path("whole"), "--tokenizer", path("t.json"), "--output", path("x"));
    expect(code).toBe(2);
    expect(errors).toContain("expected a mean of token vectors alone, found modules after it");
  });
});
