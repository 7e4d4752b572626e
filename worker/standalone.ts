/** The app where there are no bindings: Node, Deno, Bun, and functions of other clouds. */
import { type App, createApp } from "./app.ts";
import { serviceLoader } from "./service.ts";
import { settingsOf } from "./settings.ts";
import type { FetchAsset } from "./weights.ts";

export { fromBucket, fromModules } from "./sources.ts";
export type { App, FetchAsset };

/**
 * The routes over the model of a source, loaded when a request first needs it; `fetch` of what comes back answers a request.
 * `source` answers a path of a Worker project's `public` folder, such as `/model/manifest.json`; other paths of it are the page.
 * `kernels` is the edge binary (or portable), compiled; `env` the variables of docs/security.md: without any, nobody gets in.
 *
 *     const app = openApp((path) => fetch(`https://example.com/files${path}`), kernels, { PUBLIC: "true" });
 *     Deno.serve(app.fetch);
 */
export function openApp(
  source: FetchAsset,
  kernels: WebAssembly.Module,
  env: Readonly<Record<string, unknown>> = {},
): App {
  return createApp(serviceLoader(source, kernels), settingsOf(env), pageOf(source));
}

/** The page's files, by the paths that they are asked for, of a source that knows no media types. */
export function pageOf(source: FetchAsset): FetchAsset {
  return async (path) => {
    const name = path === "/" ? "/index.html" : path;
    const response = await source(name);
    const headers = new Headers(response.headers);
    headers.set("content-type", TYPES[name.split(".").at(-1)!] ?? "application/octet-stream");
    return new Response(response.body, { status: response.status, headers });
  };
}

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  json: "application/json",
  wasm: "application/wasm",
};
