/** Every route is brought into each status that `worker/public/openapi.json` has for it. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { openDocuments } from "../../src/node/documents.ts";
import { hashOf, makeKey } from "../../src/node/keys.ts";
import { type App, createApp } from "../../worker/app.ts";
import { remoteDocuments } from "../../worker/documents/remote.ts";
import type { DocumentStore } from "../../worker/documents/store.ts";
import { vectorizeDocuments } from "../../worker/documents/vectorize.ts";
import { DEFAULT_LIMITS } from "../../worker/limits.ts";
import { type Service, serviceLoader } from "../../worker/service.ts";
import { type Settings, settingsOf } from "../../worker/settings.ts";
import { checkAnswer } from "./check-answer.ts";
import { description } from "./description.ts";
import { assetsOf, makeTinyProject, OPEN, type TinyProject } from "./tiny-model.ts";
import { FakeVectorize } from "./vectorize.ts";

let project: TinyProject;
let service: Service;
let documents: ReturnType<typeof openDocuments>;
let small: ReturnType<typeof openDocuments>;
beforeAll(async () => {
  vi.spyOn(console, "error").mockReturnValue(undefined); // of a server that is broken
  project = await makeTinyProject();
  const kernels = await compileKernels("edge");
  service = await serviceLoader(assetsOf(project.directory), kernels)();
  documents = openDocuments(join(project.directory, "documents.db"), kernels, 1_000_000);
  small = openDocuments(join(project.directory, "small.db"), kernels, 100);
});
afterAll(async () => {
  for (const store of [documents, small]) store[Symbol.dispose]();
  await project.remove();
});

const serving = (settings: Partial<Settings>, store?: DocumentStore): App => {
  const all = { ...OPEN, shareModel: true, ...settings };
  return createApp(() => Promise.resolve(service), all, assetsOf(project.directory), store);
};

/** Vectorize, but for a failure that all calls have. */
function brokenVectorize(): DocumentStore {
  const fail = () => Promise.reject(new Error("VECTOR_ERROR (code = 10000)"));
  return vectorizeDocuments({ upsert: fail, deleteByIds: fail, getByIds: fail, query: fail });
}

/** Servers, by the status that they answer good requests with. */
const SERVERS: Readonly<Record<number, () => App>> = {
  200: () => serving({}, documents),
  202: () => serving({}, vectorizeDocuments(new FakeVectorize(64, []))),
  204: () => serving({}, documents),
  401: () => serving(settingsOf({ API_KEY_HASHES: hashOf(makeKey()) })),
  404: () => createApp(() => Promise.resolve({ ...service, index: undefined }), OPEN),
  408: () => serving({ limits: { ...DEFAULT_LIMITS, bodySeconds: 0.02 } }),
  413: () => serving({ limits: { ...DEFAULT_LIMITS, bodyBytes: 2 } }),
  429: () => serving({ rateLimit: () => Promise.resolve(false) }),
  500: () => serving({ rateLimit: () => Promise.reject(new Error("no answer")) }),
  502: () => serving({}, brokenVectorize()),
  503: () => {
    const overloaded = () => Promise.reject(Object.assign(new Error(), { overloaded: true }));
    const get = () => ({ remove: overloaded }) as unknown as DocumentStore;
    const store = remoteDocuments({ idFromName: (name) => name, get });
    return createApp(() => Promise.reject(new Error("no weights")), OPEN, undefined, store);
  },
};

const text = "a cat";
/** A good request of each route that takes a body, one that is not, and one with nothing to embed. */
const BODIES: Readonly<Record<string, { good: object; bad: object; empty?: object }>> = {
  "post /v1/embeddings": { good: { input: text }, bad: {} },
  "post /embed": { good: { inputs: text }, bad: {}, empty: { inputs: "" } },
  "post /similarity": {
    good: { inputs: { source_sentence: text, sentences: [text] } },
    bad: {},
    empty: { inputs: { source_sentence: text, sentences: [] } },
  },
  "post /tokenize": { good: { inputs: text }, bad: {}, empty: { inputs: "" } },
  "post /search": { good: { query: text }, bad: {} },
  "post /documents": { good: { documents: [{ id: "a", text }] }, bad: {} },
  "delete /documents": { good: { ids: ["b"] }, bad: {} },
};

/** What is asked to get a status. */
function requestFor(method: string, path: string, status: number): Request {
  const { good, bad, empty } = BODIES[`${method} ${path}`] ?? {};
  const names: Readonly<Record<string, string>> = {
    model: "simcse-edge",
    file: "manifest.json",
    id: method === "get" ? "a" : "b",
  };
  const absent = status === 404 && path.startsWith("/v1");
  const query = status === 400 && method === "get" ? "?limit=0" : "";
  const named = path.replace(/\{(\w+)\}/, (_, name: string) => (absent ? "nobody" : names[name]!));
  const url = `http://here${named}${query}`;
  const type = status === 415 ? "text/plain" : "application/json";
  const headers = { "content-type": type };
  if (!good) return new Request(url, { method });
  if (status === 408) {
    const body = new ReadableStream<Uint8Array>();
    return new Request(url, { method, headers, body, duplex: "half" } as RequestInit);
  }
  const wrong = status === 422 ? bad : status === 400 ? (empty ?? bad) : good;
  const body = JSON.stringify(absent ? { ...wrong, model: "nobody" } : wrong);
  return new Request(url, { method, headers, body });
}

const documented = Object.entries(description.paths).flatMap(([path, operations]) =>
  Object.entries(operations).flatMap(([method, { responses }]) =>
    Object.keys(responses).map((status) => [method, path, Number(status)] as const),
  ),
);

it.each(documented)("%s %s: %i", async (method, path, status) => {
  const put = requestFor("post", "/documents", 200);
  if (status === 200) await SERVERS[200]!().fetch(put);
  const app = (SERVERS[status] ?? SERVERS[200]!)();
  expect(await checkAnswer(app, path, requestFor(method, path, status))).toBe(status);
});

it("a store that is full is a 413 too, with a code of its own", async () => {
  const app = serving({}, small);
  const body = { documents: Array.from({ length: 9 }, (_, i) => ({ id: String(i), text })) };
  const request = new Request("http://here/documents", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await app.fetch(request.clone());
  expect(await answer.json()).toMatchObject({ error: { code: "store_full" } });
  expect(await checkAnswer(app, "/documents", request)).toBe(413);
});

it("no status is described that no server here gives", () => {
  const given = [...Object.keys(SERVERS).map(Number), 400, 415, 422];
  expect(documented.map(([, , status]) => status).filter((s) => !given.includes(s))).toEqual([]);
});
