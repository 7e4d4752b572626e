/**
 * A bulk job in shards: any scheduler that starts the same command with different numbers runs it. Shard i of n takes the
 * rows i, i + n, i + 2n, … of the input. Its file is there once it is whole, and its manifest after that; a shard with a
 * manifest is done, so that a job which was killed is started again as it was, and ends with the same bytes.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { FormatError, UsageError } from "../errors.ts";
import { parseJson } from "../files/json.ts";
import { expectObject } from "../model/config.ts";
import { readFileOr, writeFileAtomic } from "./files.ts";

export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** What a shard was made of; all of it but `shard`, `rows` and `sha256` is the same in all shards of a job. */
export interface Manifest {
  readonly format: "simcse-edge shard 1";
  readonly shard: Shard;
  readonly rows: number;
  /** Rows of the input, of all shards. */
  readonly total: number;
  readonly sha256: string;
  /** Of the model and the options that shape a vector. */
  readonly job: string;
}

/** Variables of the environment by which schedulers tell the number of a task, the first one, and how many there are. */
const SCHEDULERS: readonly (readonly [index: string, first: string, count: string])[] = [
  ["JOB_COMPLETION_INDEX", "", "SIMCSE_SHARDS"], // Kubernetes, which does not say how many
  ["AWS_BATCH_JOB_ARRAY_INDEX", "", "AWS_BATCH_JOB_ARRAY_SIZE"],
  ["CLOUD_RUN_TASK_INDEX", "", "CLOUD_RUN_TASK_COUNT"],
  ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"],
  ["SLURM_PROCID", "", "SLURM_NTASKS"],
];

/**
 * `i/n` with i from 0, or `auto`: the task of Kubernetes, AWS Batch, Cloud Run or Slurm that this process is.
 * @throws UsageError for what is neither, and where no scheduler says it
 */
export function parseShard(text: string, env: NodeJS.ProcessEnv = process.env): Shard {
  let [, index, count] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  if (text === "auto") {
    const found = SCHEDULERS.find(([name]) => env[name]);
    if (!found) {
      const names = SCHEDULERS.map(([name]) => name).join(", ");
      throw new UsageError(`--shard auto: expected one of ${names} to be set; write --shard i/n`);
    }
    const [name, first, size] = found;
    index = String(Number(env[name]) - Number(env[first] ?? 0));
    count = env[size] || env["SIMCSE_SHARDS"];
    if (!count) {
      throw new UsageError(`--shard auto: ${name} is set, but not ${size}; set SIMCSE_SHARDS`);
    }
  }
  const shard = { index: Number(index), count: Number(count) };
  if (Number.isInteger(shard.count) && shard.index >= 0 && shard.index < shard.count) return shard;
  throw new UsageError(`--shard ${text}: expected i/n with i from 0 to n - 1, or auto`);
}

export function shardPath(output: string, { index, count }: Shard): string {
  const pad = (n: number): string => String(n).padStart(5, "0");
  return join(output, `shard-${pad(index)}-of-${pad(count)}`);
}

/**
 * The manifest of a shard, if it is done by the same job.
 * @throws FormatError for one of another job or one that is none
 */
export async function doneShard(path: string, job: string): Promise<Manifest | undefined> {
  const bytes = await readFile(`${path}.json`).catch(() => undefined);
  if (!bytes) return undefined;
  const manifest = parseManifest(bytes, `${path}.json`);
  if (manifest.job === job) return manifest;
  throw new FormatError(
    `${path}.json: made by another model or other options; choose another output folder`,
  );
}

export async function finishShard(
  path: string,
  data: string,
  manifest: Omit<Manifest, "format" | "sha256">,
): Promise<void> {
  const sha256 = createHash("sha256")
    .update(await readFile(data))
    .digest("hex");
  const json = { format: "simcse-edge shard 1", ...manifest, sha256 };
  await writeFileAtomic(`${path}.json`, new TextEncoder().encode(`${JSON.stringify(json)}\n`));
}

/**
 * The files of all shards of a folder, in their order, once their manifests say that they are one job without a gap and
 * their bytes are those that were written.
 * @throws FormatError naming the shard that is absent, of another job, or damaged
 */
export async function verifyShards(
  folder: string,
  count: number,
  extension: string,
): Promise<{ files: Buffer[]; manifests: Manifest[] }> {
  const manifests: Manifest[] = [];
  const files: Buffer[] = [];
  for (let index = 0; index < count; index++) {
    const path = shardPath(folder, { index, count });
    const manifest = parseManifest(
      await readFileOr(`${path}.json`, `shard ${index} of ${count}; run it`),
      `${path}.json`,
    );
    const first = manifests[0] ?? manifest;
    if (manifest.job !== first.job || manifest.total !== first.total) {
      throw new FormatError(`${path}.json: of another job than shard 0; run it again`);
    }
    const expected = Math.ceil((manifest.total - index) / count);
    if (manifest.rows !== expected || manifest.shard.index !== index) {
      throw new FormatError(`${path}.json: expected ${expected} rows, found ${manifest.rows}`);
    }
    const file = await readFileOr(path + extension, "the vectors of a shard");
    if (createHash("sha256").update(file).digest("hex") !== manifest.sha256) {
      throw new FormatError(
        `${basename(path + extension)}: damaged: not the sha256 of its manifest; remove the manifest and run it again`,
      );
    }
    manifests.push(manifest);
    files.push(file);
  }
  return { files, manifests };
}

function parseManifest(bytes: Uint8Array, name: string): Manifest {
  const fields = expectObject(parseJson(bytes, name, "a manifest"), name, "a manifest");
  const { format, rows, total, shard } = fields as Partial<Manifest>;
  const whole = [rows, total, shard?.index, shard?.count].every((n) => Number.isSafeInteger(n));
  if (format === "simcse-edge shard 1" && whole) return fields as unknown as Manifest;
  throw new FormatError(`${name}: expected a manifest of a shard; remove it and run it again`);
}
