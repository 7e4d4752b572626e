import { once } from "node:events";
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type RunningWorker, startWorker } from "../../src/node/worker-run.ts";
import { fuzz } from "./fuzz.ts";
import { makeTinyProject, MAX_LENGTH, SENTENCES, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let worker: RunningWorker;

beforeAll(async () => {
  project = await makeTinyProject();
  worker = await startWorker(project.directory, { variables: { PUBLIC: "true" } });
});
afterAll(async () => {
  await worker?.close();
  await project?.remove();
});

function post(path: string, body: unknown): Promise<Response> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const headers = { "content-type": "application/json" };
  return fetch(`${worker.url}${path}`, { method: "POST", headers, body: text });
}

async function embeddings<T>(body: object): Promise<T[]> {
  const response = await post("/v1/embeddings", body);
  expect(response.status).toBe(200);
  const { data } = (await response.json()) as { data: { embedding: T }[] };
  return data.map(({ embedding }) => embedding);
}

it("workerd gives the same int8 vectors as Node, bit for bit, as floats and as base64", async () => {
  const expected = project.model.encode(SENTENCES);
  const floats = await embeddings<number[]>({ input: SENTENCES });
  expect(floats.map((vector) => Float32Array.from(vector))).toEqual(expected);
  const encoded = await embeddings<string>({ input: SENTENCES, encoding_format: "base64" });
  const bytes = expected.map(({ buffer }) => Buffer.from(buffer).toString("base64"));
  expect(encoded).toEqual(bytes);
});

it("requests that arrive together are answered as if alone", async () => {
  const answers = await Promise.all(SENTENCES.map((input) => embeddings<number[]>({ input })));
  const expected = project.model.encode(SENTENCES);
  expect(answers.map(([vector]) => Float32Array.from(vector!))).toEqual(expected);
});

it("more requests at a time than allowed are refused, and told when to try again", async () => {
  const variables = { PUBLIC: "true", MAX_CONCURRENT: "4" };
  const small = await startWorker(project.directory, { variables });
  try {
    const body = JSON.stringify({ input: SENTENCES });
    const headers = { "content-type": "application/json" };
    const ask = () => fetch(`${small.url}/v1/embeddings`, { method: "POST", headers, body });
    const answers = await Promise.all(Array.from({ length: 64 }, ask));
    const refused = answers.filter(({ status }) => status === 429);
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(4);
    expect(refused.length).toBeGreaterThan(0);
    for (const answer of refused) {
      expect(answer.headers.get("retry-after")).toBe("1");
      expect(await answer.json()).toMatchObject({ error: { code: "overloaded" } });
    }
    expect((await ask()).status).toBe(200);
  } finally {
    await small.close();
  }
});

it("hostile requests get no 5xx, and good ones between them the same answer", async () => {
  const statuses = await fuzz(worker.url, 500, 7);
  expect(statuses.get(200)).toBeGreaterThan(500 / 8);
  expect(statuses.size).toBeGreaterThan(3);
});

it("search in workerd finds a sentence of the index first", async () => {
  const response = await post("/search", { query: SENTENCES[2], top_k: 3 });
  const { results } = (await response.json()) as { results: { text: string; score: number }[] };
  expect(results).toHaveLength(3);
  expect(results[0]).toMatchObject({ id: 2, text: SENTENCES[2] });
  expect(results[0]!.score).toBeCloseTo(1, 6);
});

it.each([
  ["bad JSON", "/v1/embeddings", "{nope", 400],
  ["an empty input", "/v1/embeddings", { input: [] }, 400],
  ["a text too long for the model", "/search", { query: "cat ".repeat(MAX_LENGTH) }, 400],
  ["a body past 2 MB", "/v1/embeddings", { input: "a".repeat(2_000_001) }, 413],
  ["an unknown route", "/v2/embeddings", {}, 404],
  ["a wrong method", "/v1/models", {}, 405],
])("workerd answers %s as an error of OpenAI's", async (_, path, body, status) => {
  const response = await post(path, body);
  expect(response.status).toBe(status);
  expect(await response.json()).toEqual({
    error: {
      message: expect.any(String) as string,
      type: "invalid_request_error",
      param: expect.toSatisfy((x: unknown) => x === null || typeof x === "string") as string,
      code: status === 405 ? "method_not_supported" : null,
    },
  });
});

it("the page is public, and the model and the sentences' files are not", async () => {
  for (const path of [
    "/",
    "/search.js",
    "/api.js",
    "/style.css",
    "/icon.svg",
    "/tab.js",
    "/edge.wasm",
  ]) {
    const response = await fetch(`${worker.url}${path}`);
    expect([path, response.status]).toEqual([path, 200]);
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    await response.body?.cancel();
  }
  for (const path of [
    ...readdirSync(join(project.directory, "public/model")).flatMap((file) => [
      `/model/${file}`,
      `/model%2F${file}`,
      `//model/${file}`,
      `/x/../model/${file}`,
      `/%2e%2e/model/${file}`,
    ]),
    "/index.html",
  ]) {
    const response = await fetch(`${worker.url}${path}`, { redirect: "manual" });
    expect([path, response.status]).toEqual([path, 404]);
    await response.body?.cancel();
  }
});

it("wrangler.jsonc names the Worker, and its entry by a relative path", async () => {
  const text = await readFile(join(project.directory, "wrangler.jsonc"), "utf8");
  const configuration = JSON.parse(text.replace(/^\/\/.*/, "")) as Record<string, string>;
  expect(configuration["name"]).toBe("simcse-edge");
  expect(configuration["main"]).toMatch(/^\.\.\/.*worker\/index\.ts$/);
});

it("a port in use is an error that names it", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await expect(startWorker(project.directory, { port })).rejects.toThrow(
    `port ${port} cannot be used; choose another`,
  );
  server.close();
});
