/** Runs Worker projects on this computer, in Cloudflare's runtime. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { modelFiles, type WorkerProject } from "./worker-project.ts";

/** A Worker that runs on this computer. */
export interface RunningWorker {
  /** Its origin, such as `http://127.0.0.1:8787`. */
  readonly url: string;
  /** Ends it and every process it started. */
  close(): Promise<void>;
}

/** Long enough to load the largest model that fits, on a slow computer. */
const START_TIMEOUT = 120_000;

/**
 * Runs a Worker project in workerd, Cloudflare's runtime, without a network or an account, and returns once its model is
 * loaded. Without a `port` a free one is chosen. `variables` are set for this run only: without any the Worker lets nobody in.
 * Only the Worker's errors are printed. What it keeps stays in the project's `.wrangler/`.
 * @throws Error when wrangler is not installed, the port is taken, or the Worker cannot be built or loaded
 */
export async function startWorker(
  directory: string,
  { port, variables = {} }: { port?: number; variables?: Readonly<Record<string, string>> } = {},
): Promise<RunningWorker> {
  if (port !== undefined) await expectFree(port);
  const { unstable_DevEnv: DevEnv } = await importWrangler();

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
        persist: join(directory, ".wrangler/state"),
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

/** Puts the files of a model into the bucket that the project's Worker has on this computer. */
export async function fillLocalBucket({
  directory,
  modelFolder,
  manifest,
}: WorkerProject): Promise<void> {
  const { getPlatformProxy } = await importWrangler();
  const { env, dispose } = await getPlatformProxy<{ WEIGHTS: LocalBucket }>({
    configPath: join(directory, "wrangler.jsonc"),
    persist: { path: join(directory, ".wrangler/state/v3") },
  });
  try {
    for (const file of modelFiles(manifest)) {
      await env.WEIGHTS.put(`model/${file}`, await readFile(join(modelFolder, file)));
    }
  } finally {
    await dispose();
  }
}

interface LocalBucket {
  put(key: string, value: Uint8Array): Promise<unknown>;
}

function importWrangler(): Promise<typeof import("wrangler")> {
  process.env["CLOUDFLARE_CF_FETCH_ENABLED"] ??= "false";
  process.env["WRANGLER_SEND_METRICS"] ??= "false";
  return import("wrangler").catch((cause: unknown) => {
    throw new Error("running a Worker needs wrangler; run `npm install wrangler`", { cause });
  });
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
