/** The app as a Cloudflare Worker. */
import { env, waitUntil } from "cloudflare:workers";
import kernels from "../build/edge.wasm";
import { createApp } from "./app.ts";
import { serviceLoader } from "./service.ts";
import { settingsOf } from "./settings.ts";
import { fromAssets, fromBucket } from "./sources.ts";
import type { FetchAsset } from "./weights.ts";

export { createApp } from "./app.ts";
export { fromAssets, fromBucket, fromModules } from "./sources.ts";

export interface WorkerHandler {
  fetch(request: Request): Response | Promise<Response>;
}

/**
 * The Worker over the model of a source; by default that of the R2 bucket bound as WEIGHTS, and without one that of the static
 * assets. Its search page comes from the assets, of which nothing else is public.
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
    env.ASSETS && fromAssets(env.ASSETS),
  );
  return { fetch: (request) => app.fetch(request) };
}

function defaultSource(): FetchAsset {
  if (env.WEIGHTS) return fromBucket(env.WEIGHTS);
  if (env.ASSETS) return fromAssets(env.ASSETS);
  throw new Error(
    "no model: expected a binding ASSETS or WEIGHTS in wrangler.jsonc, found neither",
  );
}
