/** The Worker: the app over its static assets, of which only the page is public. */
import { env, waitUntil } from "cloudflare:workers";
import module from "../build/edge.wasm";
import { createApp } from "./app.ts";
import { loadService } from "./service.ts";
import { settingsOf } from "./settings.ts";

/** The host is a formality: a binding needs a whole URL. */
const fetchAsset = (path: string): Promise<Response> => env.ASSETS.fetch(`https://assets${path}`);

const app = createApp(
  () => {
    const service = loadService(fetchAsset, module);
    // Requests share the load, so it must survive the one that began it.
    waitUntil(service.catch(() => undefined));
    return service;
  },
  settingsOf(env),
  fetchAsset,
);

const handler: { fetch(request: Request): Response | Promise<Response> } = {
  fetch: (request) => app.fetch(request),
};

export default handler;
