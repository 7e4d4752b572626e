/**
 * The HTTP interface: embeddings in the dialects of OpenAI and of text-embeddings-inference, and search. A function from
 * Request to Response that knows no runtime: `index.ts` runs it in a Worker, the command line in Node, the tests call it.
 */
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { routePath } from "hono/route";
import { secureHeaders } from "hono/secure-headers";
import { authenticate, type ClientVariables } from "./auth.ts";
import { addDocuments } from "./documents/routes.ts";
import type { DocumentStore } from "./documents/store.ts";
import { ApiError, inDialect, teiType } from "./errors.ts";
import { type Limits, Load, spend } from "./limits.ts";
import { Metrics } from "./metrics.ts";
import { addModelFiles } from "./model-files.ts";
import { addOpenAi } from "./openai.ts";
import { addSearch } from "./search.ts";
import type { Service } from "./service.ts";
import type { Settings } from "./settings.ts";
import { addTei } from "./tei.ts";
import type { FetchAsset } from "./weights.ts";

const LOAD_RETRY_SECONDS = 10;

/** Public files, by the path they are asked for: the page, the app in its tab, and the description of the routes. */
const PAGE = [
  "/",
  "/search.js",
  "/api.js",
  "/style.css",
  "/icon.svg",
  "/tab.js",
  "/edge.wasm",
  "/portable.wasm",
  "/openapi.json",
];

export type App = Hono<ClientVariables>;

/** What the routes work with. */
export interface Api {
  /** The model, loaded once for all requests. */
  readonly service: () => Promise<Service>;
  readonly limits: Limits;
  readonly load: Load;
  readonly metrics: Metrics;
  /** Where clients keep documents, which are then what is searched. */
  readonly documents: DocumentStore | undefined;
  /** The files of the model, for clients that compute vectors themselves. */
  readonly modelFiles: FetchAsset | undefined;
}

/**
 * The app over a model that is loaded when a request first needs it. `fetchFile` answers the paths of the search page, and
 * of a model that is shared those of its files; without it there is neither. `documents` keeps what clients write; without it
 * they cannot. Anybody may ask for the health and, unless the server is closed, for the page, which shows
 * nothing by itself; all else is for whom `settings.access` allows.
 *
 * | route                          |                                                              |
 * | ------------------------------ | ------------------------------------------------------------ |
 * | `POST /v1/embeddings`          | `worker/openai.ts`                                           |
 * | `GET /v1/models`, `/v1/models/…` | the one model                                              |
 * | `POST /embed`, `/similarity`, `/tokenize` | `worker/tei.ts`                                   |
 * | `GET /info`, `/metrics`        |                                                              |
 * | `POST /search`                 | `worker/search.ts`                                           |
 * | `POST`, `GET`, `DELETE /documents`, `/documents/…` | `worker/documents/routes.ts`             |
 * | `GET /model/…`                 | `worker/model-files.ts`                                      |
 * | `GET /health`                  | 200 once the model is loaded, 503 while it cannot be         |
 */
export function createApp(
  loadService: () => Promise<Service>,
  { access, limits, corsOrigins, rateLimit, shareModel }: Settings,
  fetchFile?: FetchAsset,
  documents?: DocumentStore,
): App {
  const app: App = new Hono<ClientVariables>();
  app.use(requestId(), secureHeaders(SECURE_HEADERS));
  if (corsOrigins.length > 0) {
    app.use(
      cors({
        origin: [...corsOrigins],
        allowMethods: ["GET", "POST", "DELETE"],
        allowHeaders: ["Authorization", "Content-Type"],
        exposeHeaders: ["Retry-After", "X-Request-Id"],
        maxAge: 600,
      }),
    );
  }
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        const allow = methods.join(", ");
        const details = { code: "method_not_supported", headers: { allow } };
        const message = `${c.req.method} ${c.req.path}: expected ${allow}`;
        return answer(c, new ApiError(405, message, details));
      },
    }),
  );
  app.notFound((c) => answer(c, new ApiError(404, `${c.req.path}: no such route`)));
  app.onError((cause, c) => {
    if (cause instanceof ApiError) return answer(c, cause);
    // The client has left; nobody will read this.
    if (c.req.raw.signal.aborted) return new Response(null, { status: 499 });
    logWithoutText(cause);
    return answer(c, new ApiError(500, "internal error"));
  });

  const load = new Load(limits);
  const metrics = new Metrics();
  const modelFiles = shareModel ? fetchFile : undefined;
  const service = sharedLoad(loadService);
  const api: Api = { service, limits, load, metrics, documents, modelFiles };
  app.get("/health", async (c) => {
    await api.service();
    return c.json({ status: "ok" });
  });
  if (fetchFile && access.kind !== "closed") addPage(app, fetchFile);

  app.use(async (c, next) => {
    const start = performance.now();
    await next();
    // No path is the name of a series: anybody can make up as many as he likes.
    const route = c.res.status === 404 || c.res.status === 401 ? "none" : routePath(c, -1);
    const error = c.res.ok ? undefined : teiType(c.res.status);
    metrics.request(route, (performance.now() - start) / 1000, error);
  });
  app.use(authenticate(access), async (c, next) => {
    if (rateLimit) await spend(rateLimit, c.get("client"));
    c.header("cache-control", "no-store");
    await load.admit(next);
  });
  addOpenAi(app, api);
  addTei(app, api);
  addSearch(app, api);
  addDocuments(app, api);
  addModelFiles(app, api);
  return app;
}

const SECURE_HEADERS: Parameters<typeof secureHeaders>[0] = {
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'", "'wasm-unsafe-eval'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'"],
    connectSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
  xFrameOptions: "DENY",
};

function addPage(app: App, fetchFile: FetchAsset): void {
  for (const path of PAGE) {
    app.get(path, async (c) => {
      const file = await fetchFile(path);
      return file.ok ? new Response(file.body, file) : c.notFound();
    });
  }
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

/** Where an error came from. Its message may quote a client's text, unless it is one of ours for what cannot happen. */
function logWithoutText({ name, message, stack = "" }: Error): void {
  const frames = stack.slice(Math.max(0, stack.indexOf("\n    at ")));
  console.error(
    `${name}: ${message.startsWith("internal:") ? message : "(message withheld)"}${frames}`,
  );
}
