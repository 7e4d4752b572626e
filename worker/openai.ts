/** OpenAI's routes: embeddings and the list of models. */
import * as v from "valibot";
import { type Precision, quantizeEmbeddings, type Ranges } from "../src/quantize/embeddings.ts";
import type { Api, App } from "./app.ts";
import {
  embed,
  expectDimensions,
  type Input,
  INPUT_TYPES,
  inputSchema,
  promptFor,
  tokenize,
} from "./embed.ts";
import { ApiError } from "./errors.ts";
import type { Limits } from "./limits.ts";
import { readJson } from "./request.ts";

/** OpenAI has the first two; the others are names that other services share. */
const ENCODINGS = ["float", "base64", "int8", "uint8", "binary", "ubinary"] as const;
type Encoding = (typeof ENCODINGS)[number];

export const embeddingsRequest = (limits: Limits): v.GenericSchema<unknown, EmbeddingsRequest> =>
  v.object({
    input: inputSchema(limits),
    model: v.optional(v.string("expected a string")),
    encoding_format: v.optional(
      v.picklist(ENCODINGS, `expected one of ${ENCODINGS.join(", ")}`),
      "float",
    ),
    dimensions: v.optional(
      v.pipe(v.number("expected a number"), v.integer("expected a whole number")),
    ),
    user: v.optional(v.string("expected a string")),
    input_type: v.optional(v.picklist(INPUT_TYPES, `expected one of ${INPUT_TYPES.join(", ")}`)),
    prompt_name: v.optional(v.string("expected a string")),
  });

interface EmbeddingsRequest {
  readonly input: readonly Input[];
  readonly model?: string | undefined;
  readonly encoding_format: Encoding;
  readonly dimensions?: number | undefined;
  readonly input_type?: string | undefined;
  readonly prompt_name?: string | undefined;
}

export function addOpenAi(app: App, api: Api): void {
  const Request = embeddingsRequest(api.limits);

  app.post("/v1/embeddings", async (c) => {
    const request = await readJson(c, Request, api);
    const { name, model } = await api.service();
    if (request.model !== undefined && request.model !== name) {
      const message = `"${request.model}" is not served here; use "${name}"`;
      throw new ApiError(404, `model: ${message}`, { param: "model", code: "model_not_found" });
    }
    const { input, encoding_format: encoding, dimensions = model.dimension } = request;
    expectDimensions(model, dimensions);
    if (encoding.endsWith("binary") && dimensions % 8 !== 0) {
      const message = `${encoding} needs a multiple of 8 dimensions, found ${dimensions}`;
      throw new ApiError(400, `encoding_format: ${message}`, { param: "encoding_format" });
    }
    const { signal } = c.req.raw;
    const prompt = promptFor(model, { name: request.prompt_name, inputType: request.input_type });
    const tokenIds = await tokenize(model, input, api, {
      param: "input",
      signal,
      ...prompt,
    });
    const vectors = await embed(model, tokenIds, { dimensions, signal });
    const data = written(vectors, encoding).map((embedding, index) => ({
      object: "embedding",
      index,
      embedding,
    }));
    const tokens = tokenIds.reduce((sum, ids) => sum + ids.length, 0);
    const usage = { prompt_tokens: tokens, total_tokens: tokens };
    return c.json({ object: "list", data, model: name, usage });
  });

  app.get("/v1/models", async (c) => {
    const { name } = await api.service();
    return c.json({ object: "list", data: [described(name)] });
  });

  app.get("/v1/models/:model{.+}", async (c) => {
    const { name } = await api.service();
    const asked = c.req.param("model");
    if (asked === name) return c.json(described(name));
    const message = `model: "${asked}" is not served here; use "${name}"`;
    throw new ApiError(404, message, { param: "model", code: "model_not_found" });
  });
}

/** A model in OpenAI's list; nobody has asked when it was made. */
function described(id: string): object {
  return { id, object: "model", created: 0, owned_by: "simcse-edge" };
}

function written(vectors: readonly Float32Array[], encoding: Encoding): (string | number[])[] {
  if (encoding === "base64") return vectors.map(toBase64);
  const precision: Precision = encoding === "float" ? "float32" : encoding;
  const ranges = fixedRanges(vectors[0]!.length);
  return quantizeEmbeddings(vectors, precision, ranges).map((vector) => Array.from(vector));
}

/**
 * Ranges of int8 and uint8 that depend on no sample, so that vectors of all requests are comparable: six standard deviations of a
 * component of a unit vector to either side.
 */
function fixedRanges(dimension: number): Ranges {
  const most = new Float32Array(dimension).fill(6 / Math.sqrt(dimension));
  return { min: most.map((x) => -x), max: most };
}

/** Little-endian float32 in base64. Workers have a native encoder, Node 24 has not. */
function toBase64(vector: Float32Array): string {
  const bytes: Uint8Array & { toBase64?: () => string } = new Uint8Array(
    vector.buffer,
    vector.byteOffset,
    vector.byteLength,
  );
  return bytes.toBase64?.() ?? btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
}
