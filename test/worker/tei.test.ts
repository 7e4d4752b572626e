import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { SentenceModel } from "../../src/simcse.ts";
import { type App, createApp } from "../../worker/app.ts";
import { serviceLoader, type Service } from "../../worker/service.ts";
import {
  assetsOf,
  makeTinyProject,
  MAX_LENGTH,
  OPEN,
  SENTENCES,
  type TinyProject,
} from "./tiny-model.ts";

let project: TinyProject;
let service: Service;
let app: App;

beforeAll(async () => {
  project = await makeTinyProject();
  const module = await compileKernels("edge");
  service = await serviceLoader(assetsOf(project.directory), module)();
  const { dimension, tokenizer, config } = service.model;
  const prompts = { query: "the ", passage: "a " };
  const encoder = {
    config: { ...config, prompts },
    dimension,
    encode: (ids: readonly (readonly number[] | Int32Array)[], options = {}) =>
      service.model.encode(ids, options),
  };
  const model = new SentenceModel(encoder, tokenizer, module);
  app = createApp(() => Promise.resolve({ ...service, model }), OPEN);
});
afterAll(() => project.remove());

async function post<T>(path: string, body: object): Promise<T & { status?: number }> {
  const headers = { "content-type": "application/json" };
  const response = await app.request(path, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = (await response.json()) as object;
  return (response.ok ? answer : { status: response.status, ...answer }) as T & { status?: number };
}
const embed = async (body: object): Promise<Float32Array[]> =>
  (await post<number[][]>("/embed", body)).map((vector) => Float32Array.from(vector));
const encode = (...texts: string[]): Float32Array[] => project.model.encode(texts);
const idsOf = (text: string, most = MAX_LENGTH): number[] =>
  Array.from(project.model.tokenizer.encode(text, most).ids);

describe("POST /embed", () => {
  it("gives a row for each text or token ids, one for a single", async () => {
    const [a, b] = SENTENCES as [string, string];
    expect(await embed({ inputs: a })).toEqual(encode(a));
    expect(await embed({ inputs: [a, b] })).toEqual(encode(a, b));
    expect(await embed({ inputs: idsOf(b) })).toEqual(encode(b));
    expect(await embed({ inputs: [idsOf(a), idsOf(b)], truncate: null, dimensions: null })).toEqual(
      encode(a, b),
    );
  });

  it("normalize, dimensions and prompt_name do what they say", async () => {
    const [raw] = await embed({ inputs: "cat", normalize: false });
    const [unit] = encode("cat");
    const norm = Math.hypot(...raw!);
    expect(Math.abs(norm - 1)).toBeGreaterThan(0.01);
    raw!.forEach((x, i) => expect(x / norm).toBeCloseTo(unit![i]!, 5));
    const [short] = await embed({ inputs: "cat", dimensions: 8 });
    expect(Math.hypot(...short!)).toBeCloseTo(1, 6);
    expect(await embed({ inputs: "cat", prompt_name: "query" })).toEqual(encode("the cat"));
    expect(await post("/embed", { inputs: "cat", prompt_name: "nobody" })).toEqual({
      status: 422,
      error: "prompt_name: the model's are query, passage",
      error_type: "Validation",
    });
  });

  it("truncate keeps the beginning, or the end if told; without it a long text is refused", async () => {
    const long = `${"dog ".repeat(60)}${"cat ".repeat(60)}`;
    expect(await post("/embed", { inputs: ["a", long] })).toMatchObject({
      status: 422,
      error: expect.stringContaining(
        `inputs[1]: longer than the model's ${MAX_LENGTH} tokens`,
      ) as string,
    });
    const [beginning] = await embed({ inputs: long, truncate: true });
    expect(beginning).toEqual(encode("dog ".repeat(MAX_LENGTH - 2))[0]);
    const [end] = await embed({ inputs: long, truncate: true, truncation_direction: "Left" });
    const ids = idsOf(long, 1000);
    const inputs = [ids[0]!, ...ids.slice(-(MAX_LENGTH - 1))];
    expect(end).toEqual((await embed({ inputs }))[0]);
    expect(end).not.toEqual(beginning);
    const [cut] = await embed({ inputs: ids, truncate: true });
    expect(cut).toEqual((await embed({ inputs: ids.slice(0, MAX_LENGTH) }))[0]);
  });

  it.each([
    ["an empty list", { inputs: [] }, 400, "Empty"],
    ["an empty text", { inputs: ["a", ""] }, 400, "Empty"],
    ["no inputs", {}, 422, "Validation"],
    ["inputs of another kind", { inputs: { a: 1 } }, 422, "Validation"],
    ["an id outside the vocabulary", { inputs: [99_999] }, 422, "Validation"],
    ["a direction that is none", { inputs: "a", truncation_direction: "Up" }, 422, "Validation"],
    ["dimensions past the model's", { inputs: "a", dimensions: 65 }, 422, "Validation"],
  ])("answers %s as TEI does", async (_, body, status, error_type) => {
    const answer = await post<object>("/embed", body);
    expect(answer).toEqual({ status, error: expect.any(String) as string, error_type });
  });
});

describe("POST /similarity", () => {
  it("gives the cosine of each sentence with the source", async () => {
    const [source, ...sentences] = SENTENCES as [string, ...string[]];
    const scores = await post<number[]>("/similarity", {
      inputs: { source_sentence: source, sentences },
    });
    const [first, ...rest] = encode(source, ...sentences);
    expect(scores).toHaveLength(rest.length);
    rest.forEach((vector, i) => {
      expect(scores[i]).toBeCloseTo(
        vector.reduce((sum, x, j) => sum + x * first![j]!, 0),
        6,
      );
    });
    const inputs = { source_sentence: "cat", sentences: ["the cat"] };
    const [same] = await post<number[]>("/similarity", {
      inputs,
      parameters: { prompt_name: "query" },
    });
    const [plain] = await post<number[]>("/similarity", { inputs });
    expect(same).not.toBe(plain);
  });

  it.each([
    ["no sentences", { inputs: { source_sentence: "a", sentences: [] } }, 400],
    ["no source", { inputs: { sentences: ["a"] } }, 422],
    [
      "a sentence that is too long",
      { inputs: { source_sentence: "a", sentences: ["cat ".repeat(99)] } },
      422,
    ],
  ])("refuses %s", async (_, body, status) => {
    expect(await post("/similarity", body)).toMatchObject({ status });
  });
});

it("POST /tokenize gives ids and pieces, with special tokens or without", async () => {
  const inputs = [SENTENCES[0]!, "cat"];
  const answer = await post<{ id: number; text: string; special: boolean }[][]>("/tokenize", {
    inputs,
  });
  expect(answer.map((pieces) => pieces.map(({ id }) => id))).toEqual(
    inputs.map((text) => idsOf(text)),
  );
  expect(answer[1]![0]).toEqual({
    id: idsOf("cat")[0],
    text: "[CLS]",
    special: true,
    start: null,
    stop: null,
  });
  const [bare] = await post<object[][]>("/tokenize", { inputs: "cat", add_special_tokens: false });
  expect(bare!.map((piece) => (piece as { special: boolean }).special)).not.toContain(true);
  expect(bare).toEqual(answer[1]!.slice(1, -1));
});

it("POST /tokenize refuses a text longer than the model takes, and more tokens in sum than the limit", async () => {
  const inputs = ["cat", "a ".repeat(MAX_LENGTH - 2)];
  expect(await post<object[][]>("/tokenize", { inputs })).toMatchObject([
    {},
    { length: MAX_LENGTH },
  ]);
  expect(await post("/tokenize", { inputs: ["cat", "cat ".repeat(400_000)] })).toMatchObject({
    status: 422,
    error: `inputs[1]: longer than the model's ${MAX_LENGTH} tokens`,
  });
  const many = Array.from({ length: 2048 }, () => inputs[1]);
  expect(await post("/tokenize", { inputs: many })).toMatchObject({
    status: 422,
    error: "inputs: more than 65536 tokens in sum; send fewer at a time",
  });
});

it("GET /info has TEI's fields, and what the page shows", async () => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  expect(await (await app.request("/info")).json()).toEqual({
    model_id: "simcse-edge",
    model_sha: service.version,
    model_dtype: "int8",
    model_type: { embedding: { pooling: "mean" } },
    max_concurrent_requests: 128,
    max_input_length: MAX_LENGTH,
    max_batch_tokens: 65_536,
    max_client_batch_size: 2048,
    auto_truncate: false,
    tokenization_workers: 1,
    version,
    dimension: 64,
    prompts: ["query", "passage"],
    sentences: SENTENCES.length,
    model_files: false,
  });
});

it("GET /metrics counts requests, errors and tokens, in Prometheus' format", async () => {
  const fresh = createApp(() => Promise.resolve(service), OPEN);
  const headers = { "content-type": "application/json" };
  for (const inputs of ["cat", "a cat", ""]) {
    await fresh.request("/embed", { method: "POST", headers, body: JSON.stringify({ inputs }) });
  }
  for (let i = 0; i < 3; i++) await fresh.request(`/made-up-${i}`);
  const response = await fresh.request("/metrics");
  expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
  const text = await response.text();
  for (const line of text.trimEnd().split("\n"))
    expect(line).toMatch(/^(# TYPE \w+ \w+|\w+(\{\w+="[^"]*"\})? [\d.e+-]+)$/);
  expect(text).toContain('te_request_count{method="/embed"} 3\n');
  expect(text).toContain('te_request_success{method="/embed"} 2\n');
  expect(text).toContain('te_request_count{method="none"} 3\n');
  expect(text).toContain('te_request_failure{err="validation"} 4\n');
  const tokens = idsOf("cat").length + idsOf("a cat").length;
  expect(text).toContain(`te_request_input_length_sum ${tokens}\n`);
  expect(text).toContain("te_queue_size 1\n");
});
