/** `deno run -A serve.mts <folder>`, or `bun serve.mts <folder>`: a Worker project's `public` folder, open to everybody. */
import { readFile } from "node:fs/promises";
import { openApp } from "../../worker/standalone.ts";

type Fetch = (request: Request) => Response | Promise<Response>;
const { Deno, Bun } = globalThis as {
  Deno?: { serve(options: object, fetch: Fetch): { addr: { port: number } } };
  Bun?: { serve(options: object): { port: number } };
};
const folder = process.argv[2]!;
const kernels = await WebAssembly.compile(await readFile("build/edge.wasm"));
const app = openApp(async (path) => new Response(await readFile(`${folder}${path}`)), kernels, {
  PUBLIC: "true",
});
const fetch: Fetch = (request) => app.fetch(request);
const address = { port: 0, hostname: "127.0.0.1" };
const port = Deno
  ? Deno.serve({ ...address, onListen: () => undefined }, fetch).addr.port
  : Bun!.serve({ ...address, fetch }).port;
console.log(`http://127.0.0.1:${port}`);
