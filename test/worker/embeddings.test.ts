import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { type Encoder, SentenceModel } from "../../src/simcse.ts";
import { type App, createApp } from "../../worker/app.ts";
import { type Service, serviceLoader } from "../../worker/service.ts";
import { errorOf, post } from "./ask.ts";
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
  service = await serviceLoader(assetsOf(project.directory), await compileKernels("edge"))();
  app = createApp(() => Promise.resolve(service), OPEN);
});
afterAll(() => project.remove());

interface Embeddings {
  object: string;
  data: { object: string; index: number; embedding: number[] }[];
  model: string;
  usage: object;
}

async function embed(body: object): Promise<Embeddings> {
  const response = await post(app, "/v1/embeddings", body);
  expect(response.status).toBe(200);
  return (await response.json()) as Embeddings;
}

describe("POST /v1/embeddings", () => {
  it("answers with OpenAI's list, in the order of the inputs, and counts special tokens", async () => {
    const input = [SENTENCES[2]!, SENTENCES[0]!];
    const { object, data, model, usage } = await embed({ input, model: "simcse-edge", user: "me" });
    expect(object).toBe("list");
    expect(model).toBe("simcse-edge");
    expect(data.map(({ object: kind, index }) => [kind, index])).toEqual([
      ["embedding", 0],
      ["embedding", 1],
    ]);
    expect(data.map(({ embedding }) => Float32Array.from(embedding))).toEqual(
      project.model.encode(input),
    );
    const { tokenizer } = project.model;
    const tokens = input.reduce(
      (sum, text) => sum + tokenizer.encode(text, MAX_LENGTH).ids.length,
      0,
    );
    expect(usage).toEqual({ prompt_tokens: tokens, total_tokens: tokens });
  });

  it("gives a string, its token ids, and arrays of one of them the same vector", async () => {
    const text = SENTENCES[0]!;
    const ids = Array.from(project.model.tokenizer.encode(text, MAX_LENGTH).ids);
    const answers = await Promise.all([text, [text], ids, [ids]].map((input) => embed({ input })));
    const [first, ...others] = answers.map(({ data }) => data);
    for (const other of others) expect(other).toEqual(first);
  });

  it("puts the model's default prompt before strings, as the library does, not before token ids", async () => {
    const config = {
      ...service.model.config,
      prompts: { query: "the " },
      defaultPrompt: "query",
    };
    const { tokenizer, dimension } = service.model;
    const encode: Encoder["encode"] = (ids, options) => service.model.encode(ids, options);
    const module = await compileKernels("edge");
    const model = new SentenceModel({ config, dimension, encode }, tokenizer, module);
    const prompted = createApp(() => Promise.resolve({ ...service, model }), OPEN);
    const { ids } = project.model.tokenizer.encode("the cat", MAX_LENGTH);
    const expected = Array.from(project.model.encode(["the cat"])[0]!);
    for (const input of ["cat", Array.from(ids)]) {
      const { data } = (await (
        await post(prompted, "/v1/embeddings", { input })
      ).json()) as Embeddings;
      expect(data[0]!.embedding).toEqual(expected);
    }
  });

  it("encodes base64 as the little-endian bytes of the floats", async () => {
    const [expected] = project.model.encode([SENTENCES[1]!]);
    const answer = await embed({ input: SENTENCES[1], encoding_format: "base64" });
    const bytes = Buffer.from(answer.data[0]!.embedding as unknown as string, "base64");
    expect(bytes.length).toBe(64 * 4);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    expect(Float32Array.from(expected!, (_, i) => view.getFloat32(4 * i, true))).toEqual(expected);
  });

  it("int8 and uint8 keep cosines, in the same codes in every request; binary has the signs", async () => {
    const input = SENTENCES.slice(0, 4);
    const as = async (encoding_format: string, more: object = {}): Promise<number[][]> =>
      (await embed({ input, encoding_format, ...more })).data.map(({ embedding }) => embedding);
    const cosine = (a: number[], b: number[]): number =>
      a.reduce((sum, x, i) => sum + x * b[i]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
    const floats = await as("float");
    const codes = { int8: await as("int8"), uint8: await as("uint8") };
    for (const [type, middle] of [
      ["int8", -0.5],
      ["uint8", 127.5],
    ] as const) {
      const centred = codes[type].map((code) => code.map((x) => x - middle));
      for (const i of [1, 2, 3]) {
        expect(cosine(centred[0]!, centred[i]!)).toBeCloseTo(cosine(floats[0]!, floats[i]!), 2);
      }
    }
    const { data: alone } = await embed({ input: input[2], encoding_format: "int8" });
    expect(alone[0]!.embedding).toEqual(codes.int8[2]);
    const [ubinary, binary] = [await as("ubinary"), await as("binary", { dimensions: 16 })];
    expect(ubinary[0]).toHaveLength(8);
    expect(binary[0]).toHaveLength(2);
    floats[0]!.forEach((x, i) =>
      expect((ubinary[0]![i >> 3]! >> (7 - (i & 7))) & 1).toBe(Number(x > 0)),
    );
    expect(binary[0]).toEqual(ubinary[0]!.slice(0, 2).map((byte) => byte - 128));
    const refused = await post(app, "/v1/embeddings", {
      input,
      encoding_format: "binary",
      dimensions: 12,
    });
    expect(await errorOf(refused)).toMatchObject({ status: 400, param: "encoding_format" });
  });

  it("input_type and prompt_name choose among the model's prompts", async () => {
    const { tokenizer, dimension, config } = service.model;
    const prompts = { query: "the ", passage: "a ", other: "on " };
    const encode: Encoder["encode"] = (ids, options) => service.model.encode(ids, options);
    const module = await compileKernels("edge");
    const of = (more: Partial<typeof config>) => {
      const model = new SentenceModel(
        { config: { ...config, ...more }, dimension, encode },
        tokenizer,
        module,
      );
      return createApp(() => Promise.resolve({ ...service, model }), OPEN);
    };
    const prompted = of({ prompts, defaultPrompt: "other" });
    const expected = (text: string) => Array.from(project.model.encode([text])[0]!);
    for (const [body, text] of [
      [{}, "on cat"],
      [{ input_type: "query" }, "the cat"],
      [{ input_type: "search_query" }, "the cat"],
      [{ input_type: "document" }, "a cat"],
      [{ input_type: "passage" }, "a cat"],
      [{ prompt_name: "passage" }, "a cat"],
    ] as const) {
      const { data } = (await (
        await post(prompted, "/v1/embeddings", { input: "cat", ...body })
      ).json()) as Embeddings;
      expect(data[0]!.embedding).toEqual(expected(text));
    }
    const symmetric = await post(of({}), "/v1/embeddings", { input: "cat", input_type: "query" });
    expect(((await symmetric.json()) as Embeddings).data[0]!.embedding).toEqual(expected("cat"));
    for (const [param, value] of [
      ["prompt_name", "constructor"],
      ["input_type", "__proto__"],
    ] as const) {
      const refused = await post(prompted, "/v1/embeddings", { input: "cat", [param]: value });
      expect(await errorOf(refused)).toMatchObject({ status: 400, param });
    }
  });

  it("dimensions keeps the head of a vector and its direction, on the unit sphere", async () => {
    const [whole] = project.model.encode([SENTENCES[3]!]);
    const { data } = await embed({ input: SENTENCES[3], dimensions: 8 });
    const { embedding } = data[0]!;
    expect(embedding).toHaveLength(8);
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 6);
    const scale = whole![0]! / embedding[0]!;
    embedding.forEach((x, i) => expect(x * scale).toBeCloseTo(whole![i]!, 6));
    const { data: all } = await embed({ input: SENTENCES[3], dimensions: 64 });
    expect(Float32Array.from(all[0]!.embedding)).toEqual(whole);
  });

  it("takes 2048 inputs, each with the vector it has alone", async () => {
    const input = Array.from({ length: 2048 }, (_, i) => SENTENCES[i % SENTENCES.length]!);
    const { data } = await embed({ input });
    expect(data).toHaveLength(2048);
    expect(data[2047]!.embedding).toEqual((await embed({ input: input[2047] })).data[0]!.embedding);
  });

  const long = "cat ".repeat(100);
  it.each([
    ["a body that is not JSON", "{nope", null],
    ["an empty body", "", null],
    ["a body that is no object", "null", null],
    ["no input", {}, "input"],
    ["an input of another kind", { input: 3 }, "input"],
    ["an empty string", { input: "" }, "input"],
    ["an empty array", { input: [] }, "input"],
    ["an empty string among others", { input: ["a", "b", ""] }, "input[2]"],
    ["an empty token array among others", { input: [[5], []] }, "input[1]"],
    ["a mixed array", { input: ["a", 3] }, "input[1]"],
    ["a mixed token array", { input: [3, "a"] }, "input[1]"],
    ["2049 inputs", { input: Array.from({ length: 2049 }, () => "a") }, "input"],
    ["a text of too many tokens", { input: long }, "input"],
    ["a text of too many tokens among others", { input: ["a", long] }, "input[1]"],
    ["too many token ids", { input: Array.from({ length: MAX_LENGTH + 1 }, () => 5) }, "input"],
    ["a token id past the vocabulary", { input: [[5], [5, 100_000]] }, "input[1]"],
    ["a negative token id", { input: [-1] }, "input"],
    ["a fraction as token id", { input: [[1.5]] }, "input[0][0]"],
    ["an unknown encoding", { input: "a", encoding_format: "hex" }, "encoding_format"],
    ["no dimensions", { input: "a", dimensions: 0 }, "dimensions"],
    ["more dimensions than there are", { input: "a", dimensions: 65 }, "dimensions"],
    ["half a dimension", { input: "a", dimensions: 1.5 }, "dimensions"],
  ])("answers %s with 400 and the field", async (_, body, param) => {
    const response = await post(app, "/v1/embeddings", body);
    const expected = { status: 400, type: "invalid_request_error", param, code: null };
    expect(await errorOf(response)).toMatchObject(expected);
  });

  it("answers another model's name with 404 and OpenAI's code", async () => {
    const response = await post(app, "/v1/embeddings", {
      input: "a",
      model: "text-embedding-3-small",
    });
    expect(await errorOf(response)).toMatchObject({
      status: 404,
      param: "model",
      code: "model_not_found",
    });
  });

  it("refuses a body past 2 MB, whether its length is told or not", async () => {
    const body = JSON.stringify({ input: "a".repeat(2_000_001) });
    expect(await errorOf(await post(app, "/v1/embeddings", body))).toMatchObject({ status: 413 });
    const stream = new Blob([body]).stream();
    const headers = { "content-type": "application/json" };
    const init = { method: "POST", headers, body: stream, duplex: "half" };
    const response = await app.request("/v1/embeddings", init);
    expect(await errorOf(response)).toMatchObject({ status: 413 });
  });

  it.each([NaN, Infinity, 0])(
    "answers a vector of %f with 500, never with nulls",
    async (value) => {
      const silent = vi.spyOn(console, "error").mockImplementation(() => undefined);
      const { config, dimension, tokenizer } = service.model;
      const encode = () => [new Float32Array(dimension).fill(value)];
      const module = await compileKernels("edge");
      const model = new SentenceModel({ config, dimension, encode }, tokenizer, module);
      const broken = createApp(() => Promise.resolve({ ...service, model }), OPEN);
      for (const encoding_format of ["float", "base64", "int8"]) {
        const response = await post(broken, "/v1/embeddings", { input: "a", encoding_format });
        expect(await errorOf(response)).toMatchObject({ status: 500, type: "server_error" });
      }
      expect(silent.mock.calls[0]).toEqual([expect.stringContaining("zero or not finite")]);
      silent.mockRestore();
    },
  );

  it("a long request lets a short one pass, and ends when its client leaves", async () => {
    const { config, dimension, tokenizer } = service.model;
    let batches = 0;
    let leave: AbortController | undefined;
    const encode = (ids: readonly (Int32Array | readonly number[])[]) => {
      if (++batches === 2) leave?.abort();
      return ids.map(() => new Float32Array(dimension).fill(1));
    };
    const module = await compileKernels("edge");
    const model = new SentenceModel({ config, dimension, encode }, tokenizer, module);
    const slow = createApp(() => Promise.resolve({ ...service, model }), OPEN);
    const input = Array.from({ length: 2048 }, () => "a");
    let done = false;
    const patient = post(slow, "/v1/embeddings", { input }).then(() => (done = true));
    expect((await post(slow, "/v1/embeddings", { input: "a" })).status).toBe(200);
    expect(done).toBe(false);
    await patient;
    const whole = batches - 1;
    expect(whole).toBeGreaterThan(10);

    batches = 0;
    leave = new AbortController();
    const headers = { "content-type": "application/json" };
    const init = {
      method: "POST",
      headers,
      body: JSON.stringify({ input }),
      signal: leave.signal,
    };
    expect((await slow.request("/v1/embeddings", init)).status).toBe(499);
    expect(batches).toBe(2);
  });
});
