import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { sha256Hex } from "../../src/files/checksum.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { truncate } from "../../src/quantize/embeddings.ts";
import { FlatIndex } from "../../src/search/flat-index.ts";
import { type App, createApp } from "../../worker/app.ts";
import { type Service, serviceLoader } from "../../worker/service.ts";
import type { Settings } from "../../worker/settings.ts";
import type { Manifest, Shard } from "../../worker/weights.ts";
import { errorOf, post } from "./ask.ts";
import { assetsOf, makeTinyProject, OPEN, SENTENCES, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let service: Service;
let app: App;

beforeAll(async () => {
  project = await makeTinyProject();
  service = await serviceLoader(assetsOf(project.directory), await compileKernels("edge"))();
  app = createApp(() => Promise.resolve(service), OPEN);
});
afterAll(() => project.remove());

async function search(body: object): Promise<{ id: number; text: string; score: number }[]> {
  const response = await post(app, "/search", body);
  expect(response.status).toBe(200);
  return ((await response.json()) as { results: [] }).results;
}

describe("POST /search", () => {
  it("finds a sentence of the index first, with score 1, and five by default", async () => {
    const results = await search({ query: SENTENCES[4] });
    expect(results).toHaveLength(5);
    expect(results[0]).toMatchObject({ id: 4, text: SENTENCES[4] });
    expect(results[0]!.score).toBeCloseTo(1, 6);
    const scores = results.map(({ score }) => score);
    expect(scores).toEqual(scores.toSorted((a, b) => b - a));
  });

  it("obeys top_k and threshold", async () => {
    expect(await search({ query: "cat", top_k: 2 })).toHaveLength(2);
    expect(await search({ query: "cat", top_k: 50 })).toHaveLength(SENTENCES.length);
    expect(await search({ query: SENTENCES[4], threshold: 0.9999 })).toHaveLength(1);
    expect(await search({ query: "cat", threshold: 1.1 })).toEqual([]);
  });

  it.each([
    ["an empty query", { query: "" }, "query"],
    ["a query of another kind", { query: ["a"] }, "query"],
    ["a query of too many tokens", { query: "cat ".repeat(100) }, "query"],
    ["top_k 0", { query: "a", top_k: 0 }, "top_k"],
    ["top_k 51", { query: "a", top_k: 51 }, "top_k"],
    ["a threshold that is no number", { query: "a", threshold: "0" }, "threshold"],
  ])("answers %s with 400 and the field", async (_, body, param) => {
    expect(await errorOf(await post(app, "/search", body))).toMatchObject({ status: 400, param });
  });

  it("answers 404 where there is no index", async () => {
    const bare = createApp(() => Promise.resolve({ ...service, index: undefined }), OPEN);
    expect(await errorOf(await post(bare, "/search", { query: "a" }))).toMatchObject({
      status: 404,
    });
  });
});

describe("other routes", () => {
  it("GET /v1/models lists the one model in OpenAI's shape", async () => {
    const response = await app.request("/v1/models");
    expect(await response.json()).toEqual({
      object: "list",
      data: [{ id: "simcse-edge", object: "model", created: 0, owned_by: "simcse-edge" }],
    });
  });

  it("GET /health is 200 once the model is loaded", async () => {
    expect((await app.request("/health")).status).toBe(200);
  });

  it("answers an unknown path with 404 and a wrong method with 405 and Allow, as errors", async () => {
    expect(await errorOf(await app.request("/nowhere"))).toMatchObject({ status: 404 });
    const response = await app.request("/v1/embeddings");
    expect(response.headers.get("allow")).toBe("POST");
    expect(await errorOf(response)).toMatchObject({ status: 405 });
  });

  it("opens nothing to other origins, and every answer is nosniff and frameless", async () => {
    for (const path of ["/health", "/nowhere"]) {
      const response = await app.request(path, { headers: { origin: "https://example.com" } });
      const { headers } = response;
      expect(headers.get("access-control-allow-origin")).toBeNull();
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
      expect(headers.get("content-security-policy")).not.toContain("'unsafe-");
    }
  });
});

describe("the page", () => {
  it("is served with its script, style and icon, and nothing else of public/ is", async () => {
    const site = createApp(
      () => Promise.resolve(service),
      OPEN,
      (path) => assetsOf(project.directory)(path === "/" ? "/index.html" : path),
    );
    for (const path of [
      "/",
      "/search.js",
      "/api.js",
      "/style.css",
      "/icon.svg",
      "/tab.js",
      "/edge.wasm",
    ]) {
      expect([path, (await site.request(path)).status]).toEqual([path, 200]);
    }
    for (const path of ["/model/manifest.json", "/search/index.safetensors"]) {
      expect([path, (await site.request(path)).status]).toEqual([path, 404]);
    }
  });
});

describe("the files of the model", () => {
  const files = ["/model/manifest.json", "/model/absent.bin"];
  const ask = async (settings: Partial<Settings>, paths: readonly string[]) => {
    const site = createApp(
      () => Promise.resolve(service),
      { ...OPEN, ...settings },
      assetsOf(project.directory),
    );
    return Promise.all(paths.map(async (path) => site.request(path)));
  };

  it("are nobody's unless the model is shared", async () => {
    for (const response of await ask({}, files)) {
      expect(response.status).toBe(404);
      expect(await response.text()).toContain("does not give away its model");
    }
  });

  it("of a shared one are as they are; those named by their contents may be kept", async () => {
    const [manifest, absent] = await ask({ shareModel: true }, files);
    expect(absent!.status).toBe(404);
    expect(manifest!.headers.get("cache-control")).toBe("no-store");
    const { weights } = (await manifest!.json()) as Manifest;
    const [{ path, bytes, sha256 }] = weights.shards as [Shard];
    const [shard] = await ask({ shareModel: true }, [`/model/${path}`]);
    expect(shard!.headers.get("cache-control")).toBe("private, max-age=31536000, immutable");
    const contents = new Uint8Array(await shard!.arrayBuffer());
    expect([contents.length, await sha256Hex(contents)]).toEqual([bytes, sha256]);
  });

  it("are not a way to other files", async () => {
    const paths = ["/model/..%2findex.html", "/model/%2e%2e/index.html", "/model/a/b.bin"];
    for (const response of await ask({ shareModel: true }, paths)) {
      expect(response.status).toBe(404);
    }
  });
});

describe("loading", () => {
  it("happens once for all requests, after one retry where it must", async () => {
    const load = vi
      .fn<() => Promise<Service>>()
      .mockRejectedValueOnce(new Error("flaky"))
      .mockResolvedValue(service);
    const lazy = createApp(load, OPEN);
    expect(load).not.toHaveBeenCalled();
    const responses = await Promise.all([lazy.request("/health"), lazy.request("/info")]);
    expect(responses.map(({ status }) => status)).toEqual([200, 200]);
    expect(load).toHaveBeenCalledTimes(2);
  });

  it("that fails is a 503 with Retry-After that names no cause, and is tried again", async () => {
    const logged = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const load = vi.fn<() => Promise<Service>>().mockRejectedValue(new Error("secret path"));
    const down = createApp(load, OPEN);
    const response = await post(down, "/v1/embeddings", { input: "a" });
    expect(response.headers.get("retry-after")).toBe("10");
    const error = await errorOf(response);
    expect(error).toMatchObject({ status: 503, type: "server_error" });
    expect(JSON.stringify(error)).not.toContain("secret");
    expect(logged).toHaveBeenCalledOnce();
    load.mockResolvedValue(service);
    expect((await post(down, "/v1/embeddings", { input: "a" })).status).toBe(200);
    logged.mockRestore();
  });

  it("takes an index of fewer dimensions", async () => {
    const module = await compileKernels("edge");
    const index = new FlatIndex(module, 16, "int8");
    index.add(
      SENTENCES,
      project.model.encode(SENTENCES).map((vector) => truncate(vector, 16)),
    );
    const small = createApp(() => Promise.resolve({ ...service, index }), OPEN);
    const response = await post(small, "/search", { query: SENTENCES[4], top_k: 1 });
    expect(await response.json()).toMatchObject({ results: [{ id: 4 }] });
  });
});
