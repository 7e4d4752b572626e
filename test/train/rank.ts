import { readFileSync } from "node:fs";
import { instantiate } from "../../src/runtime/instantiate.ts";
import type { Kernels } from "../../src/runtime/kernels.ts";

/** The kernels of a build target as a team of one, over so many pages of memory. */
export function oneRank(target: string, pages: number): { k: Kernels; buffer: ArrayBufferLike } {
  const shared = target === "node";
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  const module = new WebAssembly.Module(readFileSync(`build/${target}.wasm`));
  const k = instantiate<Kernels>(module, memory);
  k.join(0, 1);
  return { k, buffer: memory.buffer };
}
