/**
 * Part of `npm run build`: `worker/public/openapi.json`, which describes the HTTP interface. What a request may be comes from the
 * schemas that check it; what an answer is, from the schemas below, which the tests hold real answers against.
 */
import { writeFileSync } from "node:fs";
import { type ConversionConfig, toJsonSchema, toJsonSchemaDefs } from "@valibot/to-json-schema";
import * as v from "valibot";
import { VERSION } from "../src/version.ts";
import { documentsRequest, removeRequest } from "../worker/documents/routes.ts";
import { DEFAULT_LIMITS } from "../worker/limits.ts";
import { embeddingsRequest } from "../worker/openai.ts";
import { searchRequest } from "../worker/search.ts";
import { embedRequest, similarityRequest, tokenizeRequest } from "../worker/tei.ts";

const Whole = v.pipe(v.number(), v.integer(), v.minValue(0));
const Model = v.strictObject({
  id: v.string(),
  object: v.literal("model"),
  created: Whole,
  owned_by: v.string(),
});

const Metadata = v.optional(v.record(v.string(), v.unknown()));
const Document = v.strictObject({
  id: v.string(),
  text: v.string(),
  metadata: Metadata,
  stale: v.optional(v.literal(true)),
});

const schemas = {
  EmbeddingsRequest: embeddingsRequest(DEFAULT_LIMITS),
  Embeddings: v.strictObject({
    object: v.literal("list"),
    data: v.array(
      v.strictObject({
        object: v.literal("embedding"),
        index: Whole,
        embedding: v.union([v.array(v.number()), v.string()]),
      }),
    ),
    model: v.string(),
    usage: v.strictObject({ prompt_tokens: Whole, total_tokens: Whole }),
  }),
  Model,
  Models: v.strictObject({ object: v.literal("list"), data: v.array(Model) }),
  EmbedRequest: embedRequest(DEFAULT_LIMITS),
  Vectors: v.array(v.array(v.number())),
  SimilarityRequest: similarityRequest(DEFAULT_LIMITS),
  Cosines: v.array(v.number()),
  TokenizeRequest: tokenizeRequest(DEFAULT_LIMITS),
  Pieces: v.array(
    v.array(
      v.strictObject({
        id: Whole,
        text: v.string(),
        special: v.boolean(),
        start: v.null(),
        stop: v.null(),
      }),
    ),
  ),
  Info: v.strictObject({
    model_id: v.string(),
    model_sha: v.nullable(v.string()),
    model_dtype: v.string(),
    model_type: v.strictObject({
      embedding: v.strictObject({ pooling: v.union([v.string(), v.array(v.string())]) }),
    }),
    max_concurrent_requests: Whole,
    max_input_length: Whole,
    max_batch_tokens: Whole,
    max_client_batch_size: Whole,
    auto_truncate: v.boolean(),
    tokenization_workers: Whole,
    version: v.string(),
    dimension: Whole,
    prompts: v.array(v.string()),
    sentences: Whole,
    model_files: v.boolean(),
  }),
  SearchRequest: searchRequest(DEFAULT_LIMITS),
  SearchResults: v.strictObject({
    results: v.array(
      v.strictObject({
        id: v.union([v.string(), Whole]),
        text: v.string(),
        score: v.number(),
        metadata: Metadata,
      }),
    ),
  }),
  DocumentsRequest: documentsRequest(DEFAULT_LIMITS),
  Written: v.strictObject({ written: Whole, mutation_id: v.optional(v.string()) }),
  Document,
  Documents: v.strictObject({ documents: v.array(Document), next: v.nullable(v.string()) }),
  RemoveRequest: removeRequest(DEFAULT_LIMITS),
  Removal: v.strictObject({ mutation_id: v.string() }),
  Health: v.strictObject({ status: v.literal("ok") }),
  OpenAiError: v.strictObject({
    error: v.strictObject({
      message: v.string(),
      type: v.string(),
      param: v.nullable(v.string()),
      code: v.nullable(v.string()),
    }),
  }),
  TeiError: v.strictObject({ error: v.string(), error_type: v.string() }),
};
type Name = keyof typeof schemas;
const REQUESTS = (Object.keys(schemas) as Name[]).filter((name) => name.endsWith("Request"));

interface Route {
  readonly method: "get" | "post" | "delete";
  readonly path: string;
  readonly summary: string;
  /** Bodies of answers by status: `text` and `bytes` are no JSON, and `none` is empty. */
  readonly answers: Readonly<Record<number, Name | "text" | "bytes" | "none">>;
  readonly request?: Name;
  readonly query?: readonly string[];
  readonly errors: "OpenAiError" | "TeiError";
  /** Statuses of errors that are not those of every route with or without a body. */
  readonly statuses?: readonly number[];
  /** Answers whether or not the model can be loaded. */
  readonly alone?: boolean;
}

// prettier-ignore
const ROUTES: readonly Route[] = [
  { method: "post", path: "/v1/embeddings", summary: "Vectors of texts or token ids, as OpenAI's", request: "EmbeddingsRequest", answers: { 200: "Embeddings" }, errors: "OpenAiError", statuses: [404] },
  { method: "get", path: "/v1/models", summary: "The one model", answers: { 200: "Models" }, errors: "OpenAiError" },
  { method: "get", path: "/v1/models/{model}", summary: "The model by its name", answers: { 200: "Model" }, errors: "OpenAiError", statuses: [404] },
  { method: "post", path: "/embed", summary: "Vectors, as text-embeddings-inference's", request: "EmbedRequest", answers: { 200: "Vectors" }, errors: "TeiError" },
  { method: "post", path: "/similarity", summary: "Cosines of sentences with one", request: "SimilarityRequest", answers: { 200: "Cosines" }, errors: "TeiError" },
  { method: "post", path: "/tokenize", summary: "Token ids and the pieces of text they stand for", request: "TokenizeRequest", answers: { 200: "Pieces" }, errors: "TeiError" },
  { method: "get", path: "/info", summary: "The model and the limits", answers: { 200: "Info" }, errors: "TeiError" },
  { method: "get", path: "/metrics", summary: "Counters in Prometheus' text format", answers: { 200: "text" }, errors: "TeiError", alone: true },
  { method: "post", path: "/search", summary: "The documents, or sentences, nearest to a query", request: "SearchRequest", answers: { 200: "SearchResults" }, errors: "OpenAiError", statuses: [404, 502] },
  { method: "post", path: "/documents", summary: "Writes documents; one replaces that of the same id. 202: visible soon", request: "DocumentsRequest", answers: { 200: "Written", 202: "Written" }, errors: "OpenAiError", statuses: [404, 502] },
  { method: "get", path: "/documents", summary: "Documents in the order of their ids", query: ["after", "limit"], answers: { 200: "Documents" }, errors: "OpenAiError", statuses: [400, 404] },
  { method: "delete", path: "/documents", summary: "Removes documents. 202: gone soon", request: "RemoveRequest", answers: { 202: "Removal", 204: "none" }, errors: "OpenAiError", statuses: [404, 502] },
  { method: "get", path: "/documents/{id}", summary: "A document", answers: { 200: "Document" }, errors: "OpenAiError", statuses: [404, 502] },
  { method: "delete", path: "/documents/{id}", summary: "Removes a document. 202: gone soon", answers: { 202: "Removal", 204: "none" }, errors: "OpenAiError", statuses: [404, 502] },
  { method: "get", path: "/model/{file}", summary: "A file of the model, where it is shared: manifest.json, or one that it names", answers: { 200: "bytes" }, errors: "OpenAiError", statuses: [404], alone: true },
];

/** What fields of requests mean. */
const FIELDS: Readonly<Record<string, string>> = {
  input: "One text or many.",
  inputs: "One text or many.",
  model: "The name that the server has for its model. Absent: whatever it serves.",
  encoding_format: "base64 is of little-endian float32; int8 and below are codes.",
  dimensions: "The first so many, on the unit sphere again. Absent: all.",
  user: "Is read by nobody.",
  input_type: "What the text is for: chooses one of the model's prompts, if it has one for that.",
  prompt_name: "One of the model's prompts, which is put before every text.",
  normalize: "Whether vectors have length one.",
  truncate: "Whether a text that is too long is cut. If not, it is refused.",
  truncation_direction: "The end that is cut off.",
  source_sentence: "The sentence that the others are compared with.",
  sentences: "As many as a request may have inputs.",
  add_special_tokens: "Whether the tokens that frame a text are listed.",
  query: "A text.",
  top_k: "The most results.",
  threshold: "The least cosine of a result.",
  filter: "Conditions on metadata, in Vectorize's dialect.",
  id: "At most 64 bytes of UTF-8.",
  file: "manifest.json, or a file that it names.",
  text: "A text.",
  metadata: "An object, which filters may ask for.",
  ids: "Of documents; one that is not there is nothing to remove.",
  after: "The id behind which the page begins.",
  limit: "Documents of the page.",
};

const MEANINGS: Readonly<Record<number, string>> = {
  400: "a field is not what it should be",
  401: "no key of this server",
  404: "no such thing here",
  408: "the body did not arrive in time",
  413: "the body is too long; or the store of documents is full, with the code store_full",
  415: "the body is not application/json",
  422: "a field is not what it should be",
  429: "too many requests, of this client or at a time",
  500: "an error of the server",
  502: "Vectorize, where the documents are, answered with an error",
  503: "the model cannot be loaded, or the documents cannot be reached; try again",
};
/** On routes of text-embeddings-inference a 400 says one thing, and a 422 all others. */
const EMPTY = "an input is empty";
const RETRY = { "retry-after": { description: "seconds", schema: { type: "integer" } } };

type Json = ReturnType<typeof toJsonSchema>;

/** JSON Schemas of all components. A lazy schema that gets nothing gives all that it may become. */
function components(): Record<string, Json> {
  const config: ConversionConfig = {
    typeMode: "input",
    ignoreActions: ["check"], // what FIELDS says in words
    overrideRef: ({ referenceId }) => refOf(referenceId as Name).$ref,
  };
  const defs = toJsonSchemaDefs(schemas, {
    ...config,
    overrideSchema({ valibotSchema }): Json | undefined {
      if (valibotSchema.type !== "lazy") return undefined;
      const { getter } = valibotSchema as v.LazySchema<v.GenericSchema>;
      const { $schema: _, ...all } = toJsonSchema(getter(undefined), config);
      return all;
    },
  });
  for (const name of REQUESTS) describe(defs[name]);
  return Object.fromEntries(Object.keys(schemas).map((name) => [name, defs[name as Name]]));
}

/** Says what each field means. */
function describe({ properties = {} }: Json): void {
  for (const [name, schema] of Object.entries(properties) as [string, Json][]) {
    const { type, items } = schema;
    const inner = type === "array" ? (items as Json) : schema;
    if (inner.type === "object") describe(inner);
    else if (FIELDS[name] === undefined) throw new Error(`no word in FIELDS about ${name}`);
    else if (schema.anyOf ?? type ?? schema.enum) schema.description = FIELDS[name];
    // Objects that are checked as a whole.
    else properties[name] = { type: "object", description: FIELDS[name] };
  }
}

function refOf(name: Name): { $ref: string } {
  return { $ref: `#/components/schemas/${name}` };
}

function content(name: Name | "text" | "bytes" | "none"): object {
  if (name === "none") return {};
  if (name === "bytes") return { content: { "application/octet-stream": {} } };
  if (name === "text") return { content: { "text/plain": { schema: { type: "string" } } } };
  return { content: { "application/json": { schema: refOf(name) } } };
}

/** A status of a route that is an error, in the dialect of the route. */
function errorOf(errors: Route["errors"], status: number): [name: string, response: object] {
  const headers = [429, 503].includes(status) && { headers: RETRY };
  const meaning = errors === "TeiError" && status === 400 ? EMPTY : MEANINGS[status];
  return [`${errors}${status}`, { description: meaning, ...headers, ...content(errors) }];
}

function statusesOf({ request, errors, statuses = [], alone = false }: Route): number[] {
  const ofBody = errors === "TeiError" ? [400, 408, 413, 415, 422] : [400, 408, 413, 415];
  const ofModel = alone ? [] : [503];
  const all = [...(request ? ofBody : []), 401, 429, 500, ...ofModel, ...statuses];
  return all.toSorted((a, b) => a - b);
}

function operation(route: Route): object {
  const { method, path, summary, request, query = [], answers, errors } = route;
  const parameter = (place: "path" | "query") => (name: string) => ({
    name,
    in: place,
    required: place === "path",
    ...(FIELDS[name] && { description: FIELDS[name] }),
    schema: { type: name === "limit" ? "integer" : "string" },
  });
  const parameters = [
    ...Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => parameter("path")(name!)),
    ...query.map(parameter("query")),
  ];
  return {
    operationId: `${method}${path.replaceAll(/\W+(.?)/g, (_, next: string) => next.toUpperCase())}`,
    summary,
    security: [{ key: [] }],
    ...(parameters.length > 0 && { parameters }),
    ...(request && { requestBody: { required: true, ...content(request) } }),
    responses: Object.fromEntries([
      ...Object.entries(answers).map(([status, name]) => [
        status,
        { description: "the answer", ...content(name) },
      ]),
      ...statusesOf(route).map((status) => [
        status,
        { $ref: `#/components/responses/${errorOf(errors, status)[0]}` },
      ]),
    ]),
  };
}

/** The description of all routes, in OpenAPI 3.1. */
export function openApi(): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of ROUTES) (paths[route.path] ??= {})[route.method] = operation(route);
  const responses = Object.fromEntries(
    ROUTES.flatMap((route) => statusesOf(route).map((status) => errorOf(route.errors, status))),
  );
  const health = {
    operationId: "health",
    summary: "Whether the model is loaded; loads it if it is not",
    security: [],
    responses: {
      200: { description: "it is", ...content("Health") },
      503: { $ref: "#/components/responses/OpenAiError503" },
    },
  };
  return {
    openapi: "3.1.0",
    info: {
      title: "simcse-edge",
      version: VERSION,
      description:
        "Sentence embeddings and search. Numbers of limits are the defaults. A path that is none of these is a 404, another method a 405. `simcse serve` answers 421 to names of other computers.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    paths: { ...paths, "/health": { get: health } },
    components: {
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
      responses,
      schemas: components(),
    },
  };
}

if (import.meta.main) {
  writeFileSync("worker/public/openapi.json", `${JSON.stringify(openApi(), null, 2)}\n`);
}
