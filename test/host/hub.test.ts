/** Models by name, from a server that cuts, corrupts and delays. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { HubError } from "../../src/errors.ts";
import { type DownloadProgress, findModel, onDownload } from "../../src/node/hub.ts";
import { SimCSE } from "../../src/node/index.ts";
import { withLock } from "../../src/node/lock.ts";
import { writeTinyModel } from "../worker/tiny-model.ts";

const execute = promisify(execFile);
const SHA = "a".repeat(40);
const root = mkdtempSync(join(tmpdir(), "simcse-hub-"));
const source = join(root, "source");
const WEIGHTS = "model.safetensors";
const FILES = ["config.json", "tokenizer.json", WEIGHTS];

let home: string;
let requests: IncomingMessage[];
/** What the server does to a download of the weights, if anything; true when it has answered. */
let trouble: ((bytes: Buffer, begin: number, response: ServerResponse) => boolean) | undefined;
let listed: string[];

const server = createServer((request, response) => {
  requests.push(request);
  const { url = "", method, headers } = request;
  if (headers.authorization === "Bearer wrong") {
    response.writeHead(401).end();
    return;
  }
  if (/^\/api\/models\/org\/name\/revision\/(main|v1|a{40})$/.test(url)) {
    const siblings = listed.map((rfilename) => ({ rfilename }));
    {
      response.end(JSON.stringify({ sha: SHA, siblings }));
      return;
    }
  }
  const [, file] = /^\/(?:cdn|org\/name\/resolve\/a{40})\/(.+)$/.exec(url) ?? [];
  if (file === undefined || !FILES.includes(file)) {
    response.writeHead(404).end();
    return;
  }
  const bytes = readFileSync(join(source, file));
  const large = file === WEIGHTS;
  const etag = large
    ? createHash("sha256").update(bytes).digest("hex")
    : createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
  if (large && !url.startsWith("/cdn/")) {
    const linked = { "x-linked-etag": `"${etag}"`, "x-linked-size": bytes.length };
    {
      response.writeHead(302, { location: `/cdn/${file}`, ...linked }).end();
      return;
    }
  }
  const [, from] = /^bytes=(\d+)-$/.exec(headers.range ?? "") ?? [];
  const begin = Number(from ?? 0);
  response.writeHead(from === undefined ? 200 : 206, {
    etag: `"${etag}"`,
    "content-length": bytes.length - begin,
  });
  if (method === "HEAD") {
    response.end();
    return;
  }
  if (!large || !trouble?.(bytes, begin, response)) response.end(bytes.subarray(begin));
});

beforeAll(async () => {
  await writeTinyModel(source, "int8");
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  vi.stubEnv("HF_ENDPOINT", `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});
beforeEach(() => {
  home = mkdtempSync(join(root, "home-"));
  vi.stubEnv("HF_HOME", home);
  vi.stubEnv("HF_HUB_CACHE", "");
  vi.stubEnv("HF_TOKEN", "");
  vi.stubEnv("HF_HUB_OFFLINE", "");
  vi.stubEnv("HF_HUB_DOWNLOAD_TIMEOUT", "");
  requests = [];
  trouble = undefined;
  listed = [...FILES, "onnx/model.onnx", "pytorch_model.bin", "README.md"];
});
afterEach(() => onDownload(() => undefined));

const cache = (): string => join(home, "hub", "models--org--name");
const weightsOf = (folder: string): Buffer => readFileSync(join(folder, WEIGHTS));
const downloads = (): number =>
  requests.filter(({ url, method }) => url === `/cdn/${WEIGHTS}` && method === "GET").length;

it("a name gives the model, in the layout of Python's cache, with progress", async () => {
  const told: DownloadProgress[] = [];
  onDownload((progress) => told.push(progress));
  await using model = await SimCSE.load("org/name", { threads: 1 });
  await using local = await SimCSE.load(source, { threads: 1 });
  expect(await model.encode("a cat")).toEqual(await local.encode("a cat"));

  expect(readFileSync(join(cache(), "refs/main"), "utf8")).toBe(SHA);
  const snapshot = join(cache(), "snapshots", SHA);
  expect(readdirSync(snapshot).toSorted()).toEqual(FILES.toSorted());
  for (const file of FILES) {
    expect(lstatSync(join(snapshot, file)).isSymbolicLink()).toBe(true);
    expect(readlinkSync(join(snapshot, file))).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{40,64}$/);
  }
  expect(readdirSync(join(cache(), "blobs"))).toHaveLength(FILES.length);
  const { length } = weightsOf(source);
  expect(told.findLast(({ file }) => file === WEIGHTS)).toEqual({
    file: WEIGHTS,
    done: length,
    total: length,
  });
});

it("a second time nothing is downloaded; offline and without a network the cache is taken", async () => {
  const folder = await findModel("org/name");
  expect(await findModel("org/name")).toBe(folder);
  expect(downloads()).toBe(1);
  requests = [];
  vi.stubEnv("HF_HUB_OFFLINE", "1");
  expect(await findModel("org/name")).toBe(folder);
  expect(requests).toEqual([]);
  await expect(findModel("org/other")).rejects.toThrow(/org\/other at .*HF_HUB_OFFLINE is set/);
  vi.stubEnv("HF_HUB_OFFLINE", "");
  const endpoint = process.env["HF_ENDPOINT"]!;
  vi.stubEnv("HF_ENDPOINT", "http://127.0.0.1:9");
  try {
    expect(await findModel("org/name")).toBe(folder);
    await expect(findModel("org/other")).rejects.toThrow(HubError);
  } finally {
    vi.stubEnv("HF_ENDPOINT", endpoint);
  }
});

it("a revision is pinned by a tag or a commit", async () => {
  const folder = await findModel("org/name@v1");
  expect(readFileSync(join(cache(), "refs/v1"), "utf8")).toBe(SHA);
  expect(await findModel(`org/name@${SHA}`)).toBe(folder);
  await expect(findModel("org/name@v2")).rejects.toThrow("no such model or revision v2 there");
});

it("a download that is cut off again and again goes on where it was", async () => {
  const begins: number[] = [];
  trouble = (bytes, begin, response) => {
    begins.push(begin);
    const end = begin + Math.ceil(bytes.length / 3);
    if (end >= bytes.length) return false;
    response.write(bytes.subarray(begin, end), () => setTimeout(() => response.destroy(), 200));
    return true;
  };
  expect(weightsOf(await findModel("org/name"))).toEqual(weightsOf(source));
  expect(begins).toHaveLength(3);
  expect(begins[0]).toBe(0);
  expect(begins[2]).toBeGreaterThan(begins[1]!);
});

it("a download that a killed process left goes on where it was", async () => {
  const bytes = weightsOf(source);
  const etag = createHash("sha256").update(bytes).digest("hex");
  mkdirSync(join(cache(), "blobs"), { recursive: true });
  writeFileSync(join(cache(), "blobs", `${etag}.incomplete`), bytes.subarray(0, 1000));
  const begins: number[] = [];
  trouble = (_, begin) => (begins.push(begin), false);
  expect(weightsOf(await findModel("org/name"))).toEqual(bytes);
  expect(begins).toEqual([1000]);
});

it("processes that want one model at once download it once", async () => {
  trouble = (bytes, begin, response) => {
    setTimeout(() => response.end(bytes.subarray(begin)), 700);
    return true;
  };
  const script = `
    import { findModel } from "./src/node/hub.ts";
    console.log(await findModel("org/name"));`;
  const child = async (): Promise<string> => {
    const { stdout } = await execute(process.execPath, ["--input-type=module", "--eval", script]);
    return stdout.trim();
  };
  const folders = await Promise.all([child(), child(), findModel("org/name")]);
  expect(folders).toEqual(Array.from({ length: 3 }, () => join(cache(), "snapshots", SHA)));
  expect(weightsOf(folders[0])).toEqual(weightsOf(source));
  expect(downloads()).toBe(1);
  expect(readdirSync(join(cache(), "blobs"))).toHaveLength(FILES.length);
});

it.each([
  ["a process that is gone", `999999999 ${hostname()} x`, 0],
  ["another machine that is silent for half a minute", "1 elsewhere x", 31],
])("the lock of %s is taken over", async (_, owner, age) => {
  const lock = join(root, "a.lock");
  writeFileSync(lock, owner);
  const then = Date.now() / 1000 - age;
  utimesSync(lock, then, then);
  expect(await withLock(lock, async () => readFileSync(lock, "utf8"))).toMatch(`${process.pid} `);
  expect(existsSync(lock)).toBe(false);
});

it("bytes that were damaged on their way are fetched again, once", async () => {
  let times = 1;
  const damage = (bytes: Buffer, begin: number, response: ServerResponse): boolean => {
    if (times-- <= 0) return false;
    const damaged = Buffer.from(bytes);
    damaged[damaged.length - 1]! ^= 1;
    response.end(damaged.subarray(begin));
    return true;
  };
  trouble = damage;
  expect(weightsOf(await findModel("org/name"))).toEqual(weightsOf(source));
  rmSync(cache(), { recursive: true });
  times = 2;
  await expect(findModel("org/name")).rejects.toThrow(
    /model\.safetensors: damaged: expected the hash/,
  );
  expect(readdirSync(join(cache(), "blobs")).filter((name) => name.includes("incomplete"))).toEqual(
    [],
  );
});

it("a server that falls silent is left after the time that the environment allows", async () => {
  vi.stubEnv("HF_HUB_DOWNLOAD_TIMEOUT", "0.2");
  trouble = (bytes, begin, response) => {
    if (begin === 0) response.write(bytes.subarray(0, 500));
    return true;
  };
  await expect(findModel("org/name")).rejects.toThrow(/500 of \d+ bytes came \(the hub is silent/);
});

it("what a hub refuses is said by name: token, unknown model, paths out of the folder", async () => {
  vi.stubEnv("HF_TOKEN", "wrong");
  await expect(findModel("org/name")).rejects.toThrow("set HF_TOKEN");
  vi.stubEnv("HF_TOKEN", "right");
  await expect(findModel("org/unknown")).rejects.toThrow("no such model");
  expect(requests.at(-1)!.headers.authorization).toBe("Bearer right");
  for (const path of ["../evil.json", "/etc/passwd.json", "a\\..\\b.json", "1_X/../../x.json"]) {
    listed = [...FILES, path];
    await expect(findModel("org/name")).rejects.toThrow(HubError);
  }
  await expect(findModel("org/name@a/../../b")).rejects.toThrow("is none");
});

it("a folder that is there is taken before a hub, and other paths are left to the reader", async () => {
  expect(await findModel(source)).toBe(source);
  expect(await findModel("./org/name")).toBe("./org/name");
  expect(requests).toEqual([]);
});
