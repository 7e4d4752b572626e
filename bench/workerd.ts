/** The Worker's app, asked without a network: in workerd, and in Node with the same binary. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readModelFolder } from "../src/node/model-folder.ts";
import { compileKernels } from "../src/node/binaries.ts";
import { type WorkerProject, writeWorkerProject } from "../src/node/worker-project.ts";
import { createApp } from "../worker/app.ts";
import { serviceLoader } from "../worker/service.ts";
import { settingsOf } from "../worker/settings.ts";
import { watchWorker } from "../test/worker/watched.ts";
import { sentence, withModels } from "./encode.ts";
import { type Figure, figure, type Table } from "./measure.ts";

const ROUNDS = 7;
/** A round; workerd's clock counts whole milliseconds. What comes before the first round takes as long as four. */
const ROUND_MILLISECONDS = 250;
/** Requests that tell how many make a round. */
const FIRST = 200;
const ROUTE = "/v1/embeddings";

/** Milliseconds of a request for the vector of one text, to the app of a project in Node and in workerd. */
export async function requestTimes(
  { directory }: WorkerProject,
  input: string | readonly number[],
): Promise<Figure[]> {
  const body = JSON.stringify({ input, encoding_format: "base64" });
  const files = async (path: string): Promise<Response> =>
    new Response(await readFile(join(directory, "public", path)));
  const load = serviceLoader(files, await compileKernels("edge"));
  const app = createApp(load, settingsOf({ PUBLIC: "true" }));
  await using worker = await watchWorker(directory);
  const headers = { "content-type": "application/json" };
  const repeat = async (times: number): Promise<number> => {
    const begun = performance.now();
    for (let i = 0; i < times; i++) {
      const response = await app.request(ROUTE, { method: "POST", headers, body });
      await response.arrayBuffer();
    }
    return performance.now() - begun;
  };
  const cases = {
    "Node, edge.wasm": repeat,
    "workerd, edge.wasm": (times: number) => worker.repeat(ROUTE, body, times),
  };
  const counts: number[] = [];
  for (const run of Object.values(cases)) {
    const count = Math.ceil((ROUND_MILLISECONDS * FIRST) / (await run(FIRST)));
    await run(4 * count);
    counts.push(count);
  }
  const times = counts.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, run] of Object.values(cases).entries()) {
      times[i]!.push((await run(counts[i]!)) / counts[i]!);
    }
  }
  return Object.keys(cases).map((name, i) => figure(name, times[i]!));
}

/** One sentence of 16 tokens by MiniLM in int8, in requests a second. */
export async function* workerd(): AsyncGenerator<Table> {
  yield* withModels("minilm", async function* ({ int8 }) {
    const model = await readModelFolder(int8);
    const project = await writeWorkerProject(join(int8, "worker"), { model });
    const times = await requestTimes(project, sentence(16));
    yield {
      title: "minilm int8, a request with one text of 16 tokens",
      unit: "requests/s",
      reference: times[0]!.name,
      rows: times.map(({ name, median, min, max }) => ({
        name,
        median: 1000 / median,
        min: 1000 / max,
        max: 1000 / min,
      })),
    };
  });
}
