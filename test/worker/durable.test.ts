/** Documents in the Durable Object, in plain workerd on the disk. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { openDocuments } from "../../src/node/documents.ts";
import { readModelFolder } from "../../src/node/model-folder.ts";
import { COMPATIBILITY, writeWorkerProject } from "../../src/node/worker-project.ts";
import { startWorker } from "../../src/node/worker-run.ts";
import { type Bundle, bundleWorker, runWorkerd, type Workerd } from "../../src/node/workerd.ts";
import { createApp } from "../../worker/app.ts";
import { remoteDocuments } from "../../worker/documents/remote.ts";
import type { DocumentStore } from "../../worker/documents/store.ts";
import { serviceLoader } from "../../worker/service.ts";
import { dice } from "../host/hostile.ts";
import { fuzz } from "./fuzz.ts";
import { assetsOf, makeTinyProject, OPEN, SENTENCES, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let bundle: Bundle;

beforeAll(async () => {
  project = await makeTinyProject();
  bundle = await bundleWorker(project.directory);
});
afterAll(async () => {
  await bundle?.remove();
  await project?.remove();
});

/** Starts workerd over a folder of documents. */
async function start(folder: string, variables: Record<string, string> = {}): Promise<Workerd> {
  const documents = join(project.directory, folder);
  await mkdir(documents, { recursive: true });
  return runWorkerd(bundle, {
    ...COMPATIBILITY,
    assets: join(project.directory, "public"),
    documents,
    variables: { PUBLIC: "true", ...variables },
    inspector: false,
  });
}

type Ask = (method: string, path: string, body?: unknown) => Promise<Response>;
const askerOf =
  (request: (path: string, init: RequestInit) => Response | Promise<Response>): Ask =>
  async (method, path, body) =>
    request(path, {
      method,
      ...(body !== undefined && {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      }),
    });
const asking = ({ url }: Workerd): Ask => askerOf((path, init) => fetch(url + path, init));

it("answers as the store of Node does, score for score, and again after a restart", async () => {
  const kernels = await compileKernels("edge");
  const service = await serviceLoader(assetsOf(project.directory), kernels)();
  using store = openDocuments(":memory:", kernels, 1_000_000);
  const app = createApp(() => Promise.resolve(service), OPEN, undefined, store);
  const documents = SENTENCES.map((text, i) => ({
    id: `${i}/é`,
    text: `${text}\0`,
    metadata: { i, even: i % 2 === 0, tags: ["a"], of: { length: text.length } },
  }));
  const questions: Parameters<Ask>[] = [
    ["GET", "/documents?limit=2"],
    ["GET", "/documents?limit=2&after=2%2F%C3%A9"],
    ["GET", `/documents/${encodeURIComponent("3/é")}`],
    ["GET", "/documents/absent"],
    ["POST", "/search", { query: "cat" }],
    ["POST", "/search", { query: "cat", top_k: 50, threshold: 0.1, filter: { even: true } }],
    ["POST", "/search", { query: "dog", filter: { "of.length": { $gt: 23, $lt: 40 } } }],
    ["POST", "/search", { query: "dog", filter: { i: { $in: [1, 3] } } }],
    ["POST", "/search", { query: "dog", filter: { i: { $near: 1 } } }],
  ];
  const changes: Parameters<Ask>[] = [
    ["POST", "/documents", { documents }],
    ["POST", "/documents", { documents: documents.slice(2) }],
    ["DELETE", "/documents", { ids: ["0/é", "absent"] }],
    ["DELETE", `/documents/${encodeURIComponent("1/é")}`],
    ["POST", "/documents", { documents: [{ id: "1/é", text: "a cat" }] }],
    ["POST", "/documents", { documents: [{ id: "x", text: "a" }, { id: "x" }] }],
  ];
  const ask = async (of: Ask, list: Parameters<Ask>[]): Promise<unknown[]> => {
    const answers: unknown[] = [];
    for (const question of list) {
      const response = await of(...question);
      answers.push([response.status, await response.text()]);
    }
    return answers;
  };
  const node = askerOf((path, init) => app.request(path, init));
  const [changed, expected] = [await ask(node, changes), await ask(node, questions)];
  for (const first of [true, false]) {
    const workerd = await start("same");
    try {
      if (first) expect(await ask(asking(workerd), changes)).toEqual(changed);
      expect(await ask(asking(workerd), questions)).toEqual(expected);
    } finally {
      await workerd.close();
    }
  }
});

it("holds as many documents as MAX_INDEX_BYTES has room for", async () => {
  const workerd = await start("full", { MAX_INDEX_BYTES: String(3 * (64 + 20)) });
  try {
    const documents = ["a", "b", "c", "d"].map((id) => ({ id, text: "a cat" }));
    const ask = asking(workerd);
    const full = await ask("POST", "/documents", { documents });
    expect([full.status, await full.json()]).toMatchObject([
      413,
      { error: { code: "store_full", message: expect.stringContaining("3 documents") as string } },
    ]);
    const fits = await ask("POST", "/documents", { documents: documents.slice(1) });
    expect(fits.status).toBe(200);
  } finally {
    await workerd.close();
  }
});

it("hostile requests get no 5xx, and a document between them is found as before", async () => {
  const workerd = await start("hostile");
  try {
    const statuses = await fuzz(workerd.url, 500, 11);
    expect(statuses.get(200)).toBeGreaterThan(500 / 5);
    expect(statuses.get(204)).toBeGreaterThan(5);
  } finally {
    await workerd.close();
  }
});

/** What a client knows of a document: its revision, null once it is removed, and one of a request without an answer. */
interface Known {
  acknowledged: number | null;
  pending?: number | null;
}

it("killed twenty times while it writes, it has lost nothing that it acknowledged", async () => {
  const roll = dice(1);
  const known = new Map<string, Known>();
  let answers = 0;
  const textOf = (revision: number): string => SENTENCES[revision % SENTENCES.length]!;

  /** Changes documents of its own until workerd is gone: writes three, writes one of them again, removes another. */
  async function client(name: string, ask: Ask): Promise<void> {
    const change = async (ids: readonly string[], revision: number | null): Promise<void> => {
      for (const id of ids) {
        known.set(id, { acknowledged: known.get(id)?.acknowledged ?? null, pending: revision });
      }
      const documents = ids.map((id) => ({
        id,
        text: textOf(revision ?? 0),
        metadata: { id, revision: revision ?? 0 },
      }));
      const response =
        revision === null
          ? await ask("DELETE", "/documents", { ids })
          : await ask("POST", "/documents", { documents });
      expect(response.ok).toBe(true);
      await response.arrayBuffer();
      for (const id of ids) known.set(id, { acknowledged: revision });
      answers++;
    };
    try {
      for (let i = 0; ; i += 3) {
        const ids = [i, i + 1, i + 2].map((n) => `${name}-${n}`);
        await change(ids, 0);
        await change([ids[0]!], 1);
        await change([ids[1]!], null);
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // all others: workerd is gone
    }
  }

  async function listed(ask: Ask): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    for (let after: string | null = ""; after !== null;) {
      const response: Response = await ask("GET", `/documents?limit=1000&after=${after}`);
      const { documents, next } = (await response.json()) as {
        documents: { id: string; text: string; metadata: { revision: number } }[];
        next: string | null;
      };
      for (const { id, text, metadata } of documents) {
        expect(text).toBe(textOf(metadata.revision));
        found.set(id, metadata.revision);
      }
      after = next;
    }
    return found;
  }

  async function verify(ask: Ask, fresh: readonly string[]): Promise<void> {
    const found = await listed(ask);
    for (const [id, { acknowledged, pending }] of known) {
      const revision = found.get(id) ?? null;
      const possible = pending === undefined ? [acknowledged] : [acknowledged, pending];
      expect(possible, id).toContain(revision);
      known.set(id, { acknowledged: revision });
      found.delete(id);
    }
    expect([...found.keys()]).toEqual([]);
    for (const id of fresh) {
      const { acknowledged: revision } = known.get(id)!;
      const body = { query: textOf(revision ?? 0), threshold: 0.999, filter: { id } };
      const { results } = (await (await ask("POST", "/search", body)).json()) as {
        results: { id: string; metadata: { revision: number } }[];
      };
      const expected = revision === null ? [] : [[id, revision]];
      expect(results.map((result) => [result.id, result.metadata.revision])).toEqual(expected);
    }
  }

  for (let round = 0; round < 20; round++) {
    const workerd = await start("killed");
    const [before, enough] = [known.size, answers + 10];
    const clients = [0, 1, 2].map((n) => client(`${round}-${n}`, asking(workerd)));
    await vi.waitFor(() => expect(answers).toBeGreaterThan(enough), {
      interval: 1,
      timeout: 20_000,
    });
    await sleep(roll(40));
    await workerd.close(); // SIGKILL
    await Promise.all(clients);

    const again = await start("killed");
    try {
      const fresh = [...known.keys()].slice(before);
      await verify(asking(again), fresh.slice(-30));
    } finally {
      await again.close();
    }
  }
});

it("simcse dev has it too, and keeps it in the project's folder", async () => {
  const folder = join(project.directory, "dev");
  const model = await readModelFolder(join(project.directory, "model"));
  await writeWorkerProject(folder, { model, documents: "durable-object" });
  for (const first of [true, false]) {
    const worker = await startWorker(folder, { variables: { PUBLIC: "true" } });
    try {
      const ask = askerOf((path, init) => fetch(worker.url + path, init));
      const documents = [{ id: "a", text: "a cat" }];
      if (first) expect((await ask("POST", "/documents", { documents })).status).toBe(200);
      expect(await (await ask("GET", "/documents/a")).json()).toEqual(documents[0]);
    } finally {
      await worker.close();
    }
  }
});

it("a call that an object on its way lost is made again, and one that it cannot take is a 503", async () => {
  const failing = (...errors: object[]): DocumentStore => {
    let calls = 0;
    const get = async () => {
      const error = errors[calls++];
      if (error) throw Object.assign(new Error("gone"), error);
      return { id: "a", text: `call ${calls}` };
    };
    const stub = { get } as unknown as DocumentStore;
    return remoteDocuments({ idFromName: (name) => name, get: () => stub });
  };
  const space = { name: "", dimension: 1 };
  const moved = { retryable: true };
  expect(await failing(moved).get(space, "a")).toMatchObject({ text: "call 2" });
  const unavailable = { status: 503, headers: { "retry-after": "1" } };
  for (const store of [failing(moved, moved), failing({ overloaded: true, retryable: true })]) {
    await expect(store.get(space, "a")).rejects.toMatchObject(unavailable);
  }
  await expect(failing({}).get(space, "a")).rejects.toThrow("gone");
});
