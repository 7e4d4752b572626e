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
  dimensions: v.optional(v.pipe(v.number("expected a number"), v.integer("expected a whole number"))),
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
      throw new ApiError(404, `model: ${JSON.stringify(request.model)} is not served here, ${JSON.stringify(model)} is`, { param: "model", code: "model_not_found" });
    }
    const { dimensions = encoder.dimension } = request;
    if (!(dimensions >= 1 && dimensions <= encoder.dimension)) {
      throw new ApiError(400, `dimensions: expected 1 to ${encoder.dimension}, found ${dimensions}`, { param: "dimensions" });
    }
  });
  return app;
}
