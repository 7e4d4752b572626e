/** OpenAI's routes: embeddings and the list of models. */
import type { Hono } from "hono";
import * as v from "valibot";
import type { Api } from "./app.ts";
import { embed, inputSchema, tokenize } from "./embed.ts";
import { ApiError } from "./errors.ts";
import { type Limits } from "./limits.ts";
import { readJson } from "./request.ts";

const requestSchema = (limits: Limits) =>
  v.object({
    input: inputSchema(limits),
    model: v.optional(v.string("expected a string")),
    encoding_format: v.optional(
      v.picklist(["float", "base64"], 'expected "float" or "base64"'),
      "float",
    ),
    dimensions: v.optional(
      v.pipe(v.number("expected a number"), v.integer("expected a whole number")),
    ),
  });

export function addOpenAi(app: Hono, { service, limits }: Api): void {
  const Request = requestSchema(limits);

  app.post("/v1/embeddings", async (c) => {
    const request = await readJson(c, Request, limits);
    const { name, model } = await service();
    if (request.model !== undefined && request.model !== name) {
      const message = `"${request.model}" is not served here; use "${name}"`;
      throw new ApiError(404, `model: ${message}`, { param: "model", code: "model_not_found" });
    }
    const { input, encoding_format, dimensions = model.dimension } = request;
    if (dimensions < 1 || dimensions > model.dimension) {
      const message = `expected 1 to ${model.dimension}, found ${dimensions}`;
      throw new ApiError(400, `dimensions: ${message}`, { param: "dimensions" });
    }
    const tokenIds = tokenize(model, input, "input");
    const vectors = await embed(model, tokenIds, { dimensions });
    const data = vectors.map((vector, index) => {
      const embedding = encoding_format === "base64" ? toBase64(vector) : Array.from(vector);
      return { object: "embedding", index, embedding };
    });
    const tokens = tokenIds.reduce((sum, ids) => sum + ids.length, 0);
    const usage = { prompt_tokens: tokens, total_tokens: tokens };
    return c.json({ object: "list", data, model: name, usage });
  });

  app.get("/v1/models", async (c) => {
    const { name } = await service();
    const data = [{ id: name, object: "model", created: 0, owned_by: "simcse-edge" }];
    return c.json({ object: "list", data });
  });
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
