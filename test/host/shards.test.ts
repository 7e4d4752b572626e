import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { UsageError } from "../../src/errors.ts";
import { parseShard } from "../../src/node/shards.ts";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

const root = mkdtempSync(join(tmpdir(), "simcse-shards-"));
const model = join(root, "model");
const input = join(root, "in.txt");
const ROWS = 400;
beforeAll(async () => {
  await writeTinyModel(model, "int8");
  const rows = Array.from({ length: ROWS }, (_, i) => `${SENTENCES[i % 5]} ${i}`);
  writeFileSync(input, `${rows.join("\n")}\n`);
});
afterAll(() => rmSync(root, { recursive: true }));

const command = (...args: string[]): string[] => ["src/cli/main.ts", ...args];
const encodeArgs = (output: string, ...more: string[]): string[] =>
  command("encode", input, "--model", model, "--output", output, "--threads", "1", ...more);
function run(args: string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  return { status, stderr };
}

describe("parseShard", () => {
  it.each([
    ["3/8", {}, { index: 3, count: 8 }],
    ["auto", { JOB_COMPLETION_INDEX: "2", SIMCSE_SHARDS: "4" }, { index: 2, count: 4 }],
    [
      "auto",
      { AWS_BATCH_JOB_ARRAY_INDEX: "0", AWS_BATCH_JOB_ARRAY_SIZE: "2" },
      { index: 0, count: 2 },
    ],
    ["auto", { CLOUD_RUN_TASK_INDEX: "1", CLOUD_RUN_TASK_COUNT: "2" }, { index: 1, count: 2 }],
    [
      "auto",
      { SLURM_ARRAY_TASK_ID: "5", SLURM_ARRAY_TASK_MIN: "1", SLURM_ARRAY_TASK_COUNT: "8" },
      { index: 4, count: 8 },
    ],
    ["auto", { SLURM_PROCID: "1", SLURM_NTASKS: "3" }, { index: 1, count: 3 }],
  ])("%s of %j", (text, env, expected) => {
    expect(parseShard(text, env)).toEqual(expected);
  });

  it.each([
    ["8/8", {}],
    ["1/0", {}],
    ["a/b", {}],
    ["auto", {}],
    ["auto", { JOB_COMPLETION_INDEX: "2" }],
  ])("refuses %s of %j", (text, env) => {
    expect(() => parseShard(text, env)).toThrow(UsageError);
  });
});

it.each(["npy", "jsonl", "ndjson", "pgcopy"])(
  "the shards of a job merge into the bytes of one run: %s",
  (format) => {
    const whole = join(root, `whole.${format}`);
    expect(run(encodeArgs(whole, "--format", format)).status).toBe(0);
    const folder = join(root, `shards-${format}`);
    for (const i of [0, 1, 2]) {
      const { status, stderr } = run(encodeArgs(folder, "--format", format, "--shard", `${i}/3`));
      expect(status, stderr).toBe(0);
    }
    const merged = join(root, `merged.${format}`);
    const done = run(command("merge", folder, merged, "--shards", "3"));
    expect(done.status, done.stderr).toBe(0);
    expect(readFileSync(merged).equals(readFileSync(whole))).toBe(true);

    expect(run(encodeArgs(folder, "--format", format, "--shard", "1/3")).stderr).toContain(
      "is done",
    );
    const other = run(
      encodeArgs(folder, "--format", format, "--shard", "1/3", "--dimensions", "8"),
    );
    expect(other.stderr).toContain("made by another model or other options");
    const damaged = join(folder, `shard-00001-of-00003.${format}`);
    writeFileSync(damaged, readFileSync(damaged).subarray(1));
    expect(run(command("merge", folder, merged, "--shards", "3")).stderr).toContain("damaged");
  },
);

it("a shard that is killed and started again ends with the same bytes", async () => {
  const read = (folder: string): Record<string, string> =>
    Object.fromEntries(
      readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "hex")]),
    );
  const folder = join(root, "killed");
  for (const delay of [150, 300, 450]) {
    const child = spawn(process.execPath, encodeArgs(folder, "--format", "npy", "--shard", "0/2"));
    const ended = once(child, "exit");
    setTimeout(() => child.kill("SIGKILL"), delay);
    await ended;
  }
  expect(run(encodeArgs(folder, "--format", "npy", "--shard", "0/2")).status).toBe(0);
  const calm = join(root, "calm");
  expect(run(encodeArgs(calm, "--format", "npy", "--shard", "0/2")).status).toBe(0);
  expect(read(folder)).toEqual(read(calm));
});
