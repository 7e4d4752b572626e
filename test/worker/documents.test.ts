/** Documents over HTTP, in the app with a store in SQLite as `simcse serve` has it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { openDocuments } from "../../src/node/documents.ts";
import { type Encoder, SentenceModel } from "../../src/simcse.ts";
import { type App, createApp } from "../../worker/app.ts";
import type { Filter } from "../../worker/documents/filter.ts";
import type { DocumentStore, FoundDocument } from "../../worker/documents/store.ts";
import { type Service, serviceLoader } from "../../worker/service.ts";
import { settingsOf } from "../../worker/settings.ts";
import { assetsOf, makeTinyProject, SENTENCES, type TinyProject } from "./tiny-model.ts";

const INDEX_BYTES = 1_000_000;

let project: TinyProject;
let service: Service;
let kernels: WebAssembly.Module;
let folder: string;

beforeAll(async () => {
  project = await makeTinyProject();
  kernels = await compileKernels("edge");
  service = await serviceLoader(assetsOf(project.directory), kernels)();
  folder = await mkdtemp(join(tmpdir(), "simcse-documents-"));
});
afterAll(async () => {
  await project.remove();
  await rm(folder, { recursive: true, force: true });
});

function appOf(documents: DocumentStore | undefined, env: Record<string, string> = {}): App {
  const settings = settingsOf({ PUBLIC: "true", ...env });
  return createApp(() => Promise.resolve(service), settings, undefined, documents);
}

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

async function send(app: App, method: string, path: string, body?: unknown): Promise<Answer> {
  const init = {
    method,
    ...(body !== undefined && {
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  };
  const response = await app.request(path, init);
  const text = await response.text();
  return {
    status: response.status,
    body: text === "" ? {} : (JSON.parse(text) as Answer["body"]),
  };
}

const DOCUMENTS = SENTENCES.map((text, i) => ({
  id: `sentence ${i}`,
  text,
  metadata: { number: i, even: i % 2 === 0, about: { animal: /cat|dog/.exec(text)?.[0] ?? "" } },
}));

describe("documents", () => {
  let store: DocumentStore & Disposable;
  let app: App;
  beforeEach(() => {
    store = openDocuments(":memory:", kernels, INDEX_BYTES);
    app = appOf(store);
    return () => store[Symbol.dispose]();
  });

  const write = (documents: unknown = DOCUMENTS): Promise<Answer> =>
    send(app, "POST", "/documents", { documents });
  const search = async (body: object): Promise<FoundDocument[]> => {
    const answer = await send(app, "POST", "/search", body);
    expect(answer.status).toBe(200);
    return answer.body["results"] as FoundDocument[];
  };
  const idsOf = (found: readonly { id: string }[]): string[] => found.map(({ id }) => id);

  it("are written, read, found by their text with score 1, and removed", async () => {
    expect(await write()).toEqual({ status: 200, body: { written: DOCUMENTS.length } });
    expect(await send(app, "GET", "/documents/sentence%202")).toEqual({
      status: 200,
      body: DOCUMENTS[2],
    });
    const [first, second] = await search({ query: SENTENCES[2], top_k: 2 });
    expect(first).toEqual({ ...DOCUMENTS[2], score: expect.closeTo(1, 6) as number });
    expect(second!.score).toBeLessThan(first!.score);

    expect(await send(app, "DELETE", "/documents/sentence%202")).toEqual({ status: 204, body: {} });
    expect(await send(app, "DELETE", "/documents", { ids: ["sentence 3", "absent"] })).toEqual({
      status: 204,
      body: {},
    });
    const gone = await send(app, "GET", "/documents/sentence%202");
    expect(gone).toMatchObject({ status: 404, body: { error: { code: "document_not_found" } } });
    const left = idsOf(await search({ query: SENTENCES[2], top_k: 50 }));
    expect(left.toSorted()).toEqual([0, 1, 4, 5, 6].map((i) => `sentence ${i}`));
  });

  it("have any text and any id of 64 bytes, with slashes, dots, quotes and NUL", async () => {
    const ids = [
      "a/b",
      "..",
      "%2F",
      '"; DROP TABLE documents; --',
      "\0",
      "ä".repeat(32),
      "__proto__",
    ];
    const text = 'a "cat"\0\u{1f408} <b>';
    expect((await write(ids.map((id) => ({ id, text, metadata: { id } })))).status).toBe(200);
    for (const id of ids) {
      const path = `/documents/${encodeURIComponent(id).replaceAll(".", "%2E")}`;
      if (id !== "..")
        expect((await send(app, "GET", path)).body).toEqual({ id, text, metadata: { id } });
      expect((await search({ query: "cat", filter: { id } })).map((found) => found.id)).toEqual([
        id,
      ]);
    }
    expect((await send(app, "DELETE", "/documents", { ids })).status).toBe(204);
    expect((await send(app, "GET", "/documents")).body).toEqual({ documents: [], next: null });
  });

  it("are the same after the same request again, and replaced by one of the same id", async () => {
    const states: string[] = [];
    for (let i = 0; i < 2; i++) {
      await write();
      const results = await search({ query: "cat", top_k: 50 });
      states.push(JSON.stringify([results, (await send(app, "GET", "/documents")).body]));
    }
    expect(states[1]).toBe(states[0]);
    await write([{ id: "sentence 0", text: SENTENCES[3] }]);
    const all = await search({ query: SENTENCES[3], top_k: 50 });
    expect(all).toHaveLength(DOCUMENTS.length);
    expect(idsOf(all).slice(0, 2)).toEqual(["sentence 0", "sentence 3"]); // the same score: by id
    expect(all[0]).not.toHaveProperty("metadata");
    for (let i = 0; i < 2; i++) await send(app, "DELETE", "/documents/sentence%200");
    expect(await search({ query: SENTENCES[3], top_k: 50 })).toHaveLength(DOCUMENTS.length - 1);
  });

  it("come in pages, in the order of their ids", async () => {
    await write();
    const seen: string[] = [];
    for (let after = ""; ;) {
      const path = `/documents?limit=3&after=${encodeURIComponent(after)}`;
      const { body } = await send(app, "GET", path);
      const page = body as { documents: { id: string }[]; next: string | null };
      expect(page.documents.length).toBeLessThanOrEqual(3);
      seen.push(...idsOf(page.documents));
      if (page.next === null) break;
      after = page.next;
    }
    expect(seen).toEqual(DOCUMENTS.map(({ id }) => id));
  });

  it("long ones come in shorter pages, and none is left out", async () => {
    const text = "cat ".repeat(16_000);
    const ids = Array.from({ length: 40 }, (_, i) => `long ${String(i).padStart(2, "0")}`);
    for (const part of [ids.slice(0, 20), ids.slice(20)]) {
      const documents = part.map((id) => ({ id, text }));
      expect((await send(app, "POST", "/documents", { documents, truncate: true })).status).toBe(
        200,
      );
    }
    const pages: number[] = [];
    for (let after: string | null = ""; after !== null;) {
      const { body } = await send(app, "GET", `/documents?after=${encodeURIComponent(after)}`);
      pages.push((body["documents"] as []).length);
      after = body["next"] as string | null;
    }
    expect(pages).toEqual([15, 15, 10]);
  });

  it("threshold leaves out what scores less, and top_k what is behind", async () => {
    await write();
    const all = await search({ query: "cat", top_k: 50 });
    const threshold = all[2]!.score;
    expect(await search({ query: "cat", top_k: 50, threshold })).toEqual(all.slice(0, 3));
    expect(await search({ query: "cat", top_k: 2, threshold })).toEqual(all.slice(0, 2));
    expect(await search({ query: "cat", threshold: 1.1 })).toEqual([]);
    expect(await search({ query: "cat" })).toEqual(all.slice(0, 5));
  });

  const filters: [string, Filter, number[]][] = [
    ["equality", { number: 3 }, [3]],
    ["no conversion", { number: "3" }, []],
    ["true", { even: true }, [0, 2, 4, 6]],
    ["a dot into an object", { "about.animal": "cat" }, [2]],
    ["an empty string", { "about.animal": "" }, [0, 1, 4, 5, 6]],
    ["$eq", { number: { $eq: 3 } }, [3]],
    ["$ne, also for what lacks the field", { number: { $ne: 3 } }, [0, 1, 2, 4, 5, 6]],
    ["a field that none has", { nothing: 1 }, []],
    ["$ne of such a field", { nothing: { $ne: 1 } }, [0, 1, 2, 3, 4, 5, 6]],
    ["$in", { number: { $in: [1, 5, 9] } }, [1, 5]],
    ["$nin", { number: { $nin: [1, 5, 9] } }, [0, 2, 3, 4, 6]],
    ["$in of none", { number: { $in: [] } }, []],
    ["a range", { number: { $gte: 2, $lt: 4 } }, [2, 3]],
    ["the other bounds", { number: { $gt: 2, $lte: 4 } }, [3, 4]],
    ["a range of another type", { number: { $gt: "2" } }, []],
    ["a range of strings", { "about.animal": { $gte: "d" } }, [3]],
    ["two fields, both", { even: true, number: { $gt: 3 } }, [4, 6]],
    ["a field of every object", { constructor: { $ne: 1 } }, [0, 1, 2, 3, 4, 5, 6]],
    ["the same as its value", { "about.toString": "x" }, []],
  ];
  it.each(filters)("filter: %s", async (_, filter, numbers) => {
    await write();
    const found = await search({ query: "cat", top_k: 50, filter });
    expect(idsOf(found).toSorted()).toEqual(numbers.map((i) => `sentence ${i}`));
  });

  const long = "cat ".repeat(100);
  const one = (more: object): object => ({ documents: [{ id: "a", text: "a", ...more }] });
  // prettier-ignore
  it.each<[string, string, unknown, string | null]>([
    ["no documents", "/documents", {}, "documents"],
    ["none in the list", "/documents", { documents: [] }, "documents"],
    ["1001", "/documents", { documents: Array.from({ length: 1001 }, (_, i) => ({ id: `${i}`, text: "a" })) }, "documents"],
    ["no id", "/documents", { documents: [{ text: "a" }] }, "documents[0].id"],
    ["a number as id", "/documents", one({ id: 7 }), "documents[0].id"],
    ["an empty id", "/documents", one({ id: "" }), "documents[0].id"],
    ["an id of 65 bytes", "/documents", one({ id: `${"ä".repeat(32)}x` }), "documents[0].id"],
    ["a lone surrogate as id", "/documents", one({ id: "\ud800" }), "documents[0].id"],
    ["an id twice", "/documents", { documents: [1, 2].map(() => ({ id: "a", text: "a" })) }, "documents[1].id"],
    ["no text", "/documents", { documents: [{ id: "a" }] }, "documents[0].text"],
    ["an empty text", "/documents", one({ text: "" }), "documents[0].text"],
    ["a lone surrogate in a text", "/documents", one({ text: "a\udc00" }), "documents[0].text"],
    ["a text of too many bytes", "/documents", one({ text: "ä".repeat(32_769) }), "documents[0].text"],
    ["a text of too many tokens", "/documents", one({ text: long }), "documents[0].text"],
    ["metadata that is a list", "/documents", one({ metadata: [] }), "documents[0].metadata"],
    ["metadata of too many bytes", "/documents", one({ metadata: { a: "x".repeat(10_240) } }), "documents[0].metadata"],
    ["metadata with a key of the document", "/documents", one({ metadata: { text: 1 } }), "documents[0].metadata"],
    ["metadata with a dot in a key", "/documents", one({ metadata: { "a.b": 1 } }), "documents[0].metadata"],
    ["metadata with an operator as key", "/documents", one({ metadata: { a: { $gt: 1 } } }), "documents[0].metadata"],
    ["metadata three objects deep", "/documents", one({ metadata: { a: { b: { c: 1 } } } }), "documents[0].metadata"],
    ["null in metadata", "/documents", one({ metadata: { a: null } }), "documents[0].metadata"],
    ["metadata with lists in lists", "/documents", one({ metadata: { a: [[]] } }), "documents[0].metadata"],
    ["truncate that is no boolean", "/documents", { ...one({}), truncate: 1 }, "truncate"],
    ["a filter that is none", "/search", { query: "a", filter: "x" }, "filter"],
    ["an empty filter", "/search", { query: "a", filter: {} }, "filter"],
    ["an unknown operator", "/search", { query: "a", filter: { a: { $regex: "x" } } }, "filter"],
    ["an operator of Object's", "/search", { query: "a", filter: { a: { constructor: "x" } } }, "filter"],
    ["a list as a condition", "/search", { query: "a", filter: { a: [1] } }, "filter"],
    ["null as a condition", "/search", { query: "a", filter: { a: null } }, "filter"],
    ["a boolean as a bound", "/search", { query: "a", filter: { a: { $gt: true } } }, "filter"],
    ["$in without a list", "/search", { query: "a", filter: { a: { $in: 1 } } }, "filter"],
    ["a filter of 2 kB", "/search", { query: "a", filter: { a: "x".repeat(2048) } }, "filter"],
    ["an empty field", "/search", { query: "a", filter: { "a..b": 1 } }, "filter"],
  ])("%s is a 400 that names the field, and nothing is written", async (_, path, body, param) => {
    const answer = await send(app, "POST", path, body);
    expect(answer).toMatchObject({
      status: 400,
      body: { error: { type: "invalid_request_error", param, code: null } },
    });
    expect((await send(app, "GET", "/documents")).body).toEqual({ documents: [], next: null });
  });

  it("a field of metadata or of a filter that is __proto__ is refused", async () => {
    const post = (path: string, body: string) =>
      app.request(path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      });
    const metadata = '{"documents":[{"id":"a","text":"a","metadata":{"__proto__":{"a":1}}}]}';
    expect((await post("/documents", metadata)).status).toBe(400);
    expect((await post("/search", '{"query":"a","filter":{"__proto__":1}}')).status).toBe(400);
  });

  it.each(["0", "-1", "1.5", "x", "1001", "1e2", ""])("limit=%s is a 400", async (limit) => {
    expect(await send(app, "GET", `/documents?limit=${limit}`)).toMatchObject({
      status: 400,
      body: { error: { param: "limit" } },
    });
  });

  it("variables lower the limits", async () => {
    app = appOf(store, { MAX_INPUTS: "2", MAX_TEXT_BYTES: "9", MAX_METADATA_BYTES: "9" });
    const errorOf = async (documents: object[]) =>
      ((await write(documents)).body as { error?: { message: string } }).error?.message;
    expect(await errorOf(["a", "b", "c"].map((id) => ({ id, text: id })))).toContain(
      "expected at most 2, found 3",
    );
    expect(await errorOf([{ id: "a", text: "a".repeat(10) }])).toContain(
      "at most 9 bytes of UTF-8",
    );
    expect(await errorOf([{ id: "a", text: "a", metadata: { ab: "cd" } }])).toContain(
      "at most 9 bytes of JSON, found 11",
    );
    expect(await errorOf([{ id: "a", text: "a".repeat(9), metadata: { a: 1 } }])).toBeUndefined();
  });

  it("other methods are a 405 that names these", async () => {
    const response = await app.request("/documents/x", { method: "PUT" });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "GET, HEAD, DELETE"]);
  });

  it("series of /metrics are of routes, however many ids are asked for", async () => {
    await write();
    for (const { id } of DOCUMENTS) await send(app, "GET", `/documents/${encodeURIComponent(id)}`);
    const lines = (await (await app.request("/metrics")).text())
      .split("\n")
      .filter((line) => line.startsWith("te_request_success"));
    expect(lines).toEqual([
      'te_request_success{method="/documents"} 1',
      `te_request_success{method="/documents/:id{.+}"} ${DOCUMENTS.length}`,
    ]);
  });

  it("a server without a store answers 404 that says how to get one", async () => {
    const bare = appOf(undefined);
    for (const [method, path, body] of [
      ["POST", "/documents", { documents: DOCUMENTS }],
      ["GET", "/documents", undefined],
      ["GET", "/documents/a", undefined],
      ["DELETE", "/documents/a", undefined],
    ] as const) {
      const answer = await send(bare, method, path, body);
      expect(answer.status).toBe(404);
      expect(JSON.stringify(answer.body)).toContain("--documents");
    }
  });

  it("a query gets the model's prompt for queries, and a document that for passages", async () => {
    const { tokenizer, dimension, config } = service.model;
    const plain = service;
    const encode: Encoder["encode"] = (ids, options) => plain.model.encode(ids, options);
    const prompted = { ...config, prompts: { query: "the ", passage: "a " } };
    const model = new SentenceModel({ config: prompted, dimension, encode }, tokenizer, kernels);
    service = { ...plain, model };
    try {
      await write([{ id: "a", text: "dog runs" }]);
      const score = async (query: string) => (await search({ query }))[0]!.score;
      const [[query], [document]] = [["the cat"], ["a dog runs"]].map((text) =>
        project.model.encode(text),
      ) as [Float32Array[], Float32Array[]];
      const cosine = query!.reduce((sum, x, i) => sum + x * document![i]!, 0);
      expect(await score("cat")).toBeCloseTo(cosine, 6);
    } finally {
      service = plain;
    }
  });

  it("what another model embedded is read as stale and not found, until it is written again", async () => {
    await write();
    const { tokenizer, dimension, config } = service.model;
    const encode: Encoder["encode"] = async (ids, options) =>
      (await service.model.encode(ids, options)).map((vector) => vector.toReversed());
    const model = new SentenceModel({ config, dimension, encode }, tokenizer, kernels);
    const other = createApp(
      () => Promise.resolve({ ...service, model }),
      settingsOf({ PUBLIC: "true" }),
      undefined,
      store,
    );
    expect((await send(other, "POST", "/search", { query: "cat" })).body).toEqual({ results: [] });
    expect((await send(other, "GET", "/documents/sentence%201")).body).toEqual({
      ...DOCUMENTS[1],
      stale: true,
    });
    await send(other, "POST", "/documents", { documents: [DOCUMENTS[1]] });
    expect((await send(other, "GET", "/documents/sentence%201")).body).toEqual(DOCUMENTS[1]);
    const { body } = await send(other, "POST", "/search", { query: "cat", top_k: 50 });
    expect(idsOf(body["results"] as FoundDocument[])).toEqual(["sentence 1"]);
    expect(await search({ query: "cat", top_k: 50 })).toHaveLength(DOCUMENTS.length - 1);
  });
});
