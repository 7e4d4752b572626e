/** A Worker in plain workerd that tells its memory, and how long requests take inside it. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { COMPATIBILITY } from "../../src/node/worker-project.ts";
import { bundleWorker, runWorkerd } from "../../src/node/workerd.ts";

/** MB of linear memory, and of the process after garbage is collected. */
export interface Memory {
  readonly linear: number;
  readonly resident: number;
}

export interface Watched extends AsyncDisposable {
  readonly url: string;
  memory(): Promise<Memory>;
  /** Seconds of the processor that workerd has taken. */
  cpuSeconds(): Promise<number>;
  /** Milliseconds in which the Worker answers a request so many times, one after the other, without a network. */
  repeat(path: string, body: string, times: number): Promise<number>;
}

/** An entry before the Worker's. */
const entryOf = (module: string): string => `
  const memories = [];
  WebAssembly.Memory = class extends WebAssembly.Memory {
    constructor(descriptor) {
      super(descriptor);
      memories.push(this);
    }
  };
  const { default: worker, Documents } = await import(${JSON.stringify(`./${module}`)});
  async function repeat(request, times) {
    const body = await request.text();
    const begin = performance.now();
    for (let i = 0; i < times; i++) {
      const { url, method, headers } = request;
      const response = await worker.fetch(new Request(url, { method, headers, body }));
      if (!response.ok) return response;
      await response.arrayBuffer();
    }
    return Response.json(performance.now() - begin);
  }
  export { Documents };
  export default {
    fetch(request, env, context) {
      const times = Number(request.headers.get("x-repeat"));
      if (times > 0) return repeat(request, times);
      if (new URL(request.url).pathname !== "/memory") return worker.fetch(request, env, context);
      gc();
      return Response.json(memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0));
    },
  };`;

/** Clock ticks of a second in /proc, on every Linux that Node runs on. */
const TICKS = 100;

/** Runs a project's Worker, open to everybody; with `documents` it keeps them in the project's folder. */
export async function watchWorker(
  project: string,
  { documents = false }: { documents?: boolean } = {},
): Promise<Watched> {
  const bundle = await bundleWorker(project);
  const kept = join(project, "documents");
  await mkdir(kept, { recursive: true });
  const workerd = await runWorkerd(bundle, {
    ...COMPATIBILITY,
    assets: join(project, "public"),
    ...(documents && { documents: kept }),
    entry: entryOf(bundle.modules[0]!),
    variables: { PUBLIC: "true" },
    v8Flags: ["--expose-gc"],
    inspector: false,
  });
  const { url, process } = workerd;
  const told = (file: string): Promise<string> => readFile(`/proc/${process.pid}/${file}`, "utf8");
  return {
    url,
    memory: async () => {
      const linear = Number(await (await fetch(`${url}/memory`)).text());
      if (!(linear > 0)) throw new Error(`expected bytes of linear memory, found ${linear}`);
      const resident = 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(await told("status"))![1]);
      return { linear: linear / 1e6, resident: resident / 1e6 };
    },
    cpuSeconds: async () => {
      const fields = (await told("stat")).replace(/^.*\) /, "").split(" ");
      return (Number(fields[11]) + Number(fields[12])) / TICKS;
    },
    repeat: async (path, body, times) => {
      const headers = { "content-type": "application/json", "x-repeat": String(times) };
      const response = await fetch(url + path, { method: "POST", headers, body });
      if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
      return (await response.json()) as number;
    },
    [Symbol.asyncDispose]: async () => {
      await workerd.close();
      await bundle.remove();
    },
  };
}

/** MB by which memory may differ. Linear memory is a plan; the rest is for what allocators keep. */
const GROWTH: Memory = { linear: 0, resident: 16 };

/** @throws Error for memory that grew */
export function expectFlat(before: Memory, after: Memory): void {
  for (const [of, most] of Object.entries(GROWTH) as [keyof Memory, number][]) {
    if (after[of] - before[of] <= most) continue;
    throw new Error(
      `${of} memory grew from ${before[of]} to ${after[of]} MB, expected ${most} more at most`,
    );
  }
}
