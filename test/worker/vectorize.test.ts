/** Documents in Vectorize, or rather in what stands for it here: `vectorize.ts`. */
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { openDocuments } from "../../src/node/documents.ts";
import { type Encoder, SentenceModel } from "../../src/simcse.ts";
import { type App, createApp } from "../../worker/app.ts";
import type { Filter } from "../../worker/documents/filter.ts";
import { vectorizeDocuments } from "../../worker/documents/vectorize.ts";
import { type Service, serviceLoader } from "../../worker/service.ts";
import { assetsOf, makeTinyProject, OPEN, SENTENCES, type TinyProject } from "./tiny-model.ts";
import { FakeVectorize } from "./vectorize.ts";

let project: TinyProject;
let service: Service;
let kernels: WebAssembly.Module;
let index: FakeVectorize;
let app: App;

beforeAll(async () => {
  project = await makeTinyProject();
  kernels = await compileKernels("edge");
  service = await serviceLoader(assetsOf(project.directory), kernels)();
});
afterAll(() => project.remove());
beforeEach(() => {
  index = new FakeVectorize(64, ["number", "even", "about.animal"]);
  app = createApp(() => Promise.resolve(service), OPEN, undefined, vectorizeDocuments(index));
});

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}
async function send(method: string, path: string, body?: unknown, to: App = app): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  const response = await to.request(path, {
    method,
    ...(body !== undefined && { headers, body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? {} : (JSON.parse(text) as Answer["body"]) };
}

const DOCUMENTS = SENTENCES.map((text, i) => ({
  id: `sentence/${i}`,
  text,
  metadata: { number: i, even: i % 2 === 0, about: { animal: /cat|dog/.exec(text)?.[0] ?? "" } },
}));

it("names a change, which is seen some time later, and is the same when it is sent again", async () => {
  const absent = await send("GET", "/documents/sentence/2");
  expect(absent.status).toBe(404);
  for (let i = 1; i <= 2; i++) {
    expect(await send("POST", "/documents", { documents: DOCUMENTS })).toEqual({
      status: 202,
      body: { written: DOCUMENTS.length, mutation_id: `mutation ${i}` },
    });
  }
  expect(await send("GET", "/documents/sentence/2")).toEqual(absent);
  expect((await send("POST", "/search", { query: "cat" })).body).toEqual({ results: [] });
  index.settle();
  expect(await send("GET", "/documents/sentence/2")).toEqual({ status: 200, body: DOCUMENTS[2] });
  const found = (await send("POST", "/search", { query: SENTENCES[2], top_k: 20 })).body;
  expect(found["results"]).toHaveLength(DOCUMENTS.length);
  expect((found["results"] as object[])[0]).toEqual({
    ...DOCUMENTS[2],
    score: expect.closeTo(1, 6) as number,
  });
  expect(await send("DELETE", "/documents/sentence/2")).toEqual({
    status: 202,
    body: { mutation_id: "mutation 3" },
  });
  index.settle();
  expect((await send("GET", "/documents/sentence/2")).status).toBe(404);
});

const filters: (Filter | undefined)[] = [
  undefined,
  { number: 3 },
  { number: "3" },
  { even: true },
  { "about.animal": "cat" },
  { number: { $ne: 3 } },
  { number: { $in: [1, 5, 9] } },
  { number: { $nin: [1, 5, 9] } },
  { number: { $gte: 2, $lt: 4 } },
  { even: false, number: { $gt: 1, $lte: 5 } },
  { "about.animal": { $gte: "d" } },
];
it.each(filters)("finds what SQLite finds: filter %j", async (filter) => {
  using store = openDocuments(":memory:", kernels, 1_000_000);
  const other = createApp(() => Promise.resolve(service), OPEN, undefined, store);
  for (const to of [app, other]) await send("POST", "/documents", { documents: DOCUMENTS }, to);
  index.settle();
  for (const query of ["cat", "a dog", "music"]) {
    for (const threshold of [-1, 0.5]) {
      const body = { query, threshold, top_k: 20, ...(filter && { filter }) };
      const [found, expected] = await Promise.all(
        [app, other].map(async (to) => (await send("POST", "/search", body, to)).body["results"]),
      );
      expect(found).toEqual(
        (expected as { score: number }[]).map((result) => ({
          ...result,
          score: expect.closeTo(result.score, 5) as number,
        })),
      );
    }
  }
});

it("sends no more at a time than Vectorize takes", async () => {
  const documents = Array.from({ length: 1000 }, (_, i) => ({ id: `${i}`, text: "cat" }));
  expect((await send("POST", "/documents", { documents })).status).toBe(202);
  const ids = documents.slice(0, 250).map(({ id }) => id);
  const { body } = await send("DELETE", "/documents", { ids });
  expect(index.batches).toEqual([1000, 100, 100, 50]);
  expect(body).toEqual({ mutation_id: "mutation 4" }); // of the last: changes are made in order
  index.settle();
  expect((await send("GET", "/documents/249")).status).toBe(404);
  expect((await send("GET", "/documents/250")).status).toBe(200);
});

it("refuses what Vectorize does not take, by its name and before it is sent", async () => {
  const long = { id: "b", text: "x".repeat(5000), metadata: { a: "y".repeat(5223) } };
  const written = await send("POST", "/documents", {
    documents: [{ id: "a", text: "a" }, long],
    truncate: true,
  });
  expect(written).toMatchObject({ status: 400, body: { error: { param: "documents[1]" } } });
  const fits = {
    ...long,
    metadata: { a: "y".repeat(10_240 - 5000 - '{"a":"","text":""}'.length) },
  };
  const kept = await send("POST", "/documents", { documents: [fits], truncate: true });
  expect(kept.status).toBe(202);
  expect(await send("POST", "/search", { query: "a", top_k: 21 })).toMatchObject({
    status: 400,
    body: { error: { param: "top_k" } },
  });
  expect((await send("GET", "/documents")).status).toBe(404);
  expect(index.batches).toEqual([1]);
});

it("an error of Vectorize is a 502 with its number and without its words", async () => {
  const { status, body } = await send("POST", "/search", { query: "cat", filter: { secret: 1 } });
  expect(status).toBe(502);
  expect(body["error"]).toMatchObject({ code: "store_error", type: "server_error" });
  expect(JSON.stringify(body)).toContain("40027");
  expect(JSON.stringify(body)).not.toContain("secret");
});

it("what another model embedded is stale and not found", async () => {
  await send("POST", "/documents", { documents: DOCUMENTS });
  index.settle();
  const { tokenizer, dimension, config } = service.model;
  const encode: Encoder["encode"] = async (ids, options) =>
    (await service.model.encode(ids, options)).map((vector) => vector.toReversed());
  const model = new SentenceModel({ config, dimension, encode }, tokenizer, kernels);
  const other = createApp(
    () => Promise.resolve({ ...service, model }),
    OPEN,
    undefined,
    vectorizeDocuments(index),
  );
  expect((await send("POST", "/search", { query: "cat" }, other)).body).toEqual({ results: [] });
  expect((await send("GET", "/documents/sentence/1", undefined, other)).body).toEqual({
    ...DOCUMENTS[1],
    stale: true,
  });
});
