import type { Command } from "commander";
import { FormatError } from "../errors.ts";
import { copyRows, pgcopy } from "../files/pgcopy.ts";
import { writeFileAtomic } from "../node/files.ts";
import { verifyShards } from "../node/shards.ts";
import { formatOf } from "./encode.ts";
import { wholeNumber } from "./options.ts";
import { count, note } from "./terminal.ts";

/** Verifies the shards of a job, and puts their rows back into the order of the input. */
async function merge(
  folder: string,
  output: string,
  { shards }: { shards: number },
): Promise<void> {
  const format = formatOf(output);
  const { files, manifests } = await verifyShards(folder, shards, `.${format}`);
  const { total } = manifests[0]!;
  const parts = files.map((file, i) => {
    if (format === "npy") return npyRows(file, manifests[i]!.rows);
    return format === "pgcopy" ? copyRows(file, `${folder}: shard ${i}`) : lines(file);
  });
  function* rows(): Generator<Uint8Array> {
    for (let row = 0; row < total; row++) {
      const bytes = parts[row % shards]![Math.floor(row / shards)];
      if (!bytes) throw new FormatError(`${folder}: shard ${row % shards} has no row ${row}`);
      yield bytes;
    }
  }
  function* npyFile(): Generator<Uint8Array> {
    yield npyHeader(files[0]!, total);
    yield* rows();
  }
  const whole = { npy: npyFile, pgcopy: () => pgcopy(rows()), jsonl: rows, ndjson: rows };
  await writeFileAtomic(output, whole[format]());
  note(`${output}: ${count(total)} rows of ${shards} shards`);
}

function dataStart(file: Buffer): number {
  return 10 + file.readUInt16LE(8);
}

/** The header of the first shard, with the rows of all. */
function npyHeader(file: Buffer, total: number): Uint8Array {
  const text = file.toString("latin1", 0, dataStart(file));
  const { length } = text;
  const changed = text.trimEnd().replace(/'shape': \(\d+,/, `'shape': (${total},`);
  return Buffer.from(`${changed.padEnd(length - 1)}\n`, "latin1");
}

function npyRows(file: Buffer, rows: number): Uint8Array[] {
  const data = file.subarray(dataStart(file));
  const size = data.length / rows;
  return Array.from({ length: rows }, (_, i) => data.subarray(i * size, (i + 1) * size));
}

function lines(file: Buffer): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < file.length;) {
    const end = file.indexOf(10, at) + 1;
    found.push(file.subarray(at, end));
    at = end;
  }
  return found;
}

export function addMerge(program: Command): void {
  program
    .command("merge")
    .description(
      "the shards of `simcse encode --shard` as one file, verified, in the input's order",
    )
    .argument("<folder>", "--output of the shards")
    .argument("<output>", ".npy, .jsonl, .ndjson or .pgcopy, as the shards are")
    .requiredOption("--shards <n>", "how many there are", wholeNumber(1))
    .action((folder: string, output: string, options: { shards: number }) =>
      merge(folder, output, options),
    );
}
