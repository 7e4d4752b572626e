import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import type { Command } from "commander";
import { createApp } from "../../worker/app.ts";
import type { FetchAsset, Service } from "../../worker/service.ts";
import { SimCSE } from "../node/index.ts";
import { DEFAULT_THREADS, wholeNumber } from "./options.ts";
import { note } from "./terminal.ts";

interface ServeOptions {
  readonly model: string;
  readonly index?: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly threads: number;
}

const PAGE = new URL("../../worker/public/", import.meta.url);
const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};

/** Files of the search page, which the app asks for by the paths it knows. */
const fetchPage: FetchAsset = async (path) => {
  const name = path === "/" ? "index.html" : path.slice(1);
  const type = TYPES[name.split(".").at(-1)!]!;
  return new Response(await readFile(new URL(name, PAGE)), { headers: { "content-type": type } });
};

/** The Worker's app in Node, encoding on a pool of threads, until it is interrupted. */
async function serve(options: ServeOptions): Promise<void> {
  const { model: folder, index: file, name, threads } = options;
  await using model = await SimCSE.load(folder, { threads });
  const index = file === undefined ? undefined : (await model.loadIndex(file)).index;
  const service: Service = { name, model, index };
  const app = createApp(() => Promise.resolve(service), fetchPage);
  const server = createAdaptorServer({ fetch: app.fetch });
  server.listen(options.port, options.host);
  try {
    await once(server, "listening").catch((cause: unknown) => {
      throw new Error(`port ${options.port} cannot be used; choose another`, { cause });
    });
    const { address, family, port } = server.address() as AddressInfo;
    note(`http://${family === "IPv6" ? `[${address}]` : address}:${port}   (Ctrl-C ends)`);
    await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  } finally {
    // Answers on their way are finished; connections that only wait for another request are closed.
    await new Promise((done) => server.close(done));
  }
}

export function addServe(program: Command): void {
  program
    .command("serve")
    .description("the Worker's HTTP interface and search page, here in Node")
    .requiredOption("--model <folder>", "model folder, f32 or int8")
    .option("--index <file>", "what `simcse index build` wrote, for /search")
    .option("--name <name>", "what clients call the model", "simcse-edge")
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--port <n>", "port to listen on; 0 takes a free one", wholeNumber(0), 8787)
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .action((options: ServeOptions) => serve(options));
}
