/** `worker/public/openapi.json` beside what the routes take and answer. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openApi } from "../../scripts/openapi.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openDocuments } from "../../src/node/documents.ts";
import { hashOf, makeKey } from "../../src/node/keys.ts";
import { type App, createApp } from "../../worker/app.ts";
import { serviceLoader } from "../../worker/service.ts";
import { settingsOf } from "../../worker/settings.ts";
import { checkAnswer, faults } from "./check-answer.ts";
import { description, text } from "./description.ts";
import { assetsOf, makeTinyProject, OPEN, SENTENCES, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let documents: ReturnType<typeof openDocuments>;
let app: App;
let closed: App;
beforeAll(async () => {
  project = await makeTinyProject();
  const kernels = await compileKernels("edge");
  const load = serviceLoader(assetsOf(project.directory), kernels);
  documents = openDocuments(join(project.directory, "documents.db"), kernels, 1_000_000);
  app = createApp(load, OPEN, assetsOf(project.directory), documents);
  closed = createApp(load, settingsOf({ API_KEY_HASHES: hashOf(makeKey()) }));
});
afterAll(async () => {
  documents[Symbol.dispose]();
  await project.remove();
});

const send = (method: string, path: string, body: object, headers = {}): Request =>
  new Request(`http://here${path}`, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

it("is what `npm run build` writes, and OpenAPI 3.1 by its own schema", async () => {
  expect(`${JSON.stringify(openApi(), null, 2)}\n`, "run `node scripts/openapi.ts`").toBe(text);
  const result = await new Validator().validate(JSON.parse(text) as Record<string, unknown>);
  expect(result).toMatchObject({ valid: true });
});

it("describes every route but the page's files, and no other", () => {
  const described = Object.entries(description.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const routes = app.routes
    .filter(({ method, path }) => method !== "ALL" && path !== "/" && !/\.\w+$/.test(path))
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)(\{.*?\})?/g, "{$1}")}`);
  expect(described.toSorted()).toEqual([...new Set(routes)].toSorted());
});

it("is served as it is, to everybody who may see the page", async () => {
  expect(await (await app.request("/openapi.json")).text()).toBe(text);
  expect((await closed.request("/openapi.json")).status).toBe(401);
});

describe("answers are what it says", () => {
  it.each(["/v1/models", "/info", "/metrics", "/health"])("GET %s", async (path) => {
    expect(await checkAnswer(app, path, new Request(`http://here${path}`))).toBe(200);
    if (path !== "/health") {
      expect(await checkAnswer(closed, path, new Request(`http://here${path}`))).toBe(401);
    }
  });

  it.each([
    ["GET", "/v1/models/{model}", "/v1/models/simcse-edge", 200],
    ["GET", "/v1/models/{model}", "/v1/models/nobody", 404],
    ["GET", "/documents", "/documents?limit=1&after=a", 200],
    ["GET", "/documents", "/documents?limit=0", 400],
    ["GET", "/documents/{id}", "/documents/no/such", 404],
    ["DELETE", "/documents/{id}", "/documents/no/such", 204],
  ])("%s %s: %s", async (method, path, url, status) => {
    expect(await checkAnswer(app, path, new Request(`http://here${url}`, { method }))).toBe(status);
  });

  it("documents are, once they are written", async () => {
    const written = { documents: [{ id: "a b", text: "a cat", metadata: { kind: "pet" } }] };
    expect(await checkAnswer(app, "/documents", send("POST", "/documents", written))).toBe(200);
    for (const [path, url] of [
      ["/documents/{id}", "/documents/a%20b"],
      ["/documents", "/documents"],
    ] as const) {
      expect(await checkAnswer(app, path, new Request(`http://here${url}`))).toBe(200);
    }
    const search = send("POST", "/search", { query: "a cat", filter: { kind: "pet" } });
    expect(await checkAnswer(app, "/search", search)).toBe(200);
  });

  const [a, b] = SENTENCES as [string, string];
  it.each<[path: string, good: object[], bad: object[], method?: string, status?: number]>([
    [
      "/v1/embeddings",
      [
        ...["float", "base64", "int8", "uint8", "binary", "ubinary"].map((encoding_format) => ({
          input: a,
          encoding_format,
        })),
        { input: [a, b], model: "simcse-edge", dimensions: 8, user: "me", input_type: "query" },
        { input: [5, 6] },
        { input: [[5], [6, 7]], prompt_name: undefined },
      ],
      [
        {},
        { input: "" },
        { input: [] },
        { input: [a, 5] },
        { input: [[]] },
        { input: { a } },
        { input: a, encoding_format: "int4" },
        { input: a, dimensions: 1.5 },
        { input: a, model: null },
        { input: Array.from({ length: 2049 }, () => "a") },
      ],
    ],
    [
      "/embed",
      [
        { inputs: a },
        { inputs: [a, b], truncate: true, truncation_direction: "Left", dimensions: null },
        { inputs: [5], normalize: false, prompt_name: null },
      ],
      [{ inputs: "" }, { inputs: 5 }, { inputs: a, truncate: 1 }, { inputs: a, normalize: "no" }],
    ],
    [
      "/similarity",
      [
        { inputs: { source_sentence: a, sentences: [b] } },
        { inputs: { source_sentence: a, sentences: [a, b] }, parameters: { truncate: true } },
      ],
      [{ inputs: [a, b] }, { inputs: { source_sentence: a, sentences: [] } }],
    ],
    [
      "/tokenize",
      [{ inputs: a }, { inputs: [a, b], add_special_tokens: false }],
      [{ inputs: [] }, { inputs: [5] }, { inputs: a, add_special_tokens: "yes" }],
    ],
    [
      "/search",
      [{ query: a }, { query: a, top_k: 3, threshold: 0.5, filter: { kind: { $ne: "x" } } }],
      [
        { query: "" },
        { query: a, top_k: 51 },
        { query: a, top_k: 0 },
        { query: [a] },
        { query: a, filter: "kind" },
      ],
    ],
    [
      "/documents",
      [
        { documents: [{ id: "1", text: a }] },
        { documents: [{ id: "1", text: b, metadata: {} }], truncate: true },
      ],
      [
        { documents: [] },
        { documents: [{ id: "", text: a }] },
        { documents: [{ id: "1" }] },
        { documents: [{ id: "1", text: a, metadata: "none" }] },
        { documents: Array.from({ length: 1001 }, (_, i) => ({ id: String(i), text: a })) },
      ],
    ],
    ["/documents", [{ ids: ["1"] }], [{ ids: [] }, { ids: [5] }, {}], "DELETE", 204],
  ])("%s, and so is what it takes", async (path, good, bad, method = "POST", status = 200) => {
    const { requestBody } = description.paths[path]![method.toLowerCase()]!;
    const { schema } = requestBody!.content!["application/json"]!;
    const post = (body: object, headers = {}): Request => send(method, path, body, headers);
    for (const body of good) {
      expect(faults(schema, JSON.parse(JSON.stringify(body)))).toBeNull();
      expect([body, await checkAnswer(app, path, post(body))]).toEqual([body, status]);
    }
    for (const body of bad) {
      expect(faults(schema, body), JSON.stringify(body)).not.toBeNull();
      expect([400, 422]).toContain(await checkAnswer(app, path, post(body)));
    }
    expect(await checkAnswer(closed, path, post(good[0]!))).toBe(401);
    const type = { "content-type": "text/plain" };
    expect(await checkAnswer(app, path, post(good[0]!, type))).toBe(415);
    expect(await checkAnswer(app, path, post({ text: "a".repeat(2_000_000) }))).toBe(413);
  });
});

it("takes the examples of docs/api.md, and answers them", async () => {
  const examples = Array.from(
    readFileSync("docs/api.md", "utf8").matchAll(/^```http\nPOST (\S+)\n(.*)\n```$/gm),
    ([, path, body]) => [path!, JSON.parse(body!) as object] as const,
  );
  expect(examples.length).toBeGreaterThan(3);
  for (const [path, body] of examples) {
    expect([path, await checkAnswer(app, path, send("POST", path, body))]).toEqual([path, 200]);
  }
});
