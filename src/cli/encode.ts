import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { Option, type Command } from "commander";
import { UsageError } from "../errors.ts";
import { npy } from "../files/npy.ts";
import { copyRow, pgcopy } from "../files/pgcopy.ts";
import { vectorizeLine } from "../files/vectorize.ts";
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
  readonly format?: Format;
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

/** What a file of each name ends in, and what `--format` says. */
export const FORMATS = ["npy", "jsonl", "ndjson", "pgcopy"] as const;
type Format = (typeof FORMATS)[number];

/** Texts that are read together, their rows in the input, and their vectors. */
interface Window {
  readonly records: readonly TextRecord[];
  readonly rows: readonly number[];
  readonly vectors: readonly Row[];
}

/**
 * Encodes the texts of a file. A window of texts is written as it is done, to stdout or to the temporary file that becomes
 * the output; npy, whose header counts the rows, is written at the end.
 */
async function encode(input: string, options: EncodeCommandOptions): Promise<void> {
  const shard = options.shard === undefined ? undefined : parseShard(options.shard);
  const format = options.format ?? formatOf(options.output);
  expectPrecision(format, options.precision);
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
  async function* counted(): AsyncGenerator<Window> {
    for await (const window of windows(model, input, options, shard, seen)) {
      rows += window.records.length;
      progress.show(() => `${count(rows)} texts, ${duration((performance.now() - begun) / 1000)}`);
      yield window;
    }
    progress.end();
  }
  const bits = options.precision === "binary" || options.precision === "ubinary";
  const dimension = options.dimensions ?? model.dimension;
  const bytes = bytesOf(
    format,
    counted(),
    bits ? dimension / 8 : dimension,
    options.field ?? "text",
  );
  if (output === "-") for await (const chunk of bytes) await print(chunk);
  else await writeFileAtomic(output, bytes);
  if (shard && path) await finishShard(path, output, { shard, rows, total: seen.total, job });
  const seconds = (performance.now() - begun) / 1000;
  note(`${count(rows)} texts in ${duration(seconds)}, ${count(rows / seconds)} a second`);
}

/** What the name of an output says. */
export function formatOf(output: string): Format {
  return FORMATS.find((name) => output.endsWith(`.${name}`)) ?? "jsonl";
}

/** @throws UsageError for numbers that a database has no type for */
function expectPrecision(format: Format, precision: Precision): void {
  const allowed: readonly Precision[] =
    format === "ndjson" ? ["float32"] : format === "pgcopy" ? ["float32", "ubinary"] : PRECISIONS;
  if (allowed.includes(precision)) return;
  throw new UsageError(
    `--precision ${precision}: expected ${allowed.join(" or ")} for ${format}, as the database has no other`,
  );
}

/** A file of a format, in parts; `cols` matters where npy has no rows to tell, `field` has the text. */
function bytesOf(
  format: Format,
  encoded: AsyncIterable<Window>,
  cols: number,
  field: string,
): AsyncIterable<Uint8Array> {
  switch (format) {
    case "npy":
      return npyFile(encoded, cols);
    case "pgcopy":
      return pgcopy(
        each(encoded, (id, { text, fields }, vector) => {
          const { id: _, [field]: __, ...metadata } = fields;
          return copyRow({ id, text, metadata, embedding: vector as Float32Array | Uint8Array });
        }),
      );
    case "ndjson":
      return each(encoded, (id, { fields }, vector) => {
        const { id: _, ...metadata } = fields;
        return vectorizeLine(id, vector as Float32Array, metadata);
      });
    default:
      return each(encoded, (_, { fields }, vector) => {
        return `${JSON.stringify({ ...fields, embedding: Array.from(vector) })}\n`;
      });
  }
}

/** The bytes of every window, text by text; the id of a text is that in its fields, or else its row in the input. */
async function* each(
  encoded: AsyncIterable<Window>,
  write: (id: string, record: TextRecord, vector: Row) => string | Uint8Array,
): AsyncGenerator<Uint8Array> {
  for await (const { records, rows, vectors } of encoded) {
    const parts = records.map((record, i) => {
      const { id } = record.fields;
      const known = typeof id === "string" || typeof id === "number";
      const part = write(String(known ? id : rows[i]), record, vectors[i]!);
      return typeof part === "string" ? Buffer.from(part) : part;
    });
    yield Buffer.concat(parts);
  }
}

async function* npyFile(encoded: AsyncIterable<Window>, cols: number): AsyncGenerator<Uint8Array> {
  const all: Row[] = [];
  for await (const { vectors } of encoded) all.push(...vectors);
  yield* npy(all, all[0]?.length ?? cols);
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
): AsyncGenerator<Window> {
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
  let rows: number[] = [];
  const flush = async (): Promise<Window> => {
    const texts = records.map(({ text }) => text);
    const window = { records, rows, vectors: await model.encode<Precision>(texts, encodeOptions) };
    records = [];
    rows = [];
    return window;
  };
  for await (const record of readTexts(input, field)) {
    const row = seen.total++;
    if (shard && row % shard.count !== shard.index) continue;
    records.push(record);
    rows.push(row);
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
    .option(
      "--output <file>",
      ".npy; .jsonl with the input's fields; .ndjson for Vectorize; .pgcopy for pgvector; - is stdout",
      "-",
    )
    .addOption(
      new Option("--format <name>", "instead of what the output's name says").choices(FORMATS),
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
