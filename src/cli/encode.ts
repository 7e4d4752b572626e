import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { Option, type Command } from "commander";
import { UsageError } from "../errors.ts";
import { npy } from "../files/npy.ts";
import { sweepTemporary, writeFileAtomic } from "../node/files.ts";
import { readModelFolder } from "../node/model-folder.ts";
import { SimCSE } from "../node/index.ts";
import { doneShard, finishShard, parseShard, type Shard, shardPath } from "../node/shards.ts";
import { readTexts, type TextRecord } from "../node/text-files.ts";
import { type Precision, PRECISIONS } from "../quantize/embeddings.ts";
import { DEFAULT_THREADS, wholeNumber } from "./options.ts";
import { count, duration, note, Progress } from "./terminal.ts";

interface EncodeCommandOptions {
  readonly model: string;
  readonly output: string;
  readonly format?: "npy" | "jsonl";
  readonly field?: string;
  readonly shard?: string;
  readonly precision: Precision;
  readonly dimensions?: number;
  readonly prompt?: string;
  readonly maxLength?: number;
  readonly batchSize: number;
  readonly normalize: boolean;
  readonly threads: number;
}

type Row = Float32Array | Int8Array | Uint8Array;

/** Texts that are read and encoded together, for each thread. */
const WINDOW = 1024;

/** Encodes the texts of a file. jsonl to stdout is written as it comes; a file is written as a whole. */
async function encode(input: string, options: EncodeCommandOptions): Promise<void> {
  const shard = options.shard === undefined ? undefined : parseShard(options.shard);
  const format = options.format ?? (options.output.endsWith(".npy") ? "npy" : "jsonl");
  const path = shard && shardPath(options.output, shard);
  const output = path === undefined ? options.output : `${path}.${format}`;
  const job = path === undefined ? "" : await jobOf(options, format);
  if (path !== undefined) {
    if (options.output === "-") throw new UsageError("--shard: expected --output to be a folder");
    if (options.precision === "int8" || options.precision === "uint8") {
      throw new UsageError(`--precision ${options.precision} needs the ranges of all shards`);
    }
    await mkdir(options.output, { recursive: true });
    if (await doneShard(path, job)) return note(`${path}: is done`);
    await sweepTemporary(options.output);
  }
  const seen = { total: 0 };
  await using model = await SimCSE.load(options.model, { threads: options.threads });
  const begun = performance.now();
  const progress = new Progress();
  let rows = 0;
  const chunks: Uint8Array[] = [];
  const all: Row[] = [];
  const encoder = new TextEncoder();
  for await (const { records, vectors } of windows(model, input, options, shard, seen)) {
    rows += records.length;
    progress.show(() => `${count(rows)} texts, ${duration((performance.now() - begun) / 1000)}`);
    if (format === "npy") {
      all.push(...vectors);
      continue;
    }
    const lines = records.map(({ fields }, i) => {
      return `${JSON.stringify({ ...fields, embedding: Array.from(vectors[i]!) })}\n`;
    });
    const bytes = encoder.encode(lines.join(""));
    if (output === "-") await print(bytes);
    else chunks.push(bytes);
  }
  progress.end();
  if (format === "npy") {
    const bits = options.precision === "binary" || options.precision === "ubinary";
    const dimension = options.dimensions ?? model.dimension;
    chunks.push(...npy(all, all[0]?.length ?? (bits ? dimension / 8 : dimension)));
  }
  if (output !== "-") await writeFileAtomic(output, chunks);
  else for (const chunk of chunks) await print(chunk);
  if (shard && path) await finishShard(path, output, { shard, rows, total: seen.total, job });
  const seconds = (performance.now() - begun) / 1000;
  note(`${count(rows)} texts in ${duration(seconds)}, ${count(rows / seconds)} a second`);
}

/** A hash of whatever decides the bytes of a shard, but the input. */
async function jobOf(options: EncodeCommandOptions, format: string): Promise<string> {
  const { precision, dimensions, prompt, maxLength, normalize, field } = options;
  const { config, tensors } = await readModelFolder(options.model);
  const hash = createHash("sha256");
  const said = { format, precision, dimensions, prompt, maxLength, normalize, field, config };
  hash.update(JSON.stringify(said));
  for (const [name, { data }] of tensors) hash.update(name).update(data);
  return hash.digest("hex");
}

/**
 * Records and their vectors, a window at a time; of int8 and uint8 all at once, as their codes depend on the ranges of all.
 */
async function* windows(
  model: SimCSE,
  input: string,
  options: EncodeCommandOptions,
  shard: Shard | undefined,
  seen: { total: number },
): AsyncGenerator<{ records: TextRecord[]; vectors: Row[] }> {
  const { precision, dimensions, prompt, maxLength, batchSize, normalize, field } = options;
  const whole = precision === "int8" || precision === "uint8";
  const encodeOptions = {
    precision,
    batchSize,
    normalize,
    ...(dimensions !== undefined && { dimensions }),
    ...(prompt !== undefined && { prompt }),
    ...(maxLength !== undefined && { maxLength }),
  };
  let records: TextRecord[] = [];
  const flush = async (): Promise<{ records: TextRecord[]; vectors: Row[] }> => {
    const texts = records.map(({ text }) => text);
    const result = { records, vectors: await model.encode<Precision>(texts, encodeOptions) };
    records = [];
    return result;
  };
  for await (const record of readTexts(input, field)) {
    const row = seen.total++;
    if (shard && row % shard.count !== shard.index) continue;
    records.push(record);
    if (!whole && records.length === WINDOW * options.threads) yield await flush();
  }
  if (records.length > 0) yield await flush();
}

async function print(bytes: Uint8Array): Promise<void> {
  if (!process.stdout.write(bytes)) await once(process.stdout, "drain");
}

export function addEncode(program: Command): void {
  program
    .command("encode")
    .description("vectors of the texts of a file")
    .argument(
      "[input]",
      ".txt with a text a line, .jsonl, .csv, .tsv, .parquet, .gz or .zst of them; - is stdin",
      "-",
    )
    .requiredOption("--model <model>", "model folder, or its name on a hub: org/name[@revision]")
    .option("--output <file>", ".npy, or .jsonl with the input's fields; - is stdout", "-")
    .addOption(
      new Option("--format <name>", "instead of what the output's name says").choices([
        "npy",
        "jsonl",
      ]),
    )
    .option(
      "--field <name>",
      'the field or column of the text; of stdin, JSON lines (default: "text")',
    )
    .addOption(
      new Option("--precision <name>", "number format of the vectors")
        .choices(PRECISIONS)
        .default("float32"),
    )
    .option(
      "--shard <i/n>",
      "every n-th row from row i, into the folder --output; auto: as the scheduler says",
    )
    .option("--dimensions <n>", "keep the first components only", wholeNumber(1))
    .option("--prompt <text>", "put before every text")
    .option("--max-length <n>", "cut texts at so many tokens, specials included", wholeNumber(2))
    .option("--batch-size <n>", "most texts of a batch", wholeNumber(1), 64)
    .option("--no-normalize", "do not put vectors on the unit sphere")
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .action((input: string, options: EncodeCommandOptions) => encode(input, options));
}
