/**
 * `npm run load -- [seconds] [connections]`: a MiniLM of random weights in int8, in workerd, asked for one text of 16 tokens
 * over and over. Every answer must be a 200 and memory must stay as it is; with twice as many connections as the Worker takes
 * requests at a time, some must be a 429 that says when to try again. Before that the same text without HTTP, beside onnxruntime-web if `SIMCSE_PEERS` has it (bench/README.md).
 */
import { join } from "node:path";
import autocannon from "autocannon";
import { SimCSE } from "../src/node/index.ts";
import { readModelFolder } from "../src/node/model-folder.ts";
import { writeWorkerProject } from "../src/node/worker-project.ts";
import { DEFAULT_LIMITS } from "../worker/limits.ts";
import { expectFlat, type Watched, watchWorker } from "../test/worker/watched.ts";
import { alternate, peer, sentence, withModels } from "./encode.ts";
import { openSession } from "./onnxruntime.ts";

const IDS = sentence(16);
const BODY = JSON.stringify({ input: IDS });
/** Seconds before anything is counted, and seconds of too many connections. */
const WARM = 20;
const OVERLOAD = 5;

interface Answers {
  /** How often each status came. */
  readonly statuses: Map<number, number>;
  /** Milliseconds of each answer. */
  readonly latencies: readonly number[];
}

/** Asks for so long over so many connections. @throws Error for a connection that breaks, or an answer of another status */
async function ask(
  { url }: Watched,
  connections: number,
  duration: number,
  allowed: readonly number[],
): Promise<Answers> {
  const statuses = new Map<number, number>();
  const latencies: number[] = [];
  const errors: Error[] = [];
  const headers = { "content-type": "application/json" };
  const route = `${url}/v1/embeddings`;
  await autocannon({ url: route, connections, duration, method: "POST", headers, body: BODY })
    .on("response", (_, status, __, milliseconds) => {
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      latencies.push(milliseconds);
    })
    .on("reqError", (error) => errors.push(error));
  if (errors.length > 0) throw new Error(`${errors.length} requests failed`, { cause: errors[0] });
  for (const [status, times] of statuses) {
    if (!allowed.includes(status)) throw new Error(`${times} answers have status ${status}`);
  }
  return { statuses, latencies };
}

async function load(worker: Watched, seconds: number, connections: number): Promise<void> {
  await ask(worker, connections, WARM, [200]);
  const cpu = await worker.cpuSeconds();
  const begun = performance.now();
  const first = await ask(worker, connections, seconds / 2, [200]);
  // workerd's own memory, that of a Worker which does nothing too, grows for some 25,000 requests before it stays.
  const before = await worker.memory();
  const second = await ask(worker, connections, seconds / 2, [200]);
  const taken = (performance.now() - begun) / 1000;
  const latencies = [...first.latencies, ...second.latencies].toSorted((a, b) => a - b);
  const requests = latencies.length;
  const cpuEach = (1000 * ((await worker.cpuSeconds()) - cpu)) / requests;
  const after = await worker.memory();
  const at = (share: number): string => latencies[Math.floor(share * requests)]!.toFixed(0);
  console.log(`${connections} connections for ${taken.toFixed(0)} s: ${requests} answers, all 200`);
  console.log(`${(requests / taken).toFixed(1)} requests/s, ${cpuEach.toFixed(2)} ms CPU each`);
  console.log(`p50 ${at(0.5)}, p95 ${at(0.95)}, p99 ${at(0.99)} ms`);
  console.log("MB after half of the time", before, "and at the end", after);
  await overload(worker);
  expectFlat(before, after);
}

/** Twice as many connections as requests that are worked on at a time: some are refused, and told when to try again. */
async function overload(worker: Watched): Promise<void> {
  const many = 2 * DEFAULT_LIMITS.concurrent;
  const running = ask(worker, many, OVERLOAD, [200, 429]);
  const over = new AbortController();
  const ended = running.finally(() => over.abort()).catch(() => undefined);
  const advice = new Set<string | null>();
  while (!over.signal.aborted) {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${worker.url}/v1/embeddings`, {
      method: "POST",
      headers,
      body: BODY,
    });
    await answer.arrayBuffer();
    if (answer.status === 429) advice.add(answer.headers.get("retry-after"));
  }
  await ended;
  const { statuses } = await running;
  console.log(`${many} connections for ${OVERLOAD} s:`, Object.fromEntries(statuses));
  if (!statuses.has(429)) throw new Error(`expected refusals of ${many} connections, found none`);
  console.log("retry-after of the refusals:", ...advice);
  const [seconds] = advice;
  if (advice.size !== 1 || seconds !== "1") throw new Error("expected retry-after: 1 of each");
}

/** Texts a second of the same model on one thread of Node, and of its peer. */
async function withoutHttp(folder: string): Promise<void> {
  await using model = await SimCSE.load(folder, { threads: 1 });
  const cases = [{ name: "simcse-edge in Node", texts: 1, run: () => model.encode(IDS) }];
  const paths = peer("minilm", "int8");
  if (paths) {
    const session = await openSession(...paths);
    const batch = [IDS];
    const run = () => session(batch) as Promise<never>;
    cases.push({ name: "onnxruntime-web in Node", texts: 1, run });
  }
  for (const { name, median, min, max } of await alternate(cases)) {
    const [middle, least, most] = [median, min, max].map((rate) => rate.toFixed(1));
    console.log(`${name}: ${middle} texts/s (${least} to ${most})`);
  }
}

const [seconds = "30", connections = "64"] = process.argv.slice(2);
const steps = withModels("minilm", async function* ({ int8 }) {
  const directory = join(int8, "worker");
  await writeWorkerProject(directory, { model: await readModelFolder(int8) });
  yield withoutHttp(int8);
  await using worker = await watchWorker(directory);
  yield load(worker, Number(seconds), Number(connections));
});
for await (const _ of steps);
