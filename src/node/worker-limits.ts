/** What a Worker project uses of what Cloudflare gives it, measured before it is uploaded. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { parseConfig } from "../model/config.ts";
import { COMPATIBILITY, linearBytes, MOST_MEMORY, type WorkerProject } from "./worker-project.ts";
import { type Bundle, bundleWorker, runWorkerd } from "./workerd.ts";

export interface Limit {
  readonly name: string;
  readonly value: number;
  readonly most: number;
  readonly unit: "KB" | "MB" | "MiB" | "ms" | "";
}

/** Tokens of the text that is encoded to measure memory; a model may take fewer. */
const TOKENS = 128;
/** Times that a start is measured. The least counts: whatever else the computer does only adds. */
const STARTS = 5;

/**
 * Bundles a project, runs it in workerd with one text, and lists its limits. Ours are tighter than Cloudflare's, which are a
 * script of 64 MiB, 128 MB of memory and a start within a second.
 * @throws Error when the Worker does not build, start or answer
 */
export async function measureLimits({
  directory,
  manifest,
  indexBytes = 0,
}: WorkerProject): Promise<Limit[]> {
  const assets = join(directory, "public");
  const bundle = await bundleWorker(directory);
  try {
    const size = async (files: readonly string[], pack = false): Promise<number> => {
      let sum = 0;
      for (const file of files) {
        const bytes = await readFile(join(bundle.directory, file));
        sum += pack ? gzipSync(bytes).length : bytes.length;
      }
      return sum;
    };
    const of = (pattern: RegExp): string[] => bundle.modules.filter((file) => pattern.test(file));
    const files = await readdir(assets, { recursive: true, withFileTypes: true });
    const sizes = await Promise.all(
      files
        .filter((file) => file.isFile())
        .map(async (file) => (await stat(join(file.parentPath, file.name))).size),
    );
    const config = parseConfig(manifest.config, "manifest.json");
    const linear = linearBytes(config);
    const modules = await size(of(/\.bin$/));
    const heap = await measureHeap(bundle, assets, Math.min(TOKENS, config.maxLength));
    const start = await measureStart(bundle, assets);
    const most = MOST_MEMORY / 1e6;
    const memory = linear + heap + modules;
    // prettier-ignore
    const index: Limit[] = [{ name: "… with a full index of documents", value: (memory + indexBytes) / 1e6, most, unit: "MB" }];
    // prettier-ignore
    return [
      { name: "script without weights, gzipped", value: await size(of(/\.(js|wasm)$/), true) / 1e3, most: 150, unit: "KB" },
      { name: "kernels", value: await size(of(/\.wasm$/)) / 1e3, most: 64, unit: "KB" },
      { name: "Worker, all modules", value: await size(bundle.modules) / 2 ** 20, most: 64, unit: "MiB" },
      { name: "largest static asset", value: Math.max(0, ...sizes) / 2 ** 20, most: 25, unit: "MiB" },
      { name: "static assets", value: sizes.length, most: 20_000, unit: "" },
      { name: "linear memory, weights and activations", value: linear / 1e6, most, unit: "MB" },
      { name: "… with heap and imported weights", value: memory / 1e6, most, unit: "MB" },
      ...(indexBytes > 0 ? index : []),
      { name: "start", value: start, most: 100, unit: "ms" },
    ];
  } finally {
    await bundle.remove();
  }
}

/** Bytes of heap after a text of so many tokens. */
async function measureHeap(bundle: Bundle, assets: string, tokens: number): Promise<number> {
  const workerd = await runWorkerd(bundle, {
    ...COMPATIBILITY,
    assets,
    variables: { PUBLIC: "true" },
  });
  try {
    const input = Array.from({ length: tokens }, () => 0);
    const response = await fetch(`${workerd.url}/v1/embeddings`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ input }),
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`the Worker cannot encode a text: ${answer}`);
    return await workerd.heapBytes();
  } finally {
    await workerd.close();
  }
}

/** Milliseconds in which the modules of a bundle are compiled and run. */
async function measureStart(bundle: Bundle, assets: string): Promise<number> {
  const entry = `export default { async fetch() {
    const begin = performance.now();
    await import(${JSON.stringify(`./${bundle.modules[0]!}`)});
    return new Response(String(performance.now() - begin));
  } }`;
  const times: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    const workerd = await runWorkerd(bundle, { ...COMPATIBILITY, assets, entry });
    try {
      times.push(Number(await (await fetch(workerd.url)).text()));
    } finally {
      await workerd.close();
    }
  }
  return Math.min(...times);
}
