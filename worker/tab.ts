/**
 * The app in a browser's tab, over the files that its Worker gives: the same routes, answered by the same kernels on this
 * computer. `npm run build:page` bundles it for the search page.
 */
import { openApp } from "./standalone.ts";
import type { FetchAsset } from "./weights.ts";

/** The binaries, the fast one first: not every browser has relaxed SIMD. Quantised models have the same bits with both. */
const KERNELS = ["/edge.wasm", "/portable.wasm"];

/** What answers requests in this tab. `fetchFile` gets a file of the model, such as `/model/manifest.json`. */
export async function openTab(
  fetchFile: FetchAsset,
): Promise<(request: Request) => Response | Promise<Response>> {
  return openApp(fetchFile, await compileKernels(), { PUBLIC: "true" }).fetch;
}

async function compileKernels([path, ...others] = KERNELS): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compileStreaming(fetch(path!));
  } catch (error) {
    if (others.length === 0) throw error;
    return compileKernels(others);
  }
}
