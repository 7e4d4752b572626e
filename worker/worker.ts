/** The app as a Cloudflare Worker. */
import { env, waitUntil } from "cloudflare:workers";
import kernels from "../build/edge.wasm";
import { createApp } from "./app.ts";
import { remoteDocuments } from "./documents/remote.ts";
import type { DocumentStore } from "./documents/store.ts";
import { vectorizeDocuments } from "./documents/vectorize.ts";
import { serviceLoader } from "./service.ts";
import { settingsOf } from "./settings.ts";
import { fromAssets, fromBucket } from "./sources.ts";
import type { FetchAsset } from "./weights.ts";

export { createApp } from "./app.ts";
export { Documents } from "./documents/durable-object.ts";
export { fromAssets, fromBucket, fromModules } from "./sources.ts";

export interface WorkerHandler {
  fetch(request: Request): Response | Promise<Response>;
}

/**
 * The Worker over the model of a source; by default that of the R2 bucket bound as WEIGHTS, and without one that of the static
 * assets. Its search page comes from the assets, of which nothing else is public. Documents are kept in the Vectorize index bound
 * as VECTORIZE, or in the Durable Object bound as DOCUMENTS.
 */
export function createWorker(source: FetchAsset = defaultSource()): WorkerHandler {
  const load = serviceLoader(source, kernels);
  const app = createApp(
    () => {
      const service = load();
      // Requests share the load, so it must survive the one that began it.
      waitUntil(service.catch(() => undefined));
      return service;
    },
    settingsOf(env),
    env.ASSETS && withModel(fromAssets(env.ASSETS), source),
    boundDocuments(),
  );
  return { fetch: (request) => app.fetch(request) };
}

/** The page's files, and those of the model, which may be elsewhere. */
function withModel(page: FetchAsset, model: FetchAsset): FetchAsset {
  return (path) => (path.startsWith("/model/") ? model(path) : page(path));
}

function defaultSource(): FetchAsset {
  if (env.WEIGHTS) return fromBucket(env.WEIGHTS);
  if (env.ASSETS) return fromAssets(env.ASSETS);
  throw new Error(
    "no model: expected a binding ASSETS or WEIGHTS in wrangler.jsonc, found neither",
  );
}

function boundDocuments(): DocumentStore | undefined {
  if (env.VECTORIZE) return vectorizeDocuments(env.VECTORIZE);
  return env.DOCUMENTS && remoteDocuments(env.DOCUMENTS);
}
