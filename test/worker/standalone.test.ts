/** The app in other runtimes than Cloudflare's: the same routes and the same bits. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { handle, type LambdaContext, type LambdaEvent } from "hono/aws-lambda";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { type App, openApp } from "../../worker/standalone.ts";
import { needs } from "../needs.ts";
import { assetsOf, makeTinyProject, SENTENCES, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let app: App;
let body: string;
let expected: string[];

beforeAll(async () => {
  project = await makeTinyProject();
  app = openApp(assetsOf(project.directory), await compileKernels("edge"), { PUBLIC: "true" });
  body = JSON.stringify({ input: SENTENCES, encoding_format: "base64" });
  const vectors = project.model.encode(SENTENCES);
  expected = vectors.map(({ buffer }) => Buffer.from(buffer).toString("base64"));
});
afterAll(() => project.remove());

const vectorsOf = (text: string): string[] =>
  (JSON.parse(text) as { data: { embedding: string }[] }).data.map(({ embedding }) => embedding);
const headers = { "content-type": "application/json" };

it("a function from Request to Response has the routes and the page, and is closed without variables", async () => {
  const request = new Request("http://here/v1/embeddings", { method: "POST", headers, body });
  expect(vectorsOf(await (await app.fetch(request)).text())).toEqual(expected);
  const page = await app.request("/");
  expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(await page.text()).toContain("<!doctype html>");
  expect((await app.request("/model/manifest.json")).status).toBe(404);
  const closed = openApp(assetsOf(project.directory), await compileKernels("edge"));
  expect((await closed.request("/info")).status).toBe(401);
});

it("a handler of AWS Lambda answers the events of a function's address", async () => {
  const path = "/v1/embeddings";
  const http = { method: "POST", path, protocol: "HTTP/1.1", sourceIp: "", userAgent: "" };
  const event = {
    version: "2.0",
    rawPath: path,
    rawQueryString: "",
    headers,
    requestContext: { http, domainName: "here" },
    body: Buffer.from(body).toString("base64"),
    isBase64Encoded: true,
  };
  const answer = (await handle(app)(
    event as unknown as LambdaEvent,
    {} as LambdaContext,
  )) as unknown as { statusCode: number; body: string };
  expect(answer.statusCode).toBe(200);
  expect(vectorsOf(answer.body)).toEqual(expected);
});

describe.each([
  ["deno", ["run", "--allow-all"]],
  ["bun", ["run"]],
])("%s", (program, args) => {
  it("serves the same", async (test) => {
    needs(test, spawnSync(program, ["--version"]).status === 0, program);
    const folder = join(project.directory, "public");
    const child = spawn(program, [...args, "test/worker/serve.mts", folder], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exit = once(child, "exit");
    try {
      const [url] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
      const response = await fetch(`${url}/v1/embeddings`, { method: "POST", headers, body });
      expect(vectorsOf(await response.text())).toEqual(expected);
    } finally {
      child.kill("SIGKILL");
      await exit;
    }
  });
});
