/** Routes of Hugging Face's text-embeddings-inference. */
import * as v from "valibot";
import { promptOf } from "../src/model/prompts.ts";
import { VERSION } from "../src/version.ts";
import type { Api, App } from "./app.ts";
import {
  embed,
  expectDimensions,
  type Input,
  inputSchema,
  listOf,
  promptFor,
  Text,
  textsSchema,
  tokenize,
} from "./embed.ts";
import type { Limits } from "./limits.ts";
import { readJson } from "./request.ts";

const nullish = <S extends v.GenericSchema>(schema: S) => v.optional(v.nullable(schema));
const truncation = {
  truncate: nullish(v.boolean("expected true or false")),
  truncation_direction: nullish(
    v.pipe(
      v.picklist(["Left", "Right", "left", "right"], 'expected "Left" or "Right"'),
      v.transform((side) => side.toLowerCase() as "left" | "right"),
    ),
  ),
  prompt_name: nullish(v.string("expected a string")),
};
interface Truncation {
  readonly truncate?: boolean | null | undefined;
  readonly truncation_direction?: "left" | "right" | null | undefined;
  readonly prompt_name?: string | null | undefined;
}

export interface EmbedRequest extends Truncation {
  readonly inputs: readonly Input[];
  readonly normalize: boolean;
  readonly dimensions?: number | null | undefined;
}
export const embedRequest = (limits: Limits): v.GenericSchema<unknown, EmbedRequest> =>
  v.object({
    inputs: inputSchema(limits),
    normalize: v.optional(v.boolean("expected true or false"), true),
    dimensions: nullish(
      v.pipe(v.number("expected a number"), v.integer("expected a whole number")),
    ),
    ...truncation,
  });

export interface SimilarityRequest {
  readonly inputs: { readonly source_sentence: string; readonly sentences: readonly string[] };
  readonly parameters: Truncation;
}
export const similarityRequest = (limits: Limits): v.GenericSchema<unknown, SimilarityRequest> =>
  v.object({
    inputs: v.object({ source_sentence: Text, sentences: listOf(Text, limits) }),
    parameters: v.optional(v.object(truncation), {}),
  });

export interface TokenizeRequest {
  readonly inputs: readonly string[];
  readonly add_special_tokens: boolean;
  readonly prompt_name?: string | null | undefined;
}
export const tokenizeRequest = (limits: Limits): v.GenericSchema<unknown, TokenizeRequest> =>
  v.object({
    inputs: textsSchema(limits),
    add_special_tokens: v.optional(v.boolean("expected true or false"), true),
    prompt_name: truncation.prompt_name,
  });

export function addTei(app: App, api: Api): void {
  const { limits } = api;
  const [Embed, Similarity, Tokenize] = [
    embedRequest(limits),
    similarityRequest(limits),
    tokenizeRequest(limits),
  ];
  const cut = ({ truncate, truncation_direction: side }: Truncation) => ({
    truncate: truncate ? (side ?? "right") : undefined,
  });

  app.post("/embed", async (c) => {
    const request = await readJson(c, Embed, api);
    const { model } = await api.service();
    const dimensions = request.dimensions ?? model.dimension;
    expectDimensions(model, dimensions);
    const { signal } = c.req.raw;
    const prompt = promptFor(model, { name: request.prompt_name });
    const options = { param: "inputs", signal, ...cut(request), ...prompt };
    const tokenIds = await tokenize(model, request.inputs, api, options);
    const vectors = await embed(model, tokenIds, {
      dimensions,
      normalize: request.normalize,
      signal,
    });
    return c.json(vectors.map((vector) => Array.from(vector)));
  });

  app.post("/similarity", async (c) => {
    const { inputs, parameters } = await readJson(c, Similarity, api);
    const { model } = await api.service();
    const { signal } = c.req.raw;
    const prompt = promptFor(model, { name: parameters.prompt_name });
    const options = { signal, ...cut(parameters), ...prompt };
    const source = await tokenize(model, [inputs.source_sentence], api, {
      param: "inputs.source_sentence",
      ...options,
    });
    const sentences = await tokenize(model, inputs.sentences, api, {
      param: "inputs.sentences",
      ...options,
    });
    const [first, ...rest] = await embed(model, [...source, ...sentences], { signal });
    return c.json(Array.from(model.cosines(first!, rest)));
  });

  app.post("/tokenize", async (c) => {
    const request = await readJson(c, Tokenize, api);
    const { model } = await api.service();
    const { signal } = c.req.raw;
    const prompt = promptFor(model, { name: request.prompt_name });
    // Refuses what is too long without reading all of it: pieces are of a whole text, however long.
    await tokenize(model, request.inputs, api, { param: "inputs", signal, ...prompt });
    const prefix = promptOf(model.config, prompt);
    return c.json(
      request.inputs.map((text) =>
        model.tokenizer
          .pieces(prefix + text, { special: request.add_special_tokens })
          .map((piece) => ({ ...piece, start: null, stop: null })),
      ),
    );
  });

  app.get("/info", async (c) => {
    const { name, model, index, version } = await api.service();
    const { maxLength, pooling, dtype, prompts = {} } = model.config;
    return c.json({
      model_id: name,
      model_sha: version ?? null,
      model_dtype: dtype,
      model_type: { embedding: { pooling: pooling === "avg" ? "mean" : pooling } },
      max_concurrent_requests: limits.concurrent,
      max_input_length: maxLength,
      max_batch_tokens: limits.tokens,
      max_client_batch_size: limits.inputs,
      auto_truncate: false,
      tokenization_workers: 1,
      version: VERSION,
      dimension: model.dimension,
      prompts: Object.keys(prompts),
      sentences: index?.size ?? 0,
      model_files: api.modelFiles !== undefined,
    });
  });

  app.get("/metrics", (c) =>
    c.text(api.metrics.print(api.load.requests), 200, {
      "content-type": "text/plain; version=0.0.4",
    }),
  );
}
