import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { type ModelFolder, readModelFolder } from "../../src/node/model-folder.ts";
import { shardsOf, writeWorkerProject } from "../../src/node/worker-project.ts";
import { FlatIndex } from "../../src/search/flat-index.ts";
import { createApp } from "../../worker/app.ts";
import { serviceLoader } from "../../worker/service.ts";
import { fromBucket, fromModules } from "../../worker/sources.ts";
import { type FetchAsset, type Manifest, MANIFEST, streamStored } from "../../worker/weights.ts";
import { assetsOf, makeTinyProject, OPEN, SENTENCES, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let folder: ModelFolder;
let module: WebAssembly.Module;
let assets: FetchAsset;
let manifest: Manifest;

beforeAll(async () => {
  project = await makeTinyProject();
  folder = await readModelFolder(join(project.directory, "model"));
  module = await compileKernels("edge");
  assets = assetsOf(project.directory);
  manifest = (await (await assets(MANIFEST)).json()) as Manifest;
});
afterAll(() => project.remove());

const bytesOf = async (path: string): Promise<Uint8Array<ArrayBuffer>> =>
  new Uint8Array(await (await assets(path)).arrayBuffer());
const weightsPath = (): string => `/model/${manifest.weights.shards[0]!.path}`;

/** The assets, but for the paths that `change` answers. */
const except =
  (change: (path: string) => Promise<Response> | undefined): FetchAsset =>
  (path) =>
    change(path) ?? assets(path);
const withBytes = (path: string, bytes: Uint8Array<ArrayBuffer>): FetchAsset =>
  except((asked) => (asked === path ? Promise.resolve(new Response(bytes)) : undefined));
const withManifest = (changed: object): FetchAsset =>
  withBytes(MANIFEST, new TextEncoder().encode(JSON.stringify({ ...manifest, ...changed })));

it("files are named by their contents, and begin the bytes of tensors at multiples of 64", async () => {
  const names = await readdir(join(project.directory, "public/model"));
  const named = shardsOf(manifest).map(({ path }) => path);
  expect(names.toSorted()).toEqual([...named, "manifest.json"].toSorted());
  for (const { path, sha256 } of shardsOf(manifest)) expect(sha256).toContain(path.slice(0, 32));
  expect(manifest.weights.tensors.length).toBeGreaterThan(20);
  for (const { offset } of manifest.weights.tensors) expect(offset % 64).toBe(0);
});

it("assets, an R2 bucket and data modules give the vectors of the folder, bit for bit", async () => {
  const files: Record<string, ArrayBuffer> = {};
  for (const file of ["manifest.json", ...shardsOf(manifest).map(({ path }) => path)]) {
    files[`/model/${file}`] = (await bytesOf(`/model/${file}`)).buffer;
  }
  const bucket = fromBucket({
    get: async (key) => {
      const response = await assets(`/${key}`);
      return response.ok ? { body: response.body! } : null;
    },
  });
  for (const source of [assets, bucket, fromModules(files)]) {
    const { model } = await serviceLoader(source, module)();
    expect(await model.encode(SENTENCES)).toEqual(project.model.encode(SENTENCES));
  }
});

it.each([1, 7, 4096])("a file in shards of %i bytes is put together again", async (most) => {
  const bytes = crypto.getRandomValues(new Uint8Array(most === 1 ? 9 : 9000));
  const parts = new Map<string, Uint8Array<ArrayBuffer>>();
  const shards: Manifest["weights"]["shards"][number][] = [];
  for (let begin = 0; begin < bytes.length; begin += most) {
    const part = bytes.slice(begin, begin + most);
    const sum = Buffer.from(await crypto.subtle.digest("SHA-256", part)).toString("hex");
    parts.set(`/model/${begin}.bin`, part);
    shards.push({ path: `${begin}.bin`, bytes: part.length, sha256: sum });
  }
  const target = new Uint8Array(bytes.length);
  const source: FetchAsset = (path) => Promise.resolve(new Response(parts.get(path)));
  await streamStored(source, { bytes: bytes.length, shards }, target);
  expect(target).toEqual(bytes);
});

it.each([
  [
    "one bit less",
    (bytes: Uint8Array) => bytes.with(100, bytes[100]! ^ 1),
    "damaged: expected sha256",
  ],
  ["a byte less", (bytes: Uint8Array) => bytes.slice(1), "was it cut off?"],
  ["a byte more", (bytes: Uint8Array) => Uint8Array.of(...bytes, 0), "longer than the"],
])("weights with %s are refused", async (_, change, message) => {
  const damaged = withBytes(weightsPath(), change(await bytesOf(weightsPath())));
  await expect(serviceLoader(damaged, module)()).rejects.toThrow(
    `${weightsPath()}: ${message}`.split(": ")[1],
  );
});

it("names a file that is absent, and does without an index", async () => {
  const gone = except((path) =>
    path === weightsPath() ? Promise.resolve(new Response(null, { status: 404 })) : undefined,
  );
  await expect(serviceLoader(gone, module)()).rejects.toThrow(`${weightsPath()}: absent`);
  expect((await serviceLoader(withManifest({ index: undefined }), module)()).index).toBeUndefined();
});

it.each([
  ["of another format", { format: "else" }, "format: "],
  [
    "that names files elsewhere",
    { tokenizer: { bytes: 1, shards: [{ path: "../x.bin", bytes: 1, sha256: "0".repeat(64) }] } },
    "plain file name",
  ],
  ["of negative sizes", { tokenizer: { bytes: -1, shards: [] } }, "tokenizer.bytes"],
])("refuses a manifest %s", async (_, changed, message) => {
  await expect(serviceLoader(withManifest(changed), module)()).rejects.toThrow(message);
});

it("refuses weights that lie otherwise than these kernels expect, naming the tensor", async () => {
  const [first, ...rest] = manifest.weights.tensors;
  const tensors = [{ ...first!, offset: 64 }, ...rest];
  const other = withManifest({ weights: { ...manifest.weights, tensors } });
  await expect(serviceLoader(other, module)()).rejects.toThrow(
    `tensor 0: expected ${first!.name} I8`,
  );
});

it("refuses an index of more dimensions than the model's", async () => {
  const large = await new FlatIndex(module, 128).serialize();
  const sum = Buffer.from(await crypto.subtle.digest("SHA-256", large)).toString("hex");
  const index = {
    bytes: large.length,
    shards: [{ path: "x.bin", bytes: large.length, sha256: sum }],
  };
  const source: FetchAsset = (path) =>
    path === "/model/x.bin" ? Promise.resolve(new Response(large)) : withManifest({ index })(path);
  await expect(serviceLoader(source, module)()).rejects.toThrow(
    "128 dimensions, but the model's vectors have only 64",
  );
});

it("a load that fails leaves its memory to the next, which is right all the same", async () => {
  const memories = vi.spyOn(WebAssembly, "Memory");
  const damaged = (await bytesOf(weightsPath())).fill(1);
  const sources = [withBytes(weightsPath(), damaged), assets];
  const load = serviceLoader((path) => sources[0]!(path), module);
  await expect(load()).rejects.toThrow("damaged");
  sources.shift();
  const { model } = await load();
  const weights = memories.mock.calls.filter(
    ([{ initial }]) => initial === memories.mock.calls[0]![0].initial,
  );
  expect(weights).toHaveLength(1);
  expect(await model.encode(SENTENCES)).toEqual(project.model.encode(SENTENCES));
  memories.mockRestore();
});

let other: TinyProject;
beforeEach(async () => {
  other = await makeTinyProject();
});
afterEach(() => other.remove());

it("a new version that is written while the old one loads is loaded whole, after one retry", async () => {
  const changed: ModelFolder = {
    ...folder,
    tensors: new Map(
      [...folder.tensors].map(([name, tensor]) => [
        name,
        name === "embeddings.word_embeddings.scales"
          ? {
              ...tensor,
              data: new Uint8Array(
                new Float32Array(new Uint8Array(tensor.data).buffer).map(
                  (x, i) => x * (1 + (i % 3)),
                ).buffer,
              ),
            }
          : tensor,
      ]),
    ),
  };
  const files = assetsOf(other.directory);
  let written = false;
  const source: FetchAsset = async (path) => {
    const response = await files(path);
    if (path === MANIFEST && !written) {
      written = true;
      await writeWorkerProject(other.directory, { model: changed });
    }
    return response;
  };
  const load = serviceLoader(source, module);
  const app = createApp(load, OPEN);
  const answer = await app.request("/v1/embeddings", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ input: SENTENCES[0] }),
  });
  expect(answer.status).toBe(200);
  const { data } = (await answer.json()) as { data: [{ embedding: number[] }] };
  const [old] = project.model.encode([SENTENCES[0]!]);
  const vector = Float32Array.from(data[0].embedding);
  const { model } = await serviceLoader(files, module)();
  expect(vector).toEqual((await model.encode([SENTENCES[0]!]))[0]);
  expect(vector).not.toEqual(old);
  const names = await readdir(join(other.directory, "public/model"));
  const { version, ...rest } = JSON.parse(
    await readFile(join(other.directory, "public/model/manifest.json"), "utf8"),
  ) as Manifest;
  expect(version).not.toBe(manifest.version);
  expect(names).toHaveLength(shardsOf({ version, ...rest }).length + 1);
});
