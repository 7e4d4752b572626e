import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseSafetensors, serializeSafetensors } from "../../src/files/safetensors.ts";
import { needs } from "../needs.ts";

const folder = mkdtempSync(join(tmpdir(), "simcse-cli-"));
const path = (...names: string[]): string => join(folder, ...names);

function simcse(...args: string[]): { code: number | null; out: string; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
    encoding: "utf8",
  });
  return { code: status, out: stdout, errors: stderr };
}

const SENTENCES = [
  "Reads a file and returns its bytes.",
  "Writes the bytes to a file.",
  "Opens a connection to the server.",
  "Closes the connection when the server is done.",
  "Returns the name of the error.",
  "Throws an error when the name is empty.",
];

beforeAll(() => {
  writeFileSync(path("corpus.txt"), SENTENCES.join("\n"));
  for (const args of [
    [
      "vocab",
      "--corpus",
      path("corpus.txt"),
      "--output",
      path("tokenizer.json"),
      "--size",
      "150",
      "--min-frequency",
      "1",
    ],
    // prettier-ignore
    ["init", "--tokenizer", path("tokenizer.json"), "--output", path("model"), "--hidden", "32", "--intermediate", "64", "--heads", "4", "--max-length", "24"],
  ]) {
    const { code, errors } = simcse(...args);
    if (code !== 0) throw new Error(errors);
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const train = (...more: string[]): ReturnType<typeof simcse> =>
  // prettier-ignore
  simcse("train", "--model", path("model"), "--corpus", path("corpus.txt"), "--output", path("run"), "--max-length", "24", "--steps", "3", "--threads", "1", ...more);

describe("simcse ends with exit code 2 and names the option", () => {
  it.each([
    ["an unknown command", ["trian"], "unknown command 'trian'"],
    ["an option that is absent", ["vocab"], "required option '--corpus <file>' not specified"],
    ["a value that is no number", ["train", "--steps", "many"], "expected a whole number from 1"],
    [
      "a pooling there is not",
      ["init", "--pooling", "max"],
      "Allowed choices are cls, cls_before_pooler, avg, avg_top2, avg_first_last, avg_embeddings_last",
    ],
  ])("for %s", (_, args, message) => {
    const { code, errors } = simcse(...args);
    expect(code, errors).toBe(2);
    expect(errors).toContain(message);
  });

  it("for a hidden size that is not a multiple of the heads, with sizes that are", () => {
    // prettier-ignore
    const { code, errors } = simcse("init", "--tokenizer", path("tokenizer.json"), "--output", path("x"), "--hidden", "102", "--heads", "12");
    expect(code).toBe(2);
    expect(errors).toContain("hidden_size 102 is not a multiple of 12 heads; use 96 or 108");
  });

  it("for a maximal length beyond the model's positions", () => {
    const { code, errors } = train("--max-length", "50", "--force");
    expect(code).toBe(2);
    expect(errors).toContain("--max-length 50");
    expect(errors).toContain("takes at most 24 tokens");
  });
});

describe("simcse ends with exit code 1 and says what was expected", () => {
  it("of a corpus that does not exist", () => {
    const { code, errors } = train("--corpus", path("absent.txt"));
    expect(code).toBe(1);
    expect(errors).toContain(path("absent.txt"));
    expect(errors).toContain("cannot be read");
  });

  it("of a corpus without a line of text", () => {
    writeFileSync(path("empty.txt"), "\n \n");
    const { code, errors } = train("--corpus", path("empty.txt"));
    expect(code).toBe(1);
    expect(errors).toContain(path("empty.txt"));
  });

  it("of a model folder without weights", () => {
    mkdirSync(path("hollow"), { recursive: true });
    for (const name of ["config.json", "tokenizer.json"]) {
      writeFileSync(path("hollow", name), readFileSync(path("model", name)));
    }
    const { code, errors } = train("--model", path("hollow"));
    expect(code).toBe(1);
    expect(errors).toContain("model.safetensors does not exist; expected the weights of a model");
  });

  it("of weights whose shape is not the configuration's", () => {
    mkdirSync(path("odd"), { recursive: true });
    for (const name of ["tokenizer.json", "model.safetensors"]) {
      writeFileSync(path("odd", name), readFileSync(path("model", name)));
    }
    const config = JSON.parse(readFileSync(path("model", "config.json"), "utf8"));
    writeFileSync(
      path("odd", "config.json"),
      JSON.stringify({ ...config, intermediate_size: 128 }),
    );
    const { code, errors } = train("--model", path("odd"));
    expect(code).toBe(1);
    expect(errors).toMatch(
      /encoder\.layer\.0\.intermediate\.dense\.weight: expected \[128, 32\], found \[64, 32\] in/,
    );
  });

  it("of a loss that is not a number, naming the step, and keeps no such weights", () => {
    mkdirSync(path("nan"), { recursive: true });
    for (const name of ["config.json", "tokenizer.json"]) {
      writeFileSync(path("nan", name), readFileSync(path("model", name)));
    }
    const { tensors } = parseSafetensors(readFileSync(path("model", "model.safetensors")), "model");
    const broken = [...tensors].map(([name, tensor]) => {
      const data = tensor.data.slice();
      // Numbers, or the file would be refused; but not once they are multiplied.
      if (name === "embeddings.LayerNorm.bias") new Float32Array(data.buffer).fill(3e38);
      return [name, { ...tensor, data }] as const;
    });
    writeFileSync(path("nan", "model.safetensors"), serializeSafetensors(broken, {}));
    const { code, errors } = train("--model", path("nan"), "--output", path("nan-run"));
    expect(code).toBe(1);
    expect(errors).toMatch(
      /loss NaN with gradient norm NaN at step 1, .* resume from the last checkpoint/,
    );
  });

  it("of a disk that is full while a checkpoint is written", (test) => {
    const disk = path("disk");
    mkdirSync(disk);
    const mount = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]);
    needs(test, mount.status === 0, "mount of a tmpfs");
    try {
      const { code, errors } = train("--output", join(disk, "run"));
      expect(code).toBe(1);
      expect(errors).toMatch(
        /disk full: writing .* MB to .*checkpoint\.safetensors; free space and resume/,
      );
    } finally {
      spawnSync("umount", [disk]);
    }
  });
});

describe("simcse train", () => {
  it("cuts a sentence longer than the maximum, and reports how many it cut", () => {
    writeFileSync(path("long.txt"), [...SENTENCES, "word ".repeat(500)].join("\n"));
    const { code, errors } = train("--corpus", path("long.txt"), "--output", path("long-run"));
    expect(code, errors).toBe(0);
    expect(errors).toContain("1 cut to 24 tokens");
  });
});

describe("simcse eval", () => {
  it("prints one JSON array on stdout, an entry for each model", () => {
    writeFileSync(
      path("pairs.tsv"),
      `5\t${SENTENCES[0]}\t${SENTENCES[1]}\n0\t${SENTENCES[2]}\t${SENTENCES[4]}\n`,
    );
    const { code, out, errors } = simcse(
      "eval",
      "--model",
      path("model"),
      "--pairs",
      path("pairs.tsv"),
      "--json",
    );
    expect(code, errors).toBe(0);
    expect(JSON.parse(out)).toMatchObject([{ model: path("model"), pairs: 2 }]);
  });

  it("names the line of a pair that is none", () => {
    writeFileSync(path("broken.tsv"), "5\tonly one sentence\n");
    const { code, errors } = simcse(
      "eval",
      "--model",
      path("model"),
      "--pairs",
      path("broken.tsv"),
    );
    expect(code).toBe(1);
    expect(errors).toContain("broken.tsv:1");
  });
});
