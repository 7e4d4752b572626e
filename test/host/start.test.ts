import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readFloatFolder } from "../../src/cli/float-folder.ts";
import { fineTune } from "../../src/cli/start-model.ts";
import { toFloat32 } from "../../src/files/safetensors.ts";
import { readModelFolder } from "../../src/node/model-folder.ts";
import { sentences } from "../train/text.ts";

const root = mkdtempSync(join(tmpdir(), "simcse-start-"));
afterAll(() => rmSync(root, { recursive: true }));
const corpus = join(root, "text.txt");
const lines = sentences(300, 1);
writeFileSync(corpus, lines.join("\n"));

function start(...args: string[]): { status: number | null; out: string; err: string } {
  const common = ["src/cli/main.ts", "start", "--no-serve", "--threads", "1", "--steps", "2"];
  const run = spawnSync(process.execPath, [...common, ...args], { encoding: "utf8" });
  return { status: run.status, out: run.stdout, err: run.stderr };
}

/** The score of a row of the table. */
const scoreOf = (out: string, name: string): number =>
  Number(
    out
      .split("\n")
      .find((line) => line.startsWith(`${name} `))
      ?.slice(name.length)
      .trim()
      .split(" ")[0],
  );

describe("simcse start", () => {
  it("fine-tunes simcse-edge-mini, scores it before and after, and serves the better one", async () => {
    const output = join(root, "tuned");
    const { status, out, err } = start("--corpus", corpus, "--output", output);
    expect(status, err).toBe(0);
    expect(err).toContain(
      `1. Corpus\n${corpus}: 300 sentences\n2. simcse train --model simcse-edge-mini`,
    );
    expect(err).toContain("simcse-edge-mini: its int8 weights, made f32 again");
    const int8 = join(output, "int8");
    const name = out
      .split("\n")
      .find((line) => line.includes("int8, int8"))!
      .split(",")[0]!;
    const [before, after] = [scoreOf(out, "simcse-edge-mini"), scoreOf(out, `${name}, int8`)];
    expect(before).toBeGreaterThan(30);
    expect(after).toBeGreaterThan(30);
    const [, verdict, gain] =
      /(beats simcse-edge-mini by|does NOT beat simcse-edge-mini:) ([\d.]+) points/.exec(err)!;
    expect(verdict!.startsWith("beats")).toBe(after > before);
    // The table rounds both scores.
    expect(Math.abs(Number(gain) - Math.abs(after - before))).toBeLessThan(0.0151);
    expect(err).toContain(
      `it serves ${after > before ? name : "simcse-edge-mini"}, the better of the two on these pairs`,
    );
    const { hiddenSize } = (await readModelFolder("simcse-edge-mini")).config.encoder;
    expect(out).toContain(`… ${hiddenSize} numbers]`);
    expect(
      out
        .trimEnd()
        .split("\n")
        .slice(-3)
        .every((line) => /^ {2}0\.\d{3} {2}\w/.test(line)),
    ).toBe(true);
    expect(JSON.parse(readFileSync(join(int8, "config.json"), "utf8"))).toMatchObject({
      simcse_edge: { dtype: "int8" },
    });
  });

  it("--from-scratch makes a vocabulary and a model of random weights, and serves what became of it", () => {
    const output = join(root, "scratch");
    const { status, out, err } = start("--from-scratch", "--corpus", corpus, "--output", output);
    expect(status, err).toBe(0);
    expect(err).toMatch(
      /\n2\. simcse vocab [^]*\n3\. simcse init, then simcse train [^]*\n6\. A Worker\nit serves \S+int8\n/,
    );
    expect(out).toMatch(/^\S+untrained +\d/m);
    expect(out).toContain("… 128 numbers]");
  });

  it("--from-scratch has no model to begin with", () => {
    const { status, err } = start("--from-scratch", "--model", "simcse-edge-nano");
    expect(status).toBe(2);
    expect(err).toContain("'--model <model>' cannot be used with option '--from-scratch'");
  });
});

it("sentences and the names of what they are about are pairs to fine-tune with, also a static model", async () => {
  const file = join(root, "names.tsv");
  const rows = lines.map((line, i) => `${line}\t${lines.at(-i)}`);
  writeFileSync(file, ["sentence\tname", ...rows].join("\n"));
  const [tuned, output] = ["named", "average"].map((name) => join(root, name));
  const model = "simcse-edge-nano";
  const announced: string[] = [];
  await fineTune(
    { model, tuned: tuned! },
    { corpus, sentences: lines, names: { file, count: lines.length } },
    { output: output!, steps: 1, threads: 1 },
    (step) => announced.push(step),
  );
  expect(announced).toEqual([
    `simcse train --model ${model} --train ${file} --output ${tuned}, then ` +
      `simcse average --model ${model}:0.25 ${tuned}:0.75 --output ${output}`,
  ]);
  const [learnt, averaged] = await Promise.all([tuned!, output!].map(readFloatFolder));
  const before = await readFloatFolder(model);
  const values = [before, learnt!, averaged!].map(({ tensors }) =>
    toFloat32(tensors.get("embedding.weight")!),
  );
  let changed = 0;
  let farthest = 0;
  for (let i = 0; i < values[0]!.length; i++) {
    const [from, to, found] = values.map((vectors) => vectors[i]!) as [number, number, number];
    if (from !== to) changed++;
    farthest = Math.max(farthest, Math.abs(found - (0.25 * from + 0.75 * to)));
  }
  expect(farthest).toBeLessThan(1e-6);
  expect(changed).toBeGreaterThan(1000);
});
