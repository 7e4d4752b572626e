import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { npy } from "../../src/files/npy.ts";
import { openModel, readModelFolder, type TextModel } from "../../src/node/model-folder.ts";
import { readLines, readTexts } from "../../src/node/text-files.ts";
import {
  calibrate,
  type Precision,
  quantizeEmbeddings,
  truncate,
} from "../../src/quantize/embeddings.ts";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";
import { needs } from "../needs.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-encode-"));
const path = (name: string): string => join(directory, name);
let model: TextModel;

beforeAll(async () => {
  await writeTinyModel(path("model"), "int8");
  model = await openModel(await readModelFolder(path("model")));
  writeFileSync(path("texts.txt"), `${SENTENCES.join("\n")}\n`);
});
afterAll(() => rmSync(directory, { recursive: true }));

function simcse(
  args: readonly string[],
  input = "",
): { code: number | null; out: Buffer; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
    input,
  });
  return { code: status, out: stdout, errors: stderr.toString() };
}

/** Runs a command that must succeed, and gives what it prints. */
function output(args: readonly string[], input?: string): string {
  const { code, out, errors } = simcse(args, input);
  expect(code, errors).toBe(0);
  return out.toString();
}

const lines = (text: string): Record<string, unknown>[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

/** The matrix of a .npy file, read by the letter of its format. */
function readNpy(bytes: Uint8Array): { descr: string; shape: number[]; data: Uint8Array } {
  expect([...bytes.subarray(0, 8)]).toEqual([0x93, ...Buffer.from("NUMPY"), 1, 0]);
  const length = bytes[8]! + 256 * bytes[9]!;
  expect((10 + length) % 64).toBe(0);
  const header = Buffer.from(bytes.subarray(10, 10 + length)).toString("latin1");
  expect(header.at(-1)).toBe("\n");
  const [, descr, rows, cols] =
    /^\{'descr': '(.*)', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n$/.exec(header)!;
  return {
    descr: descr!,
    shape: [Number(rows), Number(cols)],
    data: Uint8Array.from(bytes.subarray(10 + length)),
  };
}

describe("quantizeEmbeddings", () => {
  const rows = [
    [0.1, -0.2, 0.3, 0.0, -0.5, 0.25, 1.0, -1.0],
    [0.4, 0.1, -0.3, 0.0, 0.5, -0.25, -1.0, 0.5],
    [-0.1, 0.2, 0.05, 0.0, 0.0, 0.125, 0.5, 0.75],
  ].map((row) => Float32Array.from(row));

  // What sentence-transformers 5 computes with numpy 2.
  it.each([
    [
      "uint8",
      [
        [101, 0, 255, 0, 0, 254, 254, 0],
        [254, 191, 0, 0, 254, 0, 0, 218],
        [0, 255, 148, 0, 127, 191, 191, 255],
      ],
    ],
    [
      "int8",
      [
        [-26, -128, 127, 0, -128, 126, 126, -128],
        [126, 63, -128, 0, 126, -128, -128, 90],
        [-128, 127, 20, 0, 0, 63, 63, 127],
      ],
    ],
    ["ubinary", [[166], [201], [103]]],
    ["binary", [[38], [73], [-25]]],
    ["float32", rows.map((row) => [...row])],
  ] as const)("%s has the codes of sentence-transformers", (precision, expected) => {
    const found = quantizeEmbeddings(rows, precision);
    expect(found.map((row) => [...row])).toEqual(expected);
    const type = {
      uint8: Uint8Array,
      int8: Int8Array,
      ubinary: Uint8Array,
      binary: Int8Array,
      float32: Float32Array,
    };
    expect(found[0]).toBeInstanceOf(type[precision]);
  });

  it("takes ranges, and clamps what is outside of them", () => {
    const ranges = calibrate(rows);
    expect(quantizeEmbeddings([rows[0]!], "int8", ranges)).toEqual([
      quantizeEmbeddings(rows, "int8")[0],
    ]);
    const far = Float32Array.from({ length: 8 }, (_, i) => (i % 2 === 0 ? 9 : -9));
    expect([...quantizeEmbeddings([far], "uint8", ranges)[0]!]).toEqual([
      255, 0, 255, 0, 255, 0, 255, 0,
    ]);
  });

  it.each<
    [string, Precision, Float32Array[], { min: number[]; max: number[] } | undefined, string]
  >([
    [
      "one vector without ranges",
      "int8",
      [rows[0]!],
      undefined,
      'precision "int8": one vector alone has no range',
    ],
    [
      "ranges of another size",
      "uint8",
      rows,
      { min: [0], max: [1] },
      "ranges: expected 8 components, found 1 and 1",
    ],
    [
      "bits that fill no bytes",
      "binary",
      [new Float32Array(12)],
      undefined,
      "12 dimensions do not fill whole bytes; use a multiple of 8",
    ],
  ])("refuses %s", (_, precision, vectors, ranges, message) => {
    expect(() => quantizeEmbeddings(vectors, precision, ranges)).toThrow(message);
  });

  it("calibrate needs a sample, and truncate dimensions that there are", () => {
    expect(() => calibrate([])).toThrow("calibrate: expected at least one vector, found none");
    for (const dimensions of [0, 9, 1.5]) {
      expect(() => truncate(rows[0]!, dimensions)).toThrow(
        `dimensions ${dimensions}: expected a whole number from 1 to 8`,
      );
    }
  });
});

describe("npy", () => {
  it.each([
    ["<f4", Float32Array.of(1, 2, 3)],
    ["|i1", Int8Array.of(-1, 2, 3)],
    ["|u1", Uint8Array.of(255, 2, 3)],
  ])("writes %s", (descr, row) => {
    const file = Buffer.concat([...npy([row, row], 3)]);
    const { data, ...rest } = readNpy(file);
    expect(rest).toEqual({ descr, shape: [2, 3] });
    expect(data).toEqual(
      new Uint8Array(Buffer.concat([Buffer.from(row.buffer), Buffer.from(row.buffer)])),
    );
  });

  it("writes a matrix without rows", () => {
    expect(readNpy(Buffer.concat([...npy([], 64)]))).toMatchObject({
      descr: "<f4",
      shape: [0, 64],
    });
  });

  it("is read by numpy", (test) => {
    writeFileSync(path("small.npy"), Buffer.concat([...npy([Float32Array.of(1, -2.5)], 2)]));
    const script = `import numpy; print(numpy.load("${path("small.npy")}").tolist())`;
    const { status, stdout } = spawnSync("python3", ["-c", script], { encoding: "utf8" });
    needs(test, status === 0, "python3 with numpy");
    expect(stdout).toBe("[[1.0, -2.5]]\n");
  });
});

describe("readLines", () => {
  it("keeps blank lines, and drops ends of lines and a byte-order mark, wherever chunks end", async () => {
    const long = "ä".repeat(100_000);
    writeFileSync(path("odd.txt"), `\ufeffone\r\n\n${long}\n\u2028 three\nlast`);
    const found: string[] = [];
    for await (const line of readLines(path("odd.txt"))) found.push(line);
    expect(found).toEqual(["one", "", long, "\u2028 three", "last"]);
  });

  it("refuses what is not UTF-8", async () => {
    writeFileSync(path("latin1.txt"), Buffer.from([0x61, 0xe4, 0x62]));
    await expect(readLines(path("latin1.txt")).next()).rejects.toThrow(
      /latin1\.txt:1: found bytes that are not UTF-8, .*; convert the file$/,
    );
  });
});

describe("readTexts", () => {
  it.each([
    ["plain.txt", "a cat\n\na dog", undefined, ["a cat", "", "a dog"]],
    ["plain.md", "a cat", undefined, ["a cat"]],
    ["lines.jsonl", `{"text":"a cat","id":1}\n`, undefined, ["a cat"]],
    ["named.ndjson", `{"body":"a cat"}\n`, "body", ["a cat"]],
    ["table.csv", `id,text\n1,"a cat, asleep"\n`, undefined, ["a cat, asleep"]],
    ["table.tsv", "body\tid\na cat\t1\n", "body", ["a cat"]],
  ])("reads %s, also compressed", async (name, contents, field, expected) => {
    for (const [file, bytes] of [
      [path(name), contents],
      [path(`${name}.gz`), gzipSync(contents)],
    ] as const) {
      writeFileSync(file, bytes);
      const texts: string[] = [];
      for await (const { text } of readTexts(file, field)) texts.push(text);
      expect(texts).toEqual(expected);
    }
  });
});

describe("simcse encode", () => {
  it("writes the vectors of lines to .npy, in their order", () => {
    const { code, errors } = simcse([
      "encode",
      path("texts.txt"),
      "--model",
      path("model"),
      "--output",
      path("v.npy"),
    ]);
    expect(code, errors).toBe(0);
    expect(errors).toMatch(/7 texts in 0:0\d, .* a second/);
    const { descr, shape, data } = readNpy(readFileSync(path("v.npy")));
    expect({ descr, shape }).toEqual({ descr: "<f4", shape: [7, 64] });
    expect(new Float32Array(data.buffer)).toEqual(
      Float32Array.from(model.encode(SENTENCES).flatMap((row) => [...row])),
    );
  });

  it("streams stdin to stdout as JSON lines, with the fields of the input", () => {
    const records = SENTENCES.map((text, i) => ({ id: `s${i}`, sentence: text }));
    const input = records.map((record) => JSON.stringify(record)).join("\n\n");
    const rows = lines(output(["encode", "--model", path("model"), "--field", "sentence"], input));
    const expected = model.encode(SENTENCES);
    expect(rows).toEqual(records.map((record, i) => ({ ...record, embedding: [...expected[i]!] })));
  });

  it("obeys precision, dimensions, prompt and normalization", () => {
    const encode = (...more: string[]): unknown[] =>
      lines(output(["encode", "--model", path("model"), ...more], "cat\ndog\n")).map(
        (row) => row["embedding"],
      );
    const whole = model.encode(["cat", "dog"]);
    expect(encode("--precision", "ubinary")).toEqual(
      quantizeEmbeddings(whole, "ubinary").map((row) => [...row]),
    );
    expect(encode("--precision", "int8")).toEqual(
      quantizeEmbeddings(whole, "int8").map((row) => [...row]),
    );
    expect(encode("--dimensions", "8")).toEqual(whole.map((row) => [...truncate(row, 8)]));
    expect(encode("--prompt", "the ")).toEqual(
      model.encode(["the cat", "the dog"]).map((row) => [...row]),
    );
    expect(Math.hypot(...(encode("--no-normalize")[0] as number[]))).not.toBeCloseTo(1, 1);
  });

  it("gives nothing of nothing, and still the shape", () => {
    expect(output(["encode", "--model", path("model")])).toBe("");
    const args = ["encode", "--model", path("model"), "--format", "npy", "--precision", "binary"];
    const { out } = simcse(args);
    expect(readNpy(out).shape).toEqual([0, 8]);
  });

  it("names the line that is no JSON object with the field", () => {
    writeFileSync(path("broken.jsonl"), `{"text": "fine"}\n{"txt": "a"}\n`);
    const { code, errors } = simcse(["encode", path("broken.jsonl"), "--model", path("model")]);
    expect(code).toBe(1);
    expect(errors).toContain(
      'broken.jsonl:2: expected a JSON object with a string "text", found {"txt": "a"}; --field names another',
    );
  });
});

describe("simcse similarity", () => {
  it("prints the cosine", () => {
    expect(output(["similarity", SENTENCES[0]!, SENTENCES[0]!, "--model", path("model")])).toBe(
      "1.0000\n",
    );
  });
});

describe("simcse index", () => {
  it("builds, searches, adds and removes", () => {
    const index = path("texts.index");
    const search = (...more: string[]): string =>
      output(["index", "search", index, SENTENCES[4]!, "--model", path("model"), ...more]);
    output([
      "index",
      "build",
      path("texts.txt"),
      index,
      "--model",
      path("model"),
      "--precision",
      "int8",
    ]);
    expect(search("--top-k", "1")).toMatch(/^(1\.00\d|0\.99\d) {2}4 {2}delete a folder/);

    const added = `{"id": "new", "text": ${JSON.stringify(SENTENCES[4])}, "page": 3}\n`;
    writeFileSync(path("more.jsonl"), added);
    output(["index", "add", index, path("more.jsonl"), "--model", path("model")]);
    output(["index", "remove", index, "4", "0"]);
    const [best, ...others] = lines(search("--json", "--top-k", "50"));
    expect(best).toMatchObject({ id: "new", text: SENTENCES[4], metadata: { page: 3 } });
    expect(new Set(others.map(({ id }) => id))).toEqual(new Set([1, 2, 3, 5, 6]));

    const { code, errors } = simcse(["index", "remove", index, "4"]);
    expect(code).toBe(2);
    expect(errors).toContain("texts.index has no text of the id 4");
  });
});

describe("simcse inspect", () => {
  it("prints parameters and memory by lifetime", () => {
    const text = output(["inspect", path("model"), "--threads", "2"]);
    expect(text).toContain("int8, 2 layers of 64, 4 heads");
    expect(text).toMatch(/weights: as long as the model +0\.\d\d/);
    expect(text).toMatch(/scratch: one kernel, each thread/);
    expect(text).toMatch(/MB of linear memory for 2 threads/);
    const json = JSON.parse(output(["inspect", path("model"), "--threads", "2", "--json"])) as {
      bytes: number;
      memory: { bytes: number }[];
    };
    const [weights, ...buffers] = json.memory.map(({ bytes }) => bytes) as [number, ...number[]];
    const planned = weights + 2 * buffers.reduce((sum, bytes) => sum + bytes, 0);
    expect(json.bytes).toBeGreaterThan(planned);
    expect(json.bytes).toBeLessThan(planned + 2 * 65536 + 100 * 64);
  });
});

describe("simcse --version", () => {
  it("prints the version of the package", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(output(["--version"])).toBe(`${version}\n`);
  });
});

describe("simcse serve", () => {
  it("answers as the Worker does, and ends on SIGTERM", async () => {
    output(["index", "build", path("texts.txt"), path("serve.index"), "--model", path("model")]);
    // prettier-ignore
    const args = ["serve", "--model", path("model"), "--index", path("serve.index"), "--port", "0", "--threads", "2", "--public"];
    const child = spawn(process.execPath, ["src/cli/main.ts", ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    try {
      const [first] = (await once(child.stderr, "data")) as [Buffer];
      const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(first.toString())!;
      const post = async (route: string, body: object): Promise<unknown> => {
        const headers = { "content-type": "application/json" };
        const response = await fetch(url + route, {
          method: "POST",
          headers,
          body: JSON.stringify(body),
        });
        return response.json();
      };
      const answers = await Promise.all(
        SENTENCES.map((input) => post("/v1/embeddings", { input, model: "simcse-edge" })),
      );
      const expected = model.encode(SENTENCES);
      answers.forEach((answer, i) => {
        const { data } = answer as { data: [{ embedding: number[] }] };
        expect(Float32Array.from(data[0].embedding)).toEqual(expected[i]);
      });
      const { results } = (await post("/search", { query: SENTENCES[2], top_k: 1 })) as {
        results: object[];
      };
      expect(results).toMatchObject([{ id: 2, text: SENTENCES[2] }]);
      expect(await (await fetch(`${url}/info`)).json()).toMatchObject({ sentences: 7 });
      const page = await fetch(`${url}/`);
      expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
      expect(await page.text()).toContain("<html");
      expect((await fetch(`${url}/search.js`)).status).toBe(200);
      expect((await fetch(`${url}/package.json`)).status).toBe(404);
    } finally {
      child.kill("SIGTERM");
    }
    expect((await once(child, "exit"))[0]).toBe(0);
  });

  it("names a port that is taken", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const { code, errors } = simcse(["serve", "--model", path("model"), "--port", String(port)]);
    expect(code).toBe(1);
    expect(errors).toContain(`port ${port} cannot be used; choose another`);
    server.close();
  });
});
