/** The same Worker with its weights elsewhere, and under other behaviours of the runtime: the vectors have the bits of Node. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hashOf, makeKey } from "../../src/node/keys.ts";
import { type ModelFolder, openModel, readModelFolder } from "../../src/node/model-folder.ts";
import { fillLocalBucket, startWorker } from "../../src/node/worker-run.ts";
import {
  type Store,
  type WorkerProject,
  writeWorkerProject,
} from "../../src/node/worker-project.ts";
import { bundleWorker, runWorkerd, wranglerProgram } from "../../src/node/workerd.ts";
import { SENTENCES, writeTinyModel } from "./tiny-model.ts";

let directory: string;
let model: ModelFolder;
let expected: string[];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "simcse-compatibility-"));
  await writeTinyModel(join(directory, "model"), "int8");
  model = await readModelFolder(join(directory, "model"));
  const vectors = (await openModel(model)).encode(SENTENCES);
  expected = vectors.map(({ buffer }) => Buffer.from(buffer).toString("base64"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function vectorsOf(url: string): Promise<string[]> {
  const response = await fetch(`${url}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ input: SENTENCES, encoding_format: "base64" }),
  });
  const { data } = (await response.json()) as { data: { embedding: string }[] };
  return data.map(({ embedding }) => embedding);
}

/** Makes a project's `wrangler.jsonc` its owner's, with some settings changed; gives what they were. */
async function configure(
  { directory: folder }: WorkerProject,
  changes: object,
): Promise<Record<string, unknown>> {
  const file = join(folder, "wrangler.jsonc");
  const text = await readFile(file, "utf8");
  const configuration = JSON.parse(text.replace(/^\/\/.*/, "")) as Record<string, unknown>;
  await writeFile(file, JSON.stringify({ ...configuration, ...changes }));
  return configuration;
}

it("the rate limiter of wrangler.jsonc refuses a key that asks too often, and no other", async () => {
  const project = await writeWorkerProject(join(directory, "limited"), { model });
  const { ratelimits } = await configure(project, {});
  const [limiter] = ratelimits as [{ name: string; simple: object }];
  expect(limiter).toMatchObject({ name: "RATE_LIMITER", simple: { limit: 1000, period: 60 } });
  await configure(project, { ratelimits: [{ ...limiter, simple: { limit: 3, period: 60 } }] });
  const keys = [makeKey(), makeKey()];
  const variables = { API_KEY_HASHES: keys.map(hashOf).join(" ") };
  const worker = await startWorker(project.directory, { variables });
  try {
    const ask = (key: string): Promise<Response> =>
      fetch(`${worker.url}/info`, { headers: { authorization: `Bearer ${key}` } });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) statuses.push((await ask(keys[0]!)).status);
    expect(statuses).toEqual([200, 200, 200, 429]);
    expect((await ask(keys[0]!)).headers.get("retry-after")).toBe("60");
    expect((await ask(keys[1]!)).status).toBe(200);
  } finally {
    await worker.close();
  }
});

describe("weights from", () => {
  it.each<Store>(["r2", "module"])("%s, in workerd", async (store) => {
    const project = await writeWorkerProject(join(directory, store), { model, store });
    if (store === "r2") await fillLocalBucket(project);
    expect(await readdir(join(project.directory, "public"))).not.toContain("model");
    const worker = await startWorker(project.directory, { variables: { PUBLIC: "true" } });
    try {
      expect(await vectorsOf(worker.url)).toEqual(expected);
    } finally {
      await worker.close();
    }
  });
});

/** The newest behaviour that this workerd has: that of the day it was made of, which its version tells. */
const NEWEST = (
  createRequire(wranglerProgram())("workerd/package.json") as { version: string }
).version.replace(/^\d+\.(\d{4})(\d\d)(\d\d)\..*/, "$1-$2-$3");

describe("workerd behaving as of", () => {
  // Compatibility with Node is on by default from 2026-08-04.
  it.each([
    ["2026-07-01", "without Node", []],
    ["2026-07-01", "with Node", ["nodejs_compat"]],
    [NEWEST, "without Node", ["no_nodejs_compat", "no_nodejs_compat_v2"]],
    [NEWEST, "with Node", []],
  ])("%s, %s", async (compatibilityDate, node, compatibilityFlags) => {
    const project = await writeWorkerProject(join(directory, "own"), { model });
    await configure(project, {
      compatibility_date: compatibilityDate,
      compatibility_flags: compatibilityFlags,
    });
    const bundle = await bundleWorker(project.directory);
    try {
      const entry = `import worker from ${JSON.stringify(`./${bundle.modules[0]!}`)};
        export default {
          fetch: (request, env, context) => request.url.endsWith("/process")
            ? new Response(typeof process)
            : worker.fetch(request, env, context),
        };`;
      const workerd = await runWorkerd(bundle, {
        compatibilityDate,
        compatibilityFlags,
        entry,
        assets: join(project.directory, "public"),
        variables: { PUBLIC: "true" },
        inspector: false,
      });
      try {
        const process = await (await fetch(`${workerd.url}/process`)).text();
        expect(process).toBe(node === "with Node" ? "object" : "undefined");
        expect(await vectorsOf(workerd.url)).toEqual(expected);
      } finally {
        await workerd.close();
      }
    } finally {
      await bundle.remove();
    }
  });
});
