import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** The kernel binaries that a build leaves beside the code. */
export type Target = "node" | "edge" | "portable" | "check";

/** Compiles a kernel binary. */
export async function compileKernels(target: Target): Promise<WebAssembly.Module> {
  const path = fileURLToPath(new URL(`../../build/${target}.wasm`, import.meta.url));
  try {
    return await WebAssembly.compile(await readFile(path));
  } catch (cause) {
    throw new Error(`${path}: cannot load the kernels; run \`npm run build:wasm\``, { cause });
  }
}
