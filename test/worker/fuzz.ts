/**
 * Hostile requests, the same for the same seed: `npm run fuzz -- [requests] [seed]` sends them to workerd. None may be answered
 * with a 5xx or not at all, though some come together and some slowly, after each hundred a good request must have the very answer it had before, and memory may not grow
 * past that of the first `WARM_UP`.
 */
import { makeTinyProject } from "./tiny-model.ts";
import { expectFlat, watchWorker } from "./watched.ts";

const ROUTES = [
  "/v1/embeddings",
  "/embed",
  "/similarity",
  "/tokenize",
  "/search",
  "/documents",
  "/documents/%2e%2e",
  "/documents?limit=2&after=%00",
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
  "documents",
  "id",
  "ids",
  "text",
  "metadata",
  "filter",
  "threshold",
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
const SHORT = TEXTS.filter((text) => text.length < 20);
const NUMBERS = [-1, 0, 1.5, 1e308, -1e308, 2 ** 53, 2 ** 31, 4_294_967_295, 99_999];
const HEADERS: readonly Record<string, string>[] = [
  {},
  { "content-type": "text/plain" },
  { "content-type": "application/json; charset=utf-16" },
  { authorization: `Bearer ${"x".repeat(4000)}` },
  { "x-request-id": "a".repeat(300) },
  { origin: "null" },
];

const JSON_TYPE = { "content-type": "application/json" };

/** Requests that are sent together, and milliseconds between two parts of a body that is slow. */
const MOST_AT_ONCE = 8;
const PAUSE = 20;

/** A body in five parts, with a pause before each. */
function inParts(text: string, pause: number): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  const length = Math.ceil(bytes.length / 5);
  let offset = 0;
  return new ReadableStream({
    async pull(controller) {
      if (pause > 0) await new Promise((done) => setTimeout(done, pause));
      if (offset < bytes.length) controller.enqueue(bytes.slice(offset, offset + length));
      else controller.close();
      offset += length;
    },
  });
}

/** Codes of errors of a connection that was closed before the whole body was sent. */
const CLOSED: ReadonlySet<string> = new Set(["EPIPE", "ECONNRESET", "UND_ERR_SOCKET"]);

/**
 * Sends requests and gives how often each status came. A body without a length that is refused while it is being sent is sent
 * again with its length, so that there is a status. @throws Error for a 5xx, a hang, or a good request gone wrong
 */
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
  const malformed = (): string => {
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
  /** A request of the right shape, with texts and ids that are odd: most of these reach the model. */
  const wellFormed = (): [path: string, request: object, method?: string] => {
    const texts = Array.from({ length: 1 + below(4) }, () => pick(TEXTS));
    const kind = below(8);
    const field = pick(FIELDS);
    if (kind === 7) return ["/documents", { ids: [pick(SHORT)] }, "DELETE"];
    if (kind === 6) {
      const metadata = { [field]: below(2) ? value(2) : pick(NUMBERS) };
      const documents = [{ id: pick(SHORT), text: pick(SHORT), metadata }];
      return ["/documents", { documents, truncate: true }];
    }
    if (kind === 5) {
      const filter = { [field]: below(2) ? value(3) : { $ne: pick(SHORT) } };
      return ["/search", { query: pick(SHORT), filter, threshold: pick(NUMBERS) }];
    }
    if (kind === 0) return ["/search", { query: pick(SHORT), top_k: 1 + below(52) }];
    if (kind === 1) return ["/v1/embeddings", { model, input: pick(SHORT) }];
    if (kind === 2) {
      const ids = Array.from({ length: 1 + below(50) }, () => below(150));
      return ["/v1/embeddings", { model, input: ids, dimensions: 1 + below(66) }];
    }
    if (kind === 3) return ["/embed", { inputs: texts, truncate: true, normalize: !below(2) }];
    const inputs = { source_sentence: pick(TEXTS), sentences: texts };
    return ["/similarity", { inputs, parameters: { truncate: true } }];
  };
  const send = async (path: string, init: RequestInit): Promise<Response> =>
    fetch(url + path, { ...init, signal: AbortSignal.timeout(20_000) });
  const good = async (): Promise<string> => {
    const answers = [];
    for (const [method, path, body] of [
      ["POST", "/embed", '{"inputs":"a cat"}'],
      ["POST", "/documents", '{"documents":[{"id":"good","text":"a cat","metadata":{"good":1}}]}'],
      ["POST", "/search", '{"query":"a cat","filter":{"good":1}}'],
      ["GET", "/documents/good", null],
    ] as const) {
      answers.push(await (await send(path, { method, headers: JSON_TYPE, body })).text());
    }
    return answers.join("\n");
  };
  const models = (await (await send("/v1/models", {})).json()) as { data: { id: string }[] };
  const model = models.data[0]!.id;
  const expected = await good();
  const statuses = new Map<number, number>();
  /** Sends one, drawn before it is sent, so that those of a burst do not depend on each other's pace. */
  const one = (): (() => Promise<void>) => {
    const hostile = below(2) === 0;
    const shaped = wellFormed();
    const path = hostile ? pick(ROUTES) : shaped[0];
    const text = hostile ? malformed() : JSON.stringify(shaped[1]);
    const headers = { ...JSON_TYPE, ...(hostile && pick(HEADERS)) };
    const method = hostile ? pick(["POST", "POST", "DELETE", "PUT"]) : (shaped[2] ?? "POST");
    const whole: RequestInit = { method, headers, body: text };
    const chunked = below(4) === 0; // without a length
    const pause = below(2) * below(PAUSE);
    return async () => {
      const parts = { ...whole, body: inParts(text, pause), duplex: "half" } as RequestInit;
      const response = chunked
        ? await send(path, parts).catch((error: Error) => {
            // workerd answered without reading the body, and closed the connection while it was still being sent.
            if (!CLOSED.has((error.cause as { code?: string } | undefined)?.code ?? ""))
              throw error;
            return send(path, whole);
          })
        : await send(path, whole);
      await response.arrayBuffer();
      if (response.status >= 500)
        throw new Error(
          `seed ${seed}: ${path} answered ${response.status} to ${text.slice(0, 300)}`,
        );
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
    };
  };
  for (let sent = 0; sent < requests;) {
    const burst = Array.from({ length: Math.min(1 + below(MOST_AT_ONCE), requests - sent) }, one);
    await Promise.all(burst.map((request) => request()));
    const hundreds = Math.floor(sent / 100);
    sent += burst.length;
    if (Math.floor(sent / 100) > hundreds && (await good()) !== expected)
      throw new Error(`seed ${seed}: after request ${sent} a good one has another answer`);
  }
  return statuses;
}

/** Requests after which memory is what it is to stay. */
const WARM_UP = 5000;

if (import.meta.main) {
  const [requests = "10000", seed = "1"] = process.argv.slice(2);
  const project = await makeTinyProject();
  try {
    await using worker = await watchWorker(project.directory, { documents: true });
    await fuzz(worker.url, WARM_UP, Number(seed) + 1);
    const before = await worker.memory();
    console.log("MB after the warm-up", before);
    console.log(Object.fromEntries(await fuzz(worker.url, Number(requests), Number(seed))));
    const after = await worker.memory();
    console.log("MB at the end", after);
    expectFlat(before, after);
  } finally {
    await project.remove();
  }
}
