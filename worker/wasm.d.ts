/** The parts of the Workers runtime that are used here. */

declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}

declare module "cloudflare:workers" {
  /** Bindings of `wrangler.jsonc`. */
  export const env: {
    readonly ASSETS?: import("./sources.ts").Assets;
    readonly WEIGHTS?: import("./sources.ts").Bucket;
    readonly DOCUMENTS?: import("./documents/remote.ts").ObjectNamespace;
    readonly VECTORIZE?: import("./documents/vectorize.ts").VectorizeIndex;
    readonly [variable: string]: unknown;
  };
  /** Lets a promise outlive the request that began it. */
  export function waitUntil(promise: Promise<unknown>): void;
  /** A class whose methods other Workers call. */
  export abstract class DurableObject {
    protected readonly ctx: import("./documents/durable-object.ts").ObjectState;
    constructor(
      state: import("./documents/durable-object.ts").ObjectState,
      env: Readonly<Record<string, unknown>>,
    );
  }
}
