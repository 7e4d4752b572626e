import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { type Command, Option } from "commander";
import { createApp } from "../../worker/app.ts";
import type { DocumentStore } from "../../worker/documents/store.ts";
import type { Service } from "../../worker/service.ts";
import { type Settings, settingsOf } from "../../worker/settings.ts";
import { pageOf } from "../../worker/standalone.ts";
import { UsageError } from "../errors.ts";
import { compileKernels } from "../node/binaries.ts";
import { SimCSE } from "../node/index.ts";
import { hashOf, makeKey } from "../node/keys.ts";
import { readPageFile } from "../node/page.ts";
import { DEFAULT_THREADS, wholeNumber } from "./options.ts";
import { note } from "./terminal.ts";

interface ServeOptions {
  readonly model: string;
  readonly index?: string;
  readonly documents?: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly threads: number;
  readonly public?: boolean;
  readonly apiKey?: string;
}

const fetchPage = pageOf(async (path) => new Response(await readPageFile(path.slice(1))));

/** Names of this computer that no other computer can have. */
const LOOPBACK = ["localhost", "127.0.0.1", "[::1]", "::1"];

/** Who may ask, and what to say about it; without a word on the command line or in the environment, whoever reads this terminal. */
function accessFor({ public: open, apiKey, host }: ServeOptions): {
  env: Record<string, string>;
  fragment?: string;
  notice: string;
} {
  if (open && apiKey !== undefined)
    throw new UsageError("expected --public or --api-key, not both");
  if (open) {
    const whom = LOOPBACK.includes(host)
      ? "every program of this computer"
      : `everybody who reaches ${host}`;
    return { env: { PUBLIC: "true", API_KEY_HASHES: "" }, notice: `--public: open to ${whom}` };
  }
  if (apiKey !== undefined)
    return { env: { API_KEY_HASHES: hashOf(apiKey) }, notice: "open to the key of --api-key" };
  if (process.env["API_KEY_HASHES"])
    return { env: {}, notice: "open to the keys of API_KEY_HASHES" };
  const key = makeKey();
  return {
    env: { API_KEY_HASHES: hashOf(key) },
    fragment: `#key=${key}`,
    notice: `open to the key of this run, ${key}; --api-key sets one, --public needs none`,
  };
}

/** The store is loaded only where it is used, since some versions of Node warn of their SQLite. */
async function openStore(file: string, { limits }: Settings): Promise<DocumentStore & Disposable> {
  const { openDocuments } = await import("../node/documents.ts");
  return openDocuments(file, await compileKernels("edge"), limits.indexBytes);
}

/** The Worker's app in Node, encoding on a pool of threads, until it is interrupted. */
async function serve(options: ServeOptions): Promise<void> {
  const { model: folder, index: file, documents: database, name, threads, host } = options;
  if (file !== undefined && database !== undefined)
    throw new UsageError("expected --index or --documents, not both: /search is over one of them");
  const { env, fragment = "", notice } = accessFor(options);
  await using model = await SimCSE.load(folder, { threads });
  const index = file === undefined ? undefined : (await model.loadIndex(file)).index;
  const service: Service = { name, model, index };
  const settings = settingsOf({ ...process.env, ...env });
  using documents = database === undefined ? undefined : await openStore(database, settings);
  const app = createApp(() => Promise.resolve(service), settings, fetchPage, documents);
  const server = createAdaptorServer({
    fetch: (request: Request) => {
      // A name of somebody else's that leads here is a page that wants to read what only this computer may.
      const foreign = LOOPBACK.includes(host) && !LOOPBACK.includes(new URL(request.url).hostname);
      return foreign
        ? new Response("not a name of this computer\n", { status: 421 })
        : app.fetch(request);
    },
  });
  server.listen(options.port, host);
  try {
    await once(server, "listening").catch((cause: unknown) => {
      throw new Error(`port ${options.port} cannot be used; choose another`, { cause });
    });
    const { address, family, port } = server.address() as AddressInfo;
    note(
      `http://${family === "IPv6" ? `[${address}]` : address}:${port}/${fragment}   (Ctrl-C ends)\n${notice}`,
    );
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
    .requiredOption("--model <model>", "model folder, or its name on a hub: org/name[@revision]")
    .option("--index <file>", "what `simcse index build` wrote, for /search")
    .option(
      "--documents <file>",
      "keeps documents in this file of SQLite, for /documents and /search",
    )
    .option("--name <name>", "what clients call the model", "simcse-edge")
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--port <n>", "port to listen on; 0 takes a free one", wholeNumber(0), 8787)
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .addOption(new Option("--api-key <key>", "the key that clients need").env("SIMCSE_API_KEY"))
    .option("--public", "answer without a key")
    .action((options: ServeOptions) => serve(options));
}
