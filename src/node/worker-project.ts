/** Worker projects: folders that `wrangler deploy` takes as they are, and that run here in the same runtime. */
import { once } from "node:events";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { serializeConfig } from "../model/config.ts";
import { serializeSafetensors } from "../files/safetensors.ts";
import { writeFileAtomic } from "./files.ts";
import { readModelFolder } from "./model-folder.ts";

/** What a Worker serves. */
export interface WorkerContents {
  /** A model folder, whatever library wrote it. */
  readonly model: string;
  /** What clients call the model; "simcse-edge" unless told. Its lower-case form names the Worker. */
  readonly name?: string;
  /** Sentences for the search page, as the `serialize` of their index gave them. */
  readonly index?: Uint8Array;
}

/** A Worker that runs on this computer. */
export interface RunningWorker {
  /** Its origin, such as `http://127.0.0.1:8787`. */
  readonly url: string;
  /** Ends it and every process it started. */
  close(): Promise<void>;
}

/** The age of the runtime's behaviour; every workerd since then has it. */
const COMPATIBILITY_DATE = "2026-09-01";
/** Cloudflare refuses larger files. */
const MAX_ASSET = 25 * 2 ** 20;
/** Long enough to load the largest model that fits, on a slow computer. */
const START_TIMEOUT = 120_000;

// Node runs the sources as they are, and the published package as compiled: the entry has the extension of this file.
const ENTRY = new URL(`../../worker/index${import.meta.url.slice(-3)}`, import.meta.url);
const PAGE = new URL("../../worker/public/", import.meta.url);

/**
 * Writes `wrangler.jsonc` and `public/` into a folder: the page's files, the model, and the index if there is one. What
 * else is in the folder stays.
 * @throws RangeError for a file that Cloudflare would refuse
 */
export async function writeWorkerProject(
  directory: string,
  { model, name = "simcse-edge", index }: WorkerContents,
): Promise<void> {
  const publicFolder = join(directory, "public");
  // A folder that is written again must not keep the model or sentences it had.
  for (const folder of ["model", "search"]) {
    await rm(join(publicFolder, folder), { recursive: true, force: true });
  }
  const write = async (path: string, bytes: Uint8Array): Promise<void> => {
    if (bytes.length > MAX_ASSET) {
      throw new RangeError(
        `${path}: ${(bytes.length / 2 ** 20).toFixed(1)} MiB, past the 25 MiB of a Worker's asset; ` +
          `serve an int8 model, or fewer sentences`,
      );
    }
    await mkdir(dirname(join(publicFolder, path)), { recursive: true });
    await writeFileAtomic(join(publicFolder, path), bytes);
  };

  for (const file of await readdir(PAGE)) await write(file, await readFile(new URL(file, PAGE)));

  const { config, tokenizerJson, tensors } = await readModelFolder(model);
  await write("model/config.json", json({ ...serializeConfig(config), _name_or_path: name }));
  await write("model/tokenizer.json", json(tokenizerJson));
  await write("model/model.safetensors", serializeSafetensors(tensors, { format: "pt" }));

  if (index) await write("search/index.safetensors", index);

  const main = relative(resolve(directory), fileURLToPath(ENTRY)).split(sep).join("/");
  const configuration = {
    name: workerName(name),
    main,
    compatibility_date: COMPATIBILITY_DATE,
    compatibility_flags: ["no_nodejs_compat", "no_nodejs_compat_v2"],
    assets: { directory: "public", binding: "ASSETS", run_worker_first: true },
    observability: { enabled: true },
  };
  const comment = "`npx wrangler deploy` in this folder puts the Worker online.";
  const text = `// ${comment}\n${JSON.stringify(configuration, null, 2)}\n`;
  await writeFileAtomic(join(directory, "wrangler.jsonc"), new TextEncoder().encode(text));
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** A name that Cloudflare takes: lower-case letters, digits and dashes. */
function workerName(name: string): string {
  const dashed = basename(name)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
  return dashed.slice(0, 54).replaceAll(/^-|-$/g, "") || "simcse-edge";
}

/**
 * Runs a Worker project in workerd, Cloudflare's runtime, without a network or an account, and returns once its model is
 * loaded. Without a `port` a free one is chosen. `variables` are set for this run only: without any the Worker lets nobody in. Only
 * the Worker's errors are printed.
 * @throws Error when wrangler is not installed, the port is taken, or the Worker cannot be built or loaded
 */
export async function startWorker(
  directory: string,
  { port, variables = {} }: { port?: number; variables?: Readonly<Record<string, string>> } = {},
): Promise<RunningWorker> {
  if (port !== undefined) await expectFree(port);
  process.env["CLOUDFLARE_CF_FETCH_ENABLED"] ??= "false";
  process.env["WRANGLER_SEND_METRICS"] ??= "false";
  const { unstable_DevEnv: DevEnv } = await import("wrangler").catch((cause: unknown) => {
    throw new Error("running a Worker needs wrangler; run `npm install wrangler`", { cause });
  });

  // What wrangler's stable test harness is made of, which however takes no port.
  const environment = new DevEnv();
  try {
    const running = new Promise<void>((resolvePromise, reject) => {
      const fail = (event: { reason?: string; message?: string; cause?: unknown }): void => {
        const reason = event.reason ?? event.message ?? "unknown reason";
        reject(new Error(`${directory}: the Worker cannot run: ${reason}`, { cause: event.cause }));
      };
      environment.on("error", fail).on("buildFailed", fail);
      environment.once("reloadComplete", () => resolvePromise());
    });
    running.catch(() => undefined); // it may fail before it is awaited
    const worker = await environment.startWorker({
      config: join(directory, "wrangler.jsonc"),
      bindings: Object.fromEntries(
        Object.entries(variables).map(([key, value]) => [key, { type: "plain_text", value }]),
      ),
      dev: {
        server: { hostname: "127.0.0.1", port: port ?? 0 },
        inspector: false,
        watch: false,
        persist: false,
        logLevel: "error",
      },
    });
    await running;
    const { origin } = await worker.url;
    const signal = AbortSignal.timeout(START_TIMEOUT);
    const health = await fetch(`${origin}/health`, { signal });
    if (!health.ok) throw new Error(`${directory}: the Worker cannot load: ${await health.text()}`);
    await health.body?.cancel();
    return { url: origin, close: () => environment.teardown() };
  } catch (error) {
    await environment.teardown();
    throw error;
  }
}

async function expectFree(port: number): Promise<void> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch (cause) {
    throw new Error(`port ${port} cannot be used; choose another`, { cause });
  }
  await new Promise((done) => server.close(done));
}
