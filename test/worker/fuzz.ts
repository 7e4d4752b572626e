/**
 * Hostile requests, the same for the same seed: `node test/worker/fuzz.ts [requests] [seed]` sends them to workerd. None may
 * be answered with a 5xx or not at all, and after each hundred a good request must have the very answer it had before.
 */
import { startWorker } from "../../src/node/worker-run.ts";
import { makeTinyProject } from "./tiny-model.ts";

const ROUTES = [
  "/v1/embeddings",
  "/embed",
  "/similarity",
  "/tokenize",
  "/search",
  "/info",
  "/%00",
  "/__proto__",
];
const FIELDS = [
  "input",
  "inputs",
  "query",
  "top_k",
  "dimensions",
  "encoding_format",
  "truncate",
  "model",
  "prompt_name",
  "parameters",
  "__proto__",
  "constructor",
];
const TEXTS = [
  "a cat",
  "a dog",
  "",
  "\ud800",
  "\udfff\ud800",
  "\u200b".repeat(50_000),
  "\0",
  "[CLS] [SEP]",
  "a".repeat(100_000),
  "e\u0301".repeat(5000),
  "‮cat",
  "漢".repeat(3000),
  "__proto__",
];
const NUMBERS = [-1, 0, 1.5, 1e308, -1e308, 2 ** 53, 2 ** 31, 4_294_967_295, 99_999];
const HEADERS: readonly Record<string, string>[] = [
  {},
  { "content-type": "text/plain" },
  { "content-type": "application/json; charset=utf-16" },
  { authorization: `Bearer ${"x".repeat(4000)}` },
  { "x-request-id": "a".repeat(300) },
  { origin: "null" },
];

/** Sends requests and gives how often each status came. @throws Error for a 5xx, a hang, or a good request gone wrong */
export async function fuzz(
  url: string,
  requests: number,
  seed: number,
): Promise<Map<number, number>> {
  let state = seed >>> 0;
  const below = (n: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const value = (depth: number): unknown => {
    const kind = below(depth > 3 ? 4 : 7);
    if (kind < 2) return pick(TEXTS);
    if (kind === 2) return pick(NUMBERS);
    if (kind === 3) return pick([null, true, false, "float", "base64", "Left"]);
    if (kind === 4) return Object.fromEntries([[pick(FIELDS), value(depth + 1)]]);
    return Array.from({ length: below(5) }, () => value(depth + 1));
  };
  const body = (): string => {
    const kind = below(8);
    if (kind === 0) return "[".repeat(below(200_000));
    if (kind === 1) return `{"input": 1${"0".repeat(below(5000))}}`;
    if (kind === 2) return `{"input": ${"[".repeat(5000)}${"]".repeat(5000)}}`;
    const entries = Array.from(
      { length: 1 + below(4) },
      () =>
        `${JSON.stringify(pick(FIELDS.slice(0, 3 + below(FIELDS.length - 2))))}:${JSON.stringify(value(0))}`,
    );
    const text = `{${entries.join(",")}}`;
    return kind === 3 ? text.slice(0, below(text.length)) : text;
  };
  const send = async (path: string, init: RequestInit): Promise<Response> =>
    fetch(url + path, { ...init, signal: AbortSignal.timeout(20_000) });
  const good = async (): Promise<string> => {
    const headers = { "content-type": "application/json" };
    return (await send("/embed", { method: "POST", headers, body: '{"inputs":"a cat"}' })).text();
  };
  const expected = await good();
  const statuses = new Map<number, number>();
  for (let i = 1; i <= requests; i++) {
    const [path, text, headers] = [
      pick(ROUTES),
      body(),
      { "content-type": "application/json", ...pick(HEADERS) },
    ];
    const chunked = below(4) === 0; // without a length
    const init = {
      method: pick(["POST", "POST", "POST", "PUT"]),
      headers,
      body: chunked ? new Blob([text]).stream() : text,
      duplex: "half",
    } as RequestInit;
    const response = await send(path, init);
    await response.arrayBuffer();
    if (response.status >= 500)
      throw new Error(
        `seed ${seed}, request ${i}: ${path} answered ${response.status} to ${text.slice(0, 300)}`,
      );
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
    if (i % 100 === 0 && (await good()) !== expected)
      throw new Error(`seed ${seed}: after request ${i} a good one has another answer`);
  }
  return statuses;
}

if (import.meta.main) {
  const [requests = "10000", seed = "1"] = process.argv.slice(2);
  const project = await makeTinyProject();
  const worker = await startWorker(project.directory, { variables: { PUBLIC: "true" } });
  try {
    console.log(Object.fromEntries(await fuzz(worker.url, Number(requests), Number(seed))));
  } finally {
    await worker.close();
    await project.remove();
  }
}
