/** The files of the search page: those of `worker/public`, and what a build compiles for it. */
import { readdir, readFile } from "node:fs/promises";

const PAGE = new URL("../../worker/public/", import.meta.url);
const BUILD = new URL("../../build/", import.meta.url);
/** The app in the tab, and its kernels. */
const COMPILED = ["tab.js", "edge.wasm", "portable.wasm"];

/** Names of all files. */
export async function pageFiles(): Promise<string[]> {
  return [...(await readdir(PAGE)), ...COMPILED];
}

/** @throws Error for a file that has not been compiled */
export async function readPageFile(name: string): Promise<Buffer<ArrayBuffer>> {
  const compiled = COMPILED.includes(name);
  const file = new URL(name, compiled ? BUILD : PAGE);
  try {
    return await readFile(file);
  } catch (cause) {
    const advice = compiled ? "; run `npm run build:wasm` and `npm run build:page`" : "";
    throw new Error(`${file.pathname}: a file of the search page cannot be read${advice}`, {
      cause,
    });
  }
}
