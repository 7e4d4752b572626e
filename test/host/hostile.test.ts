/** Whatever a file holds, reading it ends in an error of the closed list, that names the file. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { ERRORS, FileError, FormatError, HubError, UsageError } from "../../src/errors.ts";
import { SETTINGS, VOCABULARY } from "../../src/files/json.ts";
import { parseSafetensors, serializeSafetensors } from "../../src/files/safetensors.ts";
import { parseTorch } from "../../src/files/torch.ts";
import { parseConfig } from "../../src/model/config.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openModel, readModelFolder } from "../../src/node/model-folder.ts";
import { readFileOr } from "../../src/node/files.ts";
import { openRows } from "../../src/node/rows.ts";
import { dequantizeModel, quantizeModel } from "../../src/quantize/quantize.ts";
import { FlatIndex } from "../../src/search/flat-index.ts";
import { tokenizerFromVocab } from "../../src/tokenizer/vocab.ts";
import {
  dice,
  type Hostile,
  hostileConfig,
  hostileGzip,
  hostileHeaders,
  hostileIds,
  hostileIndex,
  hostileJson,
  hostileModules,
  hostileParquet,
  hostileSafetensors,
  hostileTorch,
  muchJson,
  PATHS,
} from "./hostile.ts";
import { PARQUET } from "./parquet.ts";

const SEED = 20260905;
/** Milliseconds for one file. */
const SLOWEST = 3000;
/** Bytes that a file may take at its most: twice its own, and so many for what a process does anyway. */
const MEMORY = 64e6;
/** Bytes that all files together may leave behind. */
const MOST_LEFT = 400e6;

const root = mkdtempSync(join(tmpdir(), "simcse-hostile-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const golden = JSON.parse(readFileSync("test/golden/encoder.json", "utf8")) as {
  config: Record<string, unknown>;
};
const pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ...Array.from("abcdefghijklmnop")];
const tokenizer = tokenizerFromVocab(pieces.join("\n"), {}, "vocab.txt");
const weights = new Uint8Array(readFileSync("test/golden/encoder.safetensors"));
const config = { ...golden.config, simcse_edge: { pooling: "cls" } };
const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const FOLDER = {
  "config.json": json(config),
  "tokenizer.json": json(tokenizer),
  "model.safetensors": weights,
};

/** Without settings of ours. */
const FOREIGN = { ...FOLDER, "config.json": json(golden.config) };

let folders = 0;
function write(files: Readonly<Record<string, Uint8Array>>): string {
  const folder = join(root, `${folders++}`);
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), bytes);
  }
  return folder;
}

/** Opens the folder with one file in place of its own. */
const inFolder =
  (name: string, base: Readonly<Record<string, Uint8Array>> = FOLDER) =>
  async (bytes: Uint8Array): Promise<void> => {
    const folder = write({ ...base, [name]: bytes });
    try {
      await openModel(await readModelFolder(folder));
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

const rowsOf =
  (name: string) =>
  async (bytes: Uint8Array): Promise<void> => {
    const folder = write({ [name]: bytes });
    const columns = name.endsWith("parquet") ? ["sent0"] : undefined;
    const { rows } = await openRows(join(folder, name), columns);
    for await (const _ of rows);
  };

async function index(): Promise<Uint8Array> {
  const made = new FlatIndex(await compileKernels("edge"), 8);
  const vectors = pieces.map((_, i) => Float32Array.from({ length: 8 }, (__, j) => i + j));
  made.add(pieces, vectors);
  return made.serialize();
}

/** Errors of the closed list, or a size out of bounds that has a name; nothing that the engine says by itself. */
function isNamed(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof RangeError) return /^[^ ]+(: | \[)/.test(error.message);
  return (ERRORS as readonly string[]).includes(error.name);
}

async function int8(): Promise<Uint8Array> {
  const { tensors } = parseSafetensors(weights, "encoder.safetensors");
  const parsed = parseConfig(config, "config.json");
  return serializeSafetensors(quantizeModel(node, parsed, tensors, "encoder.safetensors").tensors);
}

const CLEAR = "/proc/self/clear_refs";

/** Forgets the most memory that this process had so far; only Linux can. */
function forgetPeak(): void {
  if (existsSync(CLEAR)) writeFileSync(CLEAR, "5");
}

/** The most bytes since `forgetPeak`; elsewhere than on Linux those of now. */
function peak(): number {
  if (!existsSync(CLEAR)) return process.memoryUsage.rss();
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]);
}

let count = 0;
/** @returns what did not end as it should */
async function survivors(
  files: Iterable<Hostile>,
  read: (bytes: Uint8Array) => unknown,
): Promise<string[]> {
  const wrong: string[] = [];
  for (const { what, bytes } of files) {
    count++;
    forgetPeak();
    const before = process.memoryUsage.rss();
    const begun = performance.now();
    try {
      await read(bytes);
      wrong.push(`${what}: was read`);
    } catch (error) {
      if (!isNamed(error)) wrong.push(`${what}: ${String(error)}`);
    }
    const took = performance.now() - begun;
    if (took > SLOWEST) wrong.push(`${what}: took ${took.toFixed(0)} ms`);
    const grew = peak() - before;
    if (grew > 2 * bytes.length + MEMORY) {
      const megabytes = [grew, bytes.length].map((n) => `${(n / 1e6).toFixed(1)} MB`);
      wrong.push(`${what}: took ${megabytes[0]} for a file of ${megabytes[1]}`);
    }
  }
  return wrong;
}

const before = process.memoryUsage.rss();
const edge = compileKernels("edge");
const node = await compileKernels("node");
const shards = (map: unknown): Uint8Array => json({ weight_map: map });
const SHARDS = "model.safetensors.index.json";
const SHARDED = {
  "config.json": FOLDER["config.json"],
  "tokenizer.json": FOLDER["tokenizer.json"],
};

it.each<[string, () => Promise<Iterable<Hostile>> | Iterable<Hostile>, (b: Uint8Array) => unknown]>(
  [
    ["safetensors", () => hostileSafetensors(weights, SEED), inFolder("model.safetensors")],
    [
      "int8 weights, which are made f32",
      async () => hostileSafetensors(await int8(), SEED),
      (bytes) => {
        const { tensors } = parseSafetensors(bytes, "int8.safetensors");
        const made = { ...parseConfig(config, "config.json"), dtype: "int8" } as const;
        return dequantizeModel(node, made, tensors, "int8.safetensors");
      },
    ],
    [
      "PyTorch's zip and pickle",
      () => hostileTorch(new Uint8Array(readFileSync("test/golden/torch.bin"))),
      (bytes) => parseTorch(bytes, "model.bin"),
    ],
    ["config.json", () => hostileJson(config, SEED), inFolder("config.json")],
    ["sizes of config.json", () => hostileConfig(config), inFolder("config.json")],
    ["tokenizer.json", () => hostileJson(tokenizer, SEED), inFolder("tokenizer.json")],
    ["ids of tokenizer.json", () => hostileIds(tokenizer), inFolder("tokenizer.json")],
    ["modules.json", hostileModules, inFolder("modules.json", FOREIGN)],
    [
      "lists of shards",
      () =>
        [...PATHS, "", ".", 7, null, {}].map((shard) => ({
          what: JSON.stringify(shard),
          bytes: shards({ a: shard }),
        })),
      inFolder(SHARDS, SHARDED),
    ],
    [
      "an index",
      async () => hostileIndex(await index(), SEED),
      async (bytes) => FlatIndex.parse(await edge, bytes, "an.index"),
    ],
    ...(Object.keys(PARQUET) as (keyof typeof PARQUET)[]).map(
      (codec) =>
        [
          `Parquet of ${codec}`,
          () => hostileParquet(Buffer.from(PARQUET[codec], "base64")),
          rowsOf("a.parquet"),
        ] as [string, () => Iterable<Hostile>, (bytes: Uint8Array) => unknown],
    ),
    ["compressed text", hostileGzip, rowsOf("a.txt.gz")],
    ["much JSON in config.json", () => muchJson(SETTINGS), inFolder("config.json")],
    ["much JSON in tokenizer.json", () => muchJson(VOCABULARY), inFolder("tokenizer.json")],
    ["much JSON in modules.json", () => muchJson(SETTINGS), inFolder("modules.json", FOREIGN)],
    ["a list of many shards", () => muchJson(SETTINGS), inFolder(SHARDS, SHARDED)],
    ["a header of much JSON", () => hostileHeaders(SETTINGS), inFolder("model.safetensors")],
  ],
)("every hostile file ends in a named error: %s", async (_, files, read) => {
  expect(await survivors(await files(), read)).toEqual([]);
});

it("files with random bytes changed are read or end in a named error", async () => {
  const roll = dice(SEED);
  const targets: [Uint8Array, (bytes: Uint8Array) => unknown][] = [
    [FOLDER["tokenizer.json"], inFolder("tokenizer.json")],
    [FOLDER["config.json"], inFolder("config.json")],
    [Buffer.from(PARQUET.zstd, "base64"), rowsOf("b.parquet")],
    [Buffer.from(PARQUET.snappy, "base64"), rowsOf("b.parquet")],
  ];
  const wrong: string[] = [];
  for (const [whole, read] of targets) {
    for (let i = 0; i < 250; i++) {
      const bytes = Uint8Array.from(whole);
      const at = roll(bytes.length);
      bytes[at] = roll(256);
      try {
        await read(bytes);
      } catch (error) {
        if (!isNamed(error)) wrong.push(`byte ${at} is ${bytes[at]}: ${String(error)}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

it("these were more than a thousand files, and took no memory that stays", () => {
  expect(count).toBeGreaterThan(1000);
  expect(process.memoryUsage.rss() - before).toBeLessThan(MOST_LEFT);
});

it.each([
  ["FormatError", FormatError],
  ["FileError", FileError],
  ["HubError", HubError],
  ["UsageError", UsageError],
] as const)("%s is on the list of errors, under its name", (name, kind) => {
  expect(ERRORS).toContain(name);
  expect(new kind("why")).toMatchObject({ name, message: "why" });
});

it("a file that is absent is a FileError that names it", async () => {
  const path = join(root, "nothing");
  await expect(readFileOr(path, "weights")).rejects.toThrow(FileError);
  await expect(readFileOr(path, "weights")).rejects.toThrow(
    `${path} does not exist; expected weights`,
  );
});
