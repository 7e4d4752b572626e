/**
 * The HTTP interface: embeddings in the dialects of OpenAI and of text-embeddings-inference, and search. A function from
 * Request to Response that knows no runtime: `index.ts` runs it in a Worker, the command line in Node, the tests call it.
 */
import { type Context, Hono } from "hono";
import { methodNotAllowed } from "hono/method-not-allowed";
import { secureHeaders } from "hono/secure-headers";
import { ApiError, inDialect } from "./errors.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import { addOpenAi } from "./openai.ts";
import { addSearch } from "./search.ts";
import type { FetchAsset, Service } from "./service.ts";
import { addTei } from "./tei.ts";

const LOAD_RETRY_SECONDS = 10;

/** Public files, by the path they are asked for. */
const PAGE = ["/", "/search.js", "/style.css", "/icon.svg"];

/** What the routes work with. */
export interface Api {
  /** The model, loaded once for all requests. */
  readonly service: () => Promise<Service>;
  readonly limits: Limits;
}

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
        const message = `${c.req.method} ${c.req.path}: expected ${allow}`;
        return answer(c, new ApiError(405, message, { headers: { Allow: allow } }));
      },
    }),
  );
  app.notFound((c) => answer(c, new ApiError(404, `${c.req.path}: no such route`)));
  app.onError((cause, c) => {
    if (cause instanceof ApiError) return answer(c, cause);
    console.error(cause);
    return answer(c, new ApiError(500, "internal error"));
  });

  const api: Api = { service: sharedLoad(loadService), limits: DEFAULT_LIMITS };
  addOpenAi(app, api);
  addTei(app, api);
  addSearch(app, api);

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

/** All requests share one load. A failure is tried once more, and never kept. */
function sharedLoad(loadService: () => Promise<Service>): () => Promise<Service> {
  let loading: Promise<Service> | undefined;
  return () =>
    (loading ??= loadService()
      .catch(() => loadService())
      .catch((error: unknown) => {
        loading = undefined;
        console.error(error);
        const message = "the model cannot be loaded; try again later";
        throw new ApiError(503, message, { retryAfter: LOAD_RETRY_SECONDS });
      }));
}

function answer(c: Context, error: ApiError): Response {
  const { status, body } = inDialect(c.req.path, error);
  return c.json(body, status, error.headers);
}
