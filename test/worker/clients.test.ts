/** The clients that people have, with their defaults, against the running server. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { OpenAIEmbeddings } from "@langchain/openai";
import { embedMany } from "ai";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { hashOf, makeKey } from "../../src/node/keys.ts";
import { createApp } from "../../worker/app.ts";
import { serviceLoader } from "../../worker/service.ts";
import { settingsOf } from "../../worker/settings.ts";
import { assetsOf, makeTinyProject, SENTENCES, type TinyProject } from "./tiny-model.ts";

const apiKey = makeKey();
let project: TinyProject;
let server: Server;
let baseURL: string;
let expected: Float32Array[];

beforeAll(async () => {
  project = await makeTinyProject();
  const service = await serviceLoader(assetsOf(project.directory), await compileKernels("edge"))();
  const settings = settingsOf({ API_KEY_HASHES: hashOf(apiKey) });
  const app = createApp(() => Promise.resolve(service), settings);
  server = createServer(getRequestListener(app.fetch)).listen(0, "127.0.0.1");
  await once(server, "listening");
  baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  expected = project.model.encode(SENTENCES);
});
afterAll(async () => {
  server?.close();
  await project?.remove();
});

const model = "simcse-edge";
const float32 = (vectors: readonly number[][]) =>
  vectors.map((vector) => Float32Array.from(vector));

describe("openai", () => {
  const client = (key = apiKey) => new OpenAI({ apiKey: key, baseURL });

  it("gets the very vectors with default arguments, which ask for base64", async () => {
    const { data, usage } = await client().embeddings.create({ model, input: [...SENTENCES] });
    expect(float32(data.map(({ embedding }) => embedding))).toEqual(expected);
    expect(usage.prompt_tokens).toBe(usage.total_tokens);
  });

  it("gets the same as floats, of a string, of tokens, cut to dimensions, and for a user", async () => {
    const { embeddings } = client();
    const input = SENTENCES[0]!;
    const tokens = Array.from(project.model.tokenizer.encode(input, 48).ids);
    const bodies = [{ input }, { input: tokens }, { input: [tokens] }] as const;
    for (const body of bodies) {
      for (const encoding_format of ["float", "base64"] as const) {
        const given = { model, encoding_format, user: "someone" };
        const { data } = await embeddings.create({ ...given, ...(body as { input: string }) });
        const { embedding } = data[0] as { embedding: number[] | string };
        const bytes = typeof embedding === "string" ? Buffer.from(embedding, "base64") : undefined;
        const vector = bytes
          ? new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
          : Float32Array.from(embedding as number[]);
        expect(vector).toEqual(expected[0]);
      }
    }
    const { data } = await embeddings.create({ model, input, dimensions: 16 });
    expect(data[0]!.embedding).toHaveLength(16);
  });

  it("lists the model, and finds it by name", async () => {
    const { data } = await client().models.list();
    expect(data.map(({ id }) => id)).toEqual([model]);
    expect((await client().models.retrieve(model)).id).toBe(model);
    await expect(client().models.retrieve("gpt-9")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });

  it("sees errors as its own classes, with message, code and param", async () => {
    const { embeddings } = client();
    await expect(client("wrong").models.list()).rejects.toMatchObject({
      constructor: OpenAI.AuthenticationError,
      code: "invalid_api_key",
      requestID: expect.any(String) as string,
    });
    await expect(embeddings.create({ model: "ada", input: "a" })).rejects.toMatchObject({
      constructor: OpenAI.NotFoundError,
      code: "model_not_found",
    });
    await expect(embeddings.create({ model, input: ["a", ""] })).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      status: 400,
      param: "input[1]",
      type: "invalid_request_error",
      message: "400 input[1]: must not be empty",
    });
  });
});

it("the AI SDK embeds many values, in its own order, and counts tokens", async () => {
  const provider = createOpenAICompatible({ name: "edge", baseURL, apiKey });
  const values = [...SENTENCES];
  const { embeddings, usage } = await embedMany({ model: provider.embeddingModel(model), values });
  expect(float32(embeddings)).toEqual(expected);
  expect(usage.tokens).toBeGreaterThan(values.length);
});

it("LangChain embeds documents and a query", async () => {
  const embeddings = new OpenAIEmbeddings({ model, apiKey, configuration: { baseURL } });
  expect(float32(await embeddings.embedDocuments([...SENTENCES]))).toEqual(expected);
  expect(float32([await embeddings.embedQuery(SENTENCES[0]!)])).toEqual([expected[0]]);
});
