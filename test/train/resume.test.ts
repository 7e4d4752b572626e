import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseSafetensors } from "../../src/files/safetensors.ts";
import { sentences } from "./text.ts";

/** Real children of the command line, killed for real: nothing here is simulated but the user. `stress.ts` kills at random moments. */
const folder = mkdtempSync(join(tmpdir(), "simcse-resume-"));
const corpus = join(folder, "corpus.txt");
const model = join(folder, "untrained");
const STEPS = 120;

function simcse(...args: string[]): ChildProcess {
  return spawn(process.execPath, ["src/cli/main.ts", ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
}

async function finished(
  child: ChildProcess,
): Promise<{ code: number | null; signal: string | null; errors: string }> {
  let errors = "";
  child.stderr!.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  return { code, signal, errors };
}

function training(name: string, threads: number, ...more: string[]): ChildProcess {
  // prettier-ignore
  return simcse("train", "--model", model, "--corpus", corpus, "--output", join(folder, name), "--threads", String(threads),
    "--steps", String(STEPS), "--batch-size", "16", "--learning-rate", "1e-3", "--checkpoint-every", "2", ...more);
}

function weights(name: string): Buffer {
  return readFileSync(join(folder, name, "model.safetensors"));
}

async function succeeds(child: ChildProcess): Promise<void> {
  const { code, errors } = await finished(child);
  if (code !== 0) throw new Error(errors);
}

/** Kills the child so many milliseconds after its first step, and tells whether it was still running. */
async function killInside(child: ChildProcess, delayMs: number): Promise<boolean> {
  child.stderr!.on("data", (chunk: Buffer) => {
    if (/step \d+\//.test(chunk.toString())) setTimeout(() => child.kill("SIGKILL"), delayMs);
  });
  return (await finished(child)).signal === "SIGKILL";
}

/** Kills the child at the first temporary file of a checkpoint it is seen to write, after `skip` of them. */
async function killDuringWrite(child: ChildProcess, name: string, skip: number): Promise<boolean> {
  const seen = new Set<string>();
  while (child.exitCode === null && child.signalCode === null) {
    let names: string[] = [];
    try {
      names = readdirSync(join(folder, name)).filter((file) =>
        file.startsWith("checkpoint.safetensors.tmp"),
      );
    } catch {}
    for (const file of names) seen.add(file);
    if (names.length > 0 && seen.size > skip) {
      child.kill("SIGKILL");
      return true;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return false;
}

beforeAll(async () => {
  writeFileSync(corpus, sentences(400, 3).join("\n"));
  const tokenizer = join(folder, "tokenizer.json");
  await succeeds(simcse("vocab", "--corpus", corpus, "--output", tokenizer, "--size", "200"));
  // prettier-ignore
  await succeeds(simcse("init", "--tokenizer", tokenizer, "--output", model, "--hidden", "64", "--intermediate", "128", "--pooling", "cls"));
  await succeeds(training("whole-1", 1));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("a run", () => {
  it("of one, two and three threads ends in the same bits", async () => {
    for (const threads of [2, 3]) {
      await succeeds(training(`whole-${threads}`, threads));
      expect(weights(`whole-${threads}`).equals(weights("whole-1")), `${threads} threads`).toBe(
        true,
      );
    }
  });

  it("killed while it writes checkpoints, and resumed, ends in the bits of one that was not", async () => {
    let kills = 0;
    for (let attempt = 0; attempt < 4; attempt++) {
      const child = training("torn", 2, "--resume");
      const done = finished(child);
      if (await killDuringWrite(child, "torn", 3 + 5 * attempt)) kills++;
      await done;
    }
    await succeeds(training("torn", 2, "--resume"));
    expect(kills).toBeGreaterThan(0);
    expect(weights("torn").equals(weights("whole-1"))).toBe(true);
    expect(readdirSync(join(folder, "torn")).filter((file) => file.includes(".tmp-"))).toEqual([]);
  });

  it("interrupted once finishes its step, saves, exits with 130 and says how to go on", async () => {
    const child = training("interrupted", 2);
    child.stderr!.on("data", (chunk: Buffer) => {
      if (chunk.toString().includes("step 1/")) child.kill("SIGINT");
    });
    const { code, errors } = await finished(child);
    expect(code, errors).toBe(130);
    expect(errors).toMatch(/stopped after step \d+ of 120; --resume continues/);
    await succeeds(training("interrupted", 1, "--resume"));
    expect(weights("interrupted").equals(weights("whole-1"))).toBe(true);
  });

  it("writes one line of metrics a step, however often it was killed", () => {
    for (const name of ["whole-1", "torn"]) {
      const lines = readFileSync(join(folder, name, "metrics.jsonl"), "utf8")
        .trim()
        .split("\n");
      const steps = lines.map((line) => (JSON.parse(line) as { step: number }).step);
      expect(steps, name).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
    }
  });
});

describe("a run of a static model", () => {
  it("with an average of its weights and chunks, killed and resumed by another team, ends in the same bits, as a table alone", async () => {
    const [untrained, tokenizer] = [join(folder, "static"), join(folder, "tokenizer.json")];
    // prettier-ignore
    await succeeds(simcse("init", "--static", "--tokenizer", tokenizer, "--corpus", corpus, "--output", untrained, "--hidden", "64"));
    const options = ["--model", untrained, "--neighbours", "1", "--ema", "0.99"];
    const chunks = ["--chunk-size", "5", "--weight-decay", "0.01"];
    await succeeds(training("static-whole", 1, ...options, ...chunks));
    const killed = training("static-killed", 2, ...options, ...chunks);
    expect(await killInside(killed, 20)).toBe(true);
    await succeeds(training("static-killed", 1, ...options, ...chunks, "--resume"));
    expect(weights("static-killed").equals(weights("static-whole"))).toBe(true);
    const { tensors } = parseSafetensors(weights("static-whole"), "static-whole");
    expect([...tensors.keys()]).toEqual(["embedding.weight"]);
    const modules = readFileSync(join(folder, "static-whole", "modules.json"), "utf8");
    expect(JSON.parse(modules)).toEqual([
      { idx: 0, name: "0", path: "", type: "sentence_transformers.models.StaticEmbedding" },
    ]);
  });
});

describe("resuming refuses", () => {
  it("a checkpoint of which one bit has changed, naming the file and the checksum", async () => {
    const name = "damaged";
    await succeeds(training(name, 1));
    const file = join(folder, name, "checkpoint.safetensors");
    const bytes = readFileSync(file);
    bytes[bytes.length - 1000]! ^= 1;
    writeFileSync(file, bytes);
    const { code, errors } = await finished(training(name, 1, "--resume"));
    expect(code).toBe(1);
    expect(errors).toContain("checkpoint.safetensors: damaged: expected sha256");
  });

  it("a checkpoint that is cut off", async () => {
    const file = join(folder, "damaged", "checkpoint.safetensors");
    writeFileSync(file, readFileSync(file).subarray(0, 5000));
    const { code, errors } = await finished(training("damaged", 1, "--resume"));
    expect(code).toBe(1);
    expect(errors).toContain("checkpoint.safetensors: ");
  });

  it("other options, naming the first that differs", async () => {
    const { code, errors } = await finished(
      training("whole-1", 1, "--resume", "--temperature", "0.1"),
    );
    expect(code).toBe(1);
    expect(errors).toContain("cannot resume, step.temperature was 0.05, now 0.1");
  });

  it("to overwrite a run that is there without --resume or --force, with exit code 2", async () => {
    const { code, errors } = await finished(training("whole-1", 1));
    expect(code).toBe(2);
    expect(errors).toContain("already holds a run; --resume continues it, --force begins anew");
  });
});
