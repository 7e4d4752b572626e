/** The Worker's app over MiniLM in int8, asked without a network: in workerd, and in Node with the same binary. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readModelFolder } from "../src/node/model-folder.ts";
import { compileKernels } from "../src/node/binaries.ts";
import { writeWorkerProject } from "../src/node/worker-project.ts";
import { createApp } from "../worker/app.ts";
import { serviceLoader } from "../worker/service.ts";
import { settingsOf } from "../worker/settings.ts";
import { watchWorker } from "../test/worker/watched.ts";
import { sentence, withModels } from "./encode.ts";
import { figure, type Table } from "./measure.ts";

const ROUNDS = 7;
/** Requests of a round, and of what comes before the first. */
const TIMES = 40;
const WARM_TIMES = 400;
const ROUTE = "/v1/embeddings";

/** One sentence of 16 tokens, in requests a second. */
export async function* workerd(): AsyncGenerator<Table> {
  const body = JSON.stringify({ input: sentence(16), encoding_format: "base64" });
  yield* withModels("minilm", async function* ({ int8 }) {
    const directory = join(int8, "worker");
    await writeWorkerProject(directory, { model: await readModelFolder(int8) });
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
    for (const run of Object.values(cases)) await run(WARM_TIMES);
    const rates = Object.keys(cases).map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, run] of Object.values(cases).entries()) {
        rates[i]!.push((1000 * TIMES) / (await run(TIMES)));
      }
    }
    yield {
      title: "minilm int8, a request with one text of 16 tokens",
      unit: "requests/s",
      reference: "Node, edge.wasm",
      rows: Object.keys(cases).map((name, i) => figure(name, rates[i]!)),
    };
  });
}
