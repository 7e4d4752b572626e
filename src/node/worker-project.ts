/** Worker projects: folders that `wrangler deploy` takes as they are. */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { basename, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { type ModelConfig, serializeConfig } from "../model/config.ts";
import { buildImage } from "../model/image.ts";
import { planEncoders } from "../model/sentence-encoder.ts";
import {
  type Manifest,
  MANIFEST_FORMAT,
  SHARD_BYTES,
  type StoredFile,
} from "../../worker/weights.ts";
import { exists, writeFileAtomic } from "./files.ts";
import type { ModelFolder } from "./model-folder.ts";
import { pageFiles, readPageFile } from "./page.ts";

/** Where the Worker has the weights from: its static assets, an R2 bucket, or modules of its script. */
export const STORES = ["assets", "r2", "module"] as const;
export type Store = (typeof STORES)[number];

/** Where the Worker keeps documents: in a Durable Object's SQLite, or in Vectorize. */
export const DOCUMENT_STORES = ["durable-object", "vectorize"] as const;
export type Documents = (typeof DOCUMENT_STORES)[number];

/** What a Worker serves. */
export interface WorkerContents {
  /** A model, whatever library wrote it. */
  readonly model: Pick<ModelFolder, "config" | "tokenizerJson" | "tensors" | "weightsFile">;
  /** What clients call the model; "simcse-edge" unless told. Its lower-case form names the Worker. */
  readonly name?: string;
  /** Sentences for the search page, as the `serialize` of their index gave them. */
  readonly index?: Uint8Array;
  /** Default "assets". */
  readonly store?: Store;
  /** Name of the R2 bucket, where the store is one. */
  readonly bucket?: string;
  /** Absent: it keeps none. A Vectorize index has the name of the Worker. */
  readonly documents?: Documents;
  /** Whether clients may have the files of the model, to compute vectors themselves. */
  readonly shareModel?: boolean;
}

/** What was written. */
export interface WorkerProject {
  readonly directory: string;
  readonly manifest: Manifest;
  /** The folder of the manifest and the files that it names. */
  readonly modelFolder: string;
  /** Most memory of the index of a Durable Object's documents, if it keeps some. */
  readonly indexBytes?: number;
}

/** The age of the runtime's behaviour, which every workerd since then has, and no Node compatibility: the Worker needs none. */
export const COMPATIBILITY = {
  compatibilityDate: "2026-09-01",
  compatibilityFlags: ["no_nodejs_compat", "no_nodejs_compat_v2"],
} as const;
/** First line of a `wrangler.jsonc` that is ours to write again; without it the file is its owner's. */
const GENERATED =
  "// Written by simcse, and written again with the model. Remove this line to keep your changes.";

// Node runs the sources as they are, and the published package as compiled: the entries have the extension of this file.
const EXTENSION = import.meta.url.slice(-3);
const ENTRY = new URL(`../../worker/index${EXTENSION}`, import.meta.url);
const LIBRARY = new URL(`../../worker/worker${EXTENSION}`, import.meta.url);

/**
 * Writes a Worker project into a folder: `wrangler.jsonc`, the page's files in `public/`, and the files of the model, which
 * are named by their contents. The manifest that names them is written last, and what it does not name is removed after that.
 * What else is in the folder stays.
 * @throws RangeError for documents that have no room beside the model
 */
export async function writeWorkerProject(
  directory: string,
  contents: WorkerContents,
): Promise<WorkerProject> {
  const { model, name = "simcse-edge", index, store = "assets", documents } = contents;
  const indexBytes = documents === "durable-object" ? indexBytesBeside(model.config) : undefined;
  const publicFolder = join(directory, "public");
  const modelFolder = store === "assets" ? join(publicFolder, "model") : join(directory, "model");
  await mkdir(modelFolder, { recursive: true });
  await mkdir(publicFolder, { recursive: true });
  // Of a project that had its weights elsewhere.
  if (store !== "assets") await rm(join(publicFolder, "model"), { recursive: true, force: true });
  for (const file of await pageFiles()) {
    await writeFileAtomic(join(publicFolder, file), await readPageFile(file));
  }

  const { config, tensors, weightsFile, tokenizerJson } = model;
  const image = buildImage(config, tensors, weightsFile);
  const files = {
    tokenizer: await writeStored(modelFolder, json(tokenizerJson)),
    weights: { ...(await writeStored(modelFolder, image.bytes)), tensors: image.tensors },
    ...(index && { index: await writeStored(modelFolder, index) }),
  };
  const described = { name, config: serializeConfig(config) as Manifest["config"], ...files };
  const version = sha256(json(described)).slice(0, 16);
  const manifest: Manifest = { format: MANIFEST_FORMAT, version, ...described };
  await writeFileAtomic(join(modelFolder, "manifest.json"), json(manifest));
  const named = new Set(shardsOf(manifest).map(({ path }) => path)).add("manifest.json");
  for (const file of await readdir(modelFolder)) {
    if (!named.has(file)) await rm(join(modelFolder, file), { recursive: true });
  }

  const configFile = join(directory, "wrangler.jsonc");
  if (!(await exists(configFile)) || (await readFile(configFile, "utf8")).startsWith(GENERATED)) {
    if (store === "module") await writeModules(directory, manifest);
    const main = store === "module" ? "index.js" : relativePath(directory, ENTRY);
    const configuration = wranglerConfiguration(main, {
      ...contents,
      name,
      store,
      ...(indexBytes && { indexBytes }),
    });
    await writeText(configFile, `${GENERATED}\n${JSON.stringify(configuration, null, 2)}\n`);
  }
  return { directory, manifest, modelFolder, ...(indexBytes && { indexBytes }) };
}

/**
 * Most memory of an index of documents. The object may be in the same isolate as the model, so the two share the memory of one:
 * the index gets what the model's and a heap leave of it, up to 200,000 documents of 384 dimensions.
 */
function indexBytesBeside(config: ModelConfig): number {
  const most = MOST_MEMORY - linearBytes(config) - HEAP_BYTES;
  if (most >= LEAST_INDEX_BYTES) return Math.min(MOST_INDEX_BYTES, most);
  const room = `${(most / 1e6).toFixed(1)} MB of memory are left for an index of documents`;
  throw new RangeError(
    `${room} beside this model; keep them in Vectorize, or choose a smaller one`,
  );
}

/** Bytes of memory that a Worker may come to; Cloudflare ends one past 128 MiB. */
export const MOST_MEMORY = 110_000_000;
/** What of it is kept for the heap of a Worker with documents. */
const HEAP_BYTES = 24_000_000;
const MOST_INDEX_BYTES = 81_000_000;
const LEAST_INDEX_BYTES = 1_000_000;

/** Bytes of the linear memory of a model: its weights and activations. */
export function linearBytes(config: ModelConfig): number {
  return planEncoders(config, 1).arena.pages * 65536;
}

/** Requests a minute of one key, or of one address where there are none. */
const RATE = 1000;

/** What `wrangler` reads, for a Worker whose entry is the module `main`. */
export function wranglerConfiguration(
  main: string,
  {
    name = "",
    store,
    bucket = workerName(name),
    documents,
    shareModel = false,
    indexBytes,
  }: Pick<WorkerContents, "name" | "store" | "bucket" | "documents" | "shareModel"> &
    Pick<WorkerProject, "indexBytes">,
): object {
  const vars = {
    ...(documents === "durable-object" && { MAX_INDEX_BYTES: String(indexBytes) }),
    ...(shareModel && { SHARE_MODEL: "true" }),
  };
  return {
    name: workerName(name),
    main,
    compatibility_date: COMPATIBILITY.compatibilityDate,
    compatibility_flags: COMPATIBILITY.compatibilityFlags,
    // The Worker first, so that nothing is public but what it answers with.
    assets: { directory: "public", binding: "ASSETS", run_worker_first: true },
    ...(store === "r2" && { r2_buckets: [{ binding: "WEIGHTS", bucket_name: bucket }] }),
    ...(documents === "durable-object" && {
      durable_objects: { bindings: [{ name: "DOCUMENTS", class_name: "Documents" }] },
      migrations: [{ tag: "v1", new_sqlite_classes: ["Documents"] }],
    }),
    ...(documents === "vectorize" && {
      vectorize: [{ binding: "VECTORIZE", index_name: workerName(name) }],
    }),
    ...(Object.keys(vars).length > 0 && { vars }),
    ratelimits: [
      {
        name: "RATE_LIMITER",
        // Workers of an account that share a number share the count.
        namespace_id: String(Number.parseInt(sha256(json(workerName(name))).slice(0, 7), 16)),
        simple: { limit: RATE, period: 60 },
      },
    ],
    observability: { enabled: true },
  };
}

/** The entry of a Worker whose script has the weights in it. */
async function writeModules(directory: string, manifest: Manifest): Promise<void> {
  const shards = shardsOf(manifest);
  const lines = [
    `import { createWorker, fromModules } from "${relativePath(directory, LIBRARY)}";`,
    `export { Documents } from "${relativePath(directory, LIBRARY)}";`,
    `import manifest from "./model/manifest.json";`,
    ...shards.map(({ path }, i) => `import file${i} from "./model/${path}";`),
    ``,
    `const files = {`,
    `  "/model/manifest.json": new TextEncoder().encode(JSON.stringify(manifest)).buffer,`,
    ...shards.map(({ path }, i) => `  "/model/${path}": file${i},`),
    `};`,
    `export default createWorker(fromModules(files));`,
  ];
  await writeText(join(directory, "index.js"), `${lines.join("\n")}\n`);
}

/** The shards of all files of a model, each once. */
export function shardsOf({ tokenizer, weights, index }: Manifest): StoredFile["shards"] {
  const all = [tokenizer, weights, ...(index ? [index] : [])].flatMap(({ shards }) => shards);
  return [...new Map(all.map((shard) => [shard.path, shard])).values()];
}

/** The names of all files of a model; the manifest last, so that it never names what is not there yet. */
export function modelFiles(manifest: Manifest): string[] {
  return [...shardsOf(manifest).map(({ path }) => path), "manifest.json"];
}

/** Writes a file in shards, named by their contents. */
async function writeStored(folder: string, bytes: Uint8Array): Promise<StoredFile> {
  const shards: StoredFile["shards"][number][] = [];
  for (let begin = 0; begin < bytes.length; begin += SHARD_BYTES) {
    const part = bytes.subarray(begin, begin + SHARD_BYTES);
    const digest = sha256(part);
    const path = `${digest.slice(0, 32)}.bin`;
    await writeFileAtomic(join(folder, path), part);
    shards.push({ path, bytes: part.length, sha256: digest });
  }
  return { bytes: bytes.length, shards };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function relativePath(directory: string, file: URL): string {
  const path = relative(resolve(directory), fileURLToPath(file)).split(sep).join("/");
  return path.startsWith(".") ? path : `./${path}`;
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function writeText(path: string, text: string): Promise<void> {
  return writeFileAtomic(path, new TextEncoder().encode(text));
}

/** A name that Cloudflare takes: lower-case letters, digits and dashes. */
export function workerName(name: string): string {
  const dashed = basename(name)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
  return dashed.slice(0, 54).replaceAll(/^-|-$/g, "") || "simcse-edge";
}
