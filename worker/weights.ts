/**
 * The files of a model that is served, and how they get into memory. A manifest names files by the SHA-256 of their
 * contents, in shards that a static asset can hold; so a new version never mixes with an old one, whatever the order in which
 * a store shows them.
 */
import * as v from "valibot";
import { FormatError } from "../src/errors.ts";
import { parseJson } from "../src/files/json.ts";
import type { ImageTensor } from "../src/model/image.ts";

/** Answers a path such as `/model/manifest.json`; a file that is not there is a 404. */
export type FetchAsset = (path: string) => Promise<Response>;

export const MANIFEST = "/model/manifest.json";
export const MANIFEST_FORMAT = "simcse-edge model 1";
/** Cloudflare takes assets up to 25 MiB. */
export const SHARD_BYTES: number = 24 * 2 ** 20;

/** A part of a file; `path` is relative to the manifest. */
export interface Shard {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** A file is its shards, end to end. */
export interface StoredFile {
  readonly bytes: number;
  readonly shards: readonly Shard[];
}

export interface Manifest {
  readonly format: string;
  /** What clients call the model. */
  readonly name: string;
  /** Of the files' digests: another model, tokenizer, index or configuration has another. */
  readonly version: string;
  /** As `config.json` has it. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly tokenizer: StoredFile;
  /** An image of the weights: see `src/model/image.ts`. */
  readonly weights: StoredFile & { readonly tensors: readonly ImageTensor[] };
  /** Sentences to search, as a `FlatIndex` writes them. */
  readonly index?: StoredFile | undefined;
}

const Size = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const stored = {
  bytes: Size,
  shards: v.array(
    v.object({
      path: v.pipe(v.string(), v.regex(/^[\w-]+\.\w+$/, "expected a plain file name")),
      bytes: Size,
      sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "expected a SHA-256 in hex")),
    }),
  ),
};
const tensor = v.object({
  name: v.string(),
  dtype: v.picklist(["F32", "I32", "I8"]),
  shape: v.array(Size),
  offset: Size,
});
const ManifestSchema: v.GenericSchema<unknown, Manifest> = v.object({
  format: v.literal(MANIFEST_FORMAT),
  name: v.pipe(v.string(), v.nonEmpty()),
  version: v.string(),
  config: v.record(v.string(), v.unknown()),
  tokenizer: v.object(stored),
  weights: v.object({ ...stored, tensors: v.array(tensor) }),
  index: v.optional(v.object(stored)),
});

/**
 * Reads the manifest of a model.
 * @throws Error when it is absent; FormatError for one that is not what this version writes
 */
export async function readManifest(fetchAsset: FetchAsset): Promise<Manifest> {
  const response = await open(fetchAsset, MANIFEST);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const json = parseJson(bytes, MANIFEST, "the manifest of a model");
  const { issues, output } = v.safeParse(ManifestSchema, json);
  if (!issues) return output;
  const [issue] = issues;
  const path = v.getDotPath(issue) ?? "";
  throw new FormatError(`${MANIFEST}: ${path}: ${issue.message}; deploy the model again`);
}

/** A whole file in memory, verified. */
export async function readStored(
  fetchAsset: FetchAsset,
  file: StoredFile,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(file.bytes);
  await streamStored(fetchAsset, file, bytes);
  return bytes;
}

/**
 * Streams a file to where it is wanted, all shards at once, each verified while it passes. The one copy is that into `target`.
 * Returns or throws only once nothing writes there any more.
 * @throws Error for a shard that is absent; FormatError for one that is not what the manifest says
 */
export async function streamStored(
  fetchAsset: FetchAsset,
  { bytes, shards }: StoredFile,
  target: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const sum = shards.reduce((total, shard) => total + shard.bytes, 0);
  if (sum !== bytes || bytes !== target.length) {
    throw new FormatError(
      `${MANIFEST}: expected shards of ${target.length} bytes, found ${sum} of ${bytes}`,
    );
  }
  let begin = 0;
  const results = await Promise.allSettled(
    shards.map((shard) => {
      const part = target.subarray(begin, begin + shard.bytes);
      begin += shard.bytes;
      return streamShard(fetchAsset, shard, part);
    }),
  );
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

async function streamShard(
  fetchAsset: FetchAsset,
  { path, sha256 }: Shard,
  target: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const url = `/model/${path}`;
  const reader = (await open(fetchAsset, url)).body?.getReader();
  const digest = new Digest(target);
  let length = 0;
  for (let part = await reader?.read(); part && !part.done; part = await reader!.read()) {
    if (length + part.value.length > target.length) {
      await reader!.cancel();
      throw new FormatError(
        `${url}: longer than the ${target.length} bytes that the manifest says`,
      );
    }
    target.set(part.value, length);
    length += part.value.length;
    await digest.update(part.value);
  }
  if (length < target.length) {
    throw new FormatError(
      `${url}: expected ${target.length} bytes, found ${length}; was it cut off?`,
    );
  }
  const found = await digest.hex();
  if (found === sha256) return;
  throw new FormatError(`${url}: damaged: expected sha256 ${sha256}, found ${found}`);
}

interface DigestStream extends WritableStream<Uint8Array> {
  readonly digest: Promise<ArrayBuffer>;
}

/** SHA-256 of bytes that come in parts: Workers have a stream for it, elsewhere it is taken of where the bytes came to lie. */
class Digest {
  readonly #target: Uint8Array<ArrayBuffer>;
  readonly #stream: DigestStream | undefined;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;

  constructor(target: Uint8Array<ArrayBuffer>) {
    this.#target = target;
    const { DigestStream } = crypto as { DigestStream?: new (algorithm: string) => DigestStream };
    this.#stream = DigestStream && new DigestStream("SHA-256");
    this.#stream?.digest.catch(() => undefined); // a stream that fails is dropped
    this.#writer = this.#stream?.getWriter();
  }

  async update(bytes: Uint8Array): Promise<void> {
    await this.#writer?.write(bytes);
  }

  async hex(): Promise<string> {
    await this.#writer?.close();
    const sum = this.#stream
      ? await this.#stream.digest
      : await crypto.subtle.digest("SHA-256", this.#target);
    return Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

async function open(fetchAsset: FetchAsset, path: string): Promise<Response> {
  const response = await fetchAsset(path);
  if (response.ok) return response;
  await response.body?.cancel();
  if (response.status === 404) throw new Error(`${path}: absent; deploy the model again`);
  throw new Error(`${path}: cannot be read, status ${response.status}`);
}
