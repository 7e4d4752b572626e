/** A Worker project in plain workerd, as it was built for Cloudflare: what it needs of memory and of time to start. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";

/** A bundle that `wrangler deploy --dry-run` wrote. */
export interface Bundle {
  readonly directory: string;
  /** The modules of the script; the first is its entry. */
  readonly modules: readonly string[];
  remove(): Promise<void>;
}

export interface WorkerdOptions {
  /** Variables of the Worker. */
  readonly variables?: Readonly<Record<string, string>>;
  readonly compatibilityDate: string;
  readonly compatibilityFlags?: readonly string[];
  /** Folder of the static assets. */
  readonly assets: string;
  /** Folder in which the Durable Object `Documents` keeps them; without it the Worker keeps none. */
  readonly documents?: string;
  /** Source of an entry that stands before that of the bundle. */
  readonly entry?: string;
  /** Flags of V8. */
  readonly v8Flags?: readonly string[];
  /** Whether `heapBytes` works. The inspector keeps about 1 kB of each request. Default: true. */
  readonly inspector?: boolean;
}

export interface Workerd {
  readonly url: string;
  readonly process: ChildProcess;
  /** Bytes of JavaScript's heap and of its buffers; linear memory is not among them. */
  heapBytes(): Promise<number>;
  close(): Promise<void>;
}

const START_TIMEOUT = 30_000;

/** The file that `wrangler` in a shell runs. */
export function wranglerProgram(): string {
  try {
    const manifest = createRequire(import.meta.url).resolve("wrangler/package.json");
    return join(dirname(manifest), "bin/wrangler.js");
  } catch (cause) {
    throw new Error("this needs wrangler; run `npm install wrangler`", { cause });
  }
}

/**
 * Runs wrangler in a project's folder.
 * @throws Error with what it printed, when it fails
 */
export async function wrangler(
  directory: string,
  args: readonly string[],
  { show = false }: { show?: boolean } = {},
): Promise<string> {
  const child = spawn(process.execPath, [wranglerProgram(), ...args], {
    cwd: directory,
    env: { ...process.env, WRANGLER_SEND_METRICS: "false" },
    stdio: show ? ["inherit", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
  });
  const [out, error, [code]] = await Promise.all([
    child.stdout ? text(child.stdout) : "",
    child.stderr ? text(child.stderr) : "",
    once(child, "exit") as Promise<[number]>,
  ]);
  if (code === 0) return out;
  throw new Error(`wrangler ${args[0]} failed in ${directory}\n${out}${error}`.trimEnd());
}

/** Bundles a project as wrangler would upload it. */
export async function bundleWorker(project: string): Promise<Bundle> {
  const directory = await mkdtemp(join(tmpdir(), "simcse-bundle-"));
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    await wrangler(project, ["deploy", "--dry-run", "--outdir", directory]);
    const files = await readdir(directory);
    const others = files.filter((file) => /\.(wasm|bin)$/.test(file));
    const entries = files.filter((file) => file.endsWith(".js"));
    return { directory, modules: [...entries, ...others], remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/**
 * Runs a bundle in workerd, without wrangler between.
 * @throws Error with what workerd printed, when it does not start
 */
export async function runWorkerd(bundle: Bundle, options: WorkerdOptions): Promise<Workerd> {
  const { resolve: find } = createRequire(wranglerProgram());
  const program = join(dirname(find("workerd/package.json")), "bin/workerd");
  const configuration = join(bundle.directory, "workerd.capnp");
  await writeFile(configuration, capnp(bundle, options));
  const { inspector = true } = options;
  const flags = inspector ? ["--inspector-addr=127.0.0.1:0"] : [];
  const args = ["serve", "--control-fd=3", ...flags, configuration];
  const child = spawn(program, args, { stdio: ["ignore", "inherit", "pipe", "pipe"] });
  const printed: string[] = [];
  child.stderr!.on("data", (chunk: Buffer) => printed.push(chunk.toString()));
  const ports = new Map<string, number>();
  const listening = (async () => {
    for await (const line of createInterface({ input: child.stdio[3] as Readable })) {
      const { event, socket, port } = JSON.parse(line) as Record<string, string | number>;
      ports.set(String(event === "listen-inspector" ? event : socket), Number(port));
      if (ports.has("http") && (!inspector || ports.has("listen-inspector"))) return;
    }
    throw new Error(`workerd cannot run the Worker: ${printed.join("")}`);
  })();
  const timeout = setTimeout(() => child.kill("SIGKILL"), START_TIMEOUT);
  await listening.finally(() => clearTimeout(timeout));
  const close = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
  };
  return {
    url: `http://127.0.0.1:${ports.get("http")}`,
    process: child,
    heapBytes: () => heapBytes(`127.0.0.1:${ports.get("listen-inspector")}`),
    close,
  };
}

/** The configuration of workerd: https://github.com/cloudflare/workerd/blob/main/src/workerd/server/workerd.capnp */
function capnp(bundle: Bundle, options: WorkerdOptions): string {
  const {
    variables = {},
    compatibilityFlags = [],
    compatibilityDate,
    assets,
    documents,
    entry,
    v8Flags = [],
  } = options;
  const quote = (value: string): string => JSON.stringify(value);
  const kinds: Readonly<Record<string, string>> = { js: "esModule", wasm: "wasm", bin: "data" };
  const modules = bundle.modules.map(
    (file) => `(name = ${quote(file)}, ${kinds[file.split(".").at(-1)!]} = embed ${quote(file)})`,
  );
  if (entry !== undefined) modules.unshift(`(name = "entry", esModule = ${quote(entry)})`);
  const bindings = Object.entries(variables).map(
    ([name, value]) => `(name = ${quote(name)}, text = ${quote(value)})`,
  );
  bindings.push(`(name = "ASSETS", service = "assets")`);
  const services = [`(name = "assets", disk = ${quote(resolve(assets))})`];
  let objects = "";
  if (documents !== undefined) {
    bindings.push(`(name = "DOCUMENTS", durableObjectNamespace = "Documents")`);
    services.push(
      `(name = "documents", disk = (path = ${quote(resolve(documents))}, writable = true))`,
    );
    objects = `
      durableObjectNamespaces = [(className = "Documents", uniqueKey = "documents", enableSql = true)],
      durableObjectStorage = (localDisk = "documents"),`;
  }
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = [${v8Flags.map(quote).join(", ")}],
  services = [
    (name = "main", worker = (
      modules = [${modules.join(", ")}],
      compatibilityDate = ${quote(compatibilityDate)},
      compatibilityFlags = [${compatibilityFlags.map(quote).join(", ")}],
      bindings = [${bindings.join(", ")}],${objects}
    )),
    ${services.join(",\n    ")},
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
`;
}

async function heapBytes(inspector: string): Promise<number> {
  const targets = (await (await fetch(`http://${inspector}/json`)).json()) as { id: string }[];
  const socket = new WebSocket(`ws://${inspector}/${targets[0]!.id}`);
  await once(socket, "open");
  try {
    const answer = once(socket, "message") as Promise<[{ data: string }]>;
    socket.send(JSON.stringify({ id: 1, method: "Runtime.getHeapUsage" }));
    const [{ data }] = await answer;
    const { result } = JSON.parse(data) as { result?: Record<string, number> };
    const { usedSize, embedderHeapUsedSize = 0, backingStorageSize = 0 } = result ?? {};
    if (usedSize === undefined) throw new Error(`workerd does not tell its heap: ${data}`);
    return usedSize + embedderHeapUsedSize + backingStorageSize;
  } finally {
    socket.close();
  }
}
