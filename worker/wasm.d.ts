/** The parts of the Workers runtime that `index.ts` touches. */

declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}

declare module "cloudflare:workers" {
  export const env: {
    readonly ASSETS: { fetch(url: string): Promise<Response> };
    readonly [variable: string]: unknown;
  };
  /** Lets a promise outlive the request that began it. */
  export function waitUntil(promise: Promise<unknown>): void;
}
