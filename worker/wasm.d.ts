/** The parts of the Workers runtime that `worker.ts` touches. */

declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}

declare module "cloudflare:workers" {
  /** Bindings of `wrangler.jsonc`. */
  export const env: {
    readonly ASSETS?: import("./sources.ts").Assets;
    readonly WEIGHTS?: import("./sources.ts").Bucket;
    readonly [variable: string]: unknown;
  };
  /** Lets a promise outlive the request that began it. */
  export function waitUntil(promise: Promise<unknown>): void;
}
