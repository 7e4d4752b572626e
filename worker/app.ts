/**
 * The HTTP interface: embeddings and errors in OpenAI's dialect, and search. A function from Request to Response that
 * knows no runtime: `index.ts` runs it in a Worker, the command line in Node, the tests call it.
 */
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { methodNotAllowed } from "hono/method-not-allowed";
import { secureHeaders } from "hono/secure-headers";
import * as v from "valibot";
import { promptOf } from "../src/model/prompts.ts";
import { truncate } from "../src/quantize/embeddings.ts";
import type { TokenIds } from "../src/simcse.ts";
import type { FetchAsset, Service } from "./service.ts";

const MAX_BODY_BYTES = 1_000_000;
const MAX_INPUTS = 256;
const MAX_RESULTS = 50;
const RETRY_AFTER_SECONDS = "10";

/** Public files, by the path they are asked for. */
const PAGE = ["/", "/search.js", "/style.css", "/icon.svg"];

/** What went wrong, as OpenAI's clients read it. */
class ApiError extends Error {
  readonly status: ContentfulStatusCode;
  readonly param: string | null;
  readonly code: string | null;

  constructor(
    status: ContentfulStatusCode,
    message: string,
    { param = null, code = null }: { param?: string | null; code?: string | null } = {},
  ) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }

  toJSON(): object {
    const type = this.status >= 500 ? "server_error" : "invalid_request_error";
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }
}

const Text = v.pipe(v.string("expected a string"), v.nonEmpty("must not be empty"));
const TokenIds = v.pipe(
  v.array(v.pipe(v.number("expected a token id"), v.integer("expected a whole number"))),
  v.nonEmpty("must not be empty"),
);

/** One text or many, each a string or token ids. The first element decides, so that errors name the odd one out. */
const Input = v.lazy((input) => {
  if (typeof input === "string") {
    return v.pipe(
      Text,
      v.transform((text) => [text]),
    );
  }
  if (!Array.isArray(input)) return v.never("expected a string, an array of strings or token ids");
  if (typeof input[0] === "number") {
    return v.pipe(
      TokenIds,
      v.transform((ids) => [ids]),
    );
  }
  return v.pipe(
    v.array<typeof Text | typeof TokenIds>(Array.isArray(input[0]) ? TokenIds : Text),
    v.nonEmpty("must not be empty"),
    v.maxLength(MAX_INPUTS, (issue) => `expected at most ${MAX_INPUTS}, found ${issue.received}`),
  );
});

const EmbeddingsRequest = v.object({
  input: Input,
  model: v.optional(v.string("expected a string")),
  encoding_format: v.optional(
    v.picklist(["float", "base64"], 'expected "float" or "base64"'),
    "float",
  ),
  dimensions: v.optional(
    v.pipe(v.number("expected a number"), v.integer("expected a whole number")),
  ),
});

const SearchRequest = v.object({
  query: Text,
  top_k: v.optional(
    v.pipe(
      v.number("expected a number"),
      v.integer("expected a whole number"),
      v.minValue(1, "expected at least 1"),
      v.maxValue(MAX_RESULTS, `expected at most ${MAX_RESULTS}`),
    ),
    5,
  ),
  threshold: v.optional(v.number("expected a number"), -1),
});

/**
 * The app over a model that is loaded when a request first needs it. `fetchPage` answers the paths of the search page;
 * without it there is none.
 *
 * | route                 |                                                                                  |
 * | --------------------- | -------------------------------------------------------------------------------- |
 * | `POST /v1/embeddings` | OpenAI's: `input`, `model`, `encoding_format`, `dimensions`                      |
 * | `GET /v1/models`      | OpenAI's list, of one model                                                      |
 * | `POST /search`        | `query`, `top_k` (1 to 50), `threshold` → `results` of `id`, `text`, `score`     |
 * | `GET /info`           | `model`, `dimension`, `max_length`, `pooling`, `dtype`, `sentences` in the index |
 * | `GET /health`         | 200 once the model is loaded, 503 while it cannot be                             |
 */
export function createApp(loadService: () => Promise<Service>, fetchPage?: FetchAsset): Hono {
  const app = new Hono();
  let loading: Promise<Service> | undefined;

  /** All requests share one load. A failure is tried once more, and never kept. */
  const service = (): Promise<Service> => {
    loading ??= loadService()
      .catch(() => loadService())
      .catch((error: unknown) => {
        loading = undefined;
        console.error(error);
        throw new ApiError(503, "the model cannot be loaded; try again later");
      });
    return loading;
  };

  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
      xFrameOptions: "DENY",
    }),
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        const allow = methods.join(", ");
        const error = new ApiError(405, `${c.req.method} ${c.req.path}: expected ${allow}`);
        return c.json(error, 405, { Allow: allow });
      },
    }),
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: () => {
        throw new ApiError(413, `the body is longer than ${MAX_BODY_BYTES} bytes`);
      },
    }),
  );
  app.notFound((c) => c.json(new ApiError(404, `${c.req.path}: no such route`), 404));
  app.onError((cause, c) => {
    if (!(cause instanceof ApiError)) console.error(cause);
    const error = cause instanceof ApiError ? cause : new ApiError(500, "internal error");
    if (error.status === 503) c.header("Retry-After", RETRY_AFTER_SECONDS);
    return c.json(error, error.status);
  });

  app.post("/v1/embeddings", async (c) => {
    const request = parse(EmbeddingsRequest, await c.req.text());
    const { model, encoder, tokenizer } = await service();
    if (request.model !== undefined && request.model !== model) {
      const message = `"${request.model}" is not served here; use "${model}"`;
      throw new ApiError(404, `model: ${message}`, { param: "model", code: "model_not_found" });
    }
    const { input, encoding_format, dimensions = encoder.dimension } = request;
    if (dimensions < 1 || dimensions > encoder.dimension) {
      const message = `expected 1 to ${encoder.dimension}, found ${dimensions}`;
      throw new ApiError(400, `dimensions: ${message}`, { param: "dimensions" });
    }
    const tokenIds = tokenize({ encoder, tokenizer }, input, "input");
    const data = (await encoder.encode(tokenIds)).map((whole, index) => {
      if (!whole.every(Number.isFinite)) throw new Error("internal: an embedding is not finite");
      const vector = truncate(whole, dimensions);
      const embedding = encoding_format === "base64" ? toBase64(vector) : Array.from(vector);
      return { object: "embedding", index, embedding };
    });
    const tokens = tokenIds.reduce((sum, ids) => sum + ids.length, 0);
    const usage = { prompt_tokens: tokens, total_tokens: tokens };
    return c.json({ object: "list", data, model, usage });
  });

  app.get("/v1/models", async (c) => {
    const { model } = await service();
    const data = [{ id: model, object: "model", created: 0, owned_by: "simcse-edge" }];
    return c.json({ object: "list", data });
  });

  app.post("/search", async (c) => {
    const { query, top_k: topK, threshold } = parse(SearchRequest, await c.req.text());
    const { encoder, tokenizer, index } = await service();
    if (!index) throw new ApiError(404, "there are no sentences to search here");
    const tokenIds = tokenize({ encoder, tokenizer }, [query], "query");
    const [vector] = await encoder.encode(tokenIds);
    return c.json({
      results: index.search(truncate(vector!, index.dimension), { topK, threshold }),
    });
  });

  app.get("/info", async (c) => {
    const { model, encoder, index } = await service();
    const { maxLength, pooling, dtype } = encoder.config;
    return c.json({
      model,
      dimension: encoder.dimension,
      max_length: maxLength,
      pooling,
      dtype,
      sentences: index?.size ?? 0,
    });
  });

  app.get("/health", async (c) => {
    await service();
    return c.json({ status: "ok" });
  });

  if (fetchPage) {
    for (const path of PAGE) {
      app.get(path, async (c) => {
        const file = await fetchPage(path);
        return file.ok ? new Response(file.body, file) : c.notFound();
      });
    }
  }
  return app;
}

/** Reads a JSON body, or says which field is wrong and how. */
function parse<S extends v.GenericSchema>(schema: S, body: string): v.InferOutput<S> {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new ApiError(400, "the body is not JSON");
  }
  const { success, issues, output } = v.safeParse(schema, json, { abortEarly: true });
  if (success) return output;
  const [{ message, path = [] }] = issues;
  const param = path.map(({ key }) => (typeof key === "number" ? `[${key}]` : key)).join("");
  throw new ApiError(400, param ? `${param}: ${message}` : message, { param: param || null });
}

/** Token ids that the encoder will take, of texts or token ids that a client sent as `param`. */
function tokenize(
  { encoder, tokenizer }: Pick<Service, "encoder" | "tokenizer">,
  inputs: readonly (string | readonly number[])[],
  param: string,
): TokenIds[] {
  const {
    maxLength,
    encoder: { vocabSize },
  } = encoder.config;
  const prompt = promptOf(encoder.config);
  return inputs.map((input, i) => {
    const fail = (message: string): never => {
      const name = inputs.length === 1 ? param : `${param}[${i}]`;
      throw new ApiError(400, `${name}: ${message}`, { param: name });
    };
    if (typeof input === "string") {
      const { ids, truncated } = tokenizer.encode(prompt + input, maxLength);
      return truncated ? fail(`longer than the model's ${maxLength} tokens`) : ids;
    }
    if (input.length > maxLength) fail(`longer than the model's ${maxLength} tokens`);
    const alien = input.find((id) => id < 0 || id >= vocabSize);
    if (alien !== undefined) fail(`token id ${alien} is outside the vocabulary of ${vocabSize}`);
    return input;
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
