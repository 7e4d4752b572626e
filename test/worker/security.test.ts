/** Who gets in, how much they may ask, and what is said about it. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { hashOf, makeKey } from "../../src/node/keys.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { SentenceModel } from "../../src/simcse.ts";
import { type App, createApp } from "../../worker/app.ts";
import { type Service, serviceLoader } from "../../worker/service.ts";
import { settingsOf } from "../../worker/settings.ts";
import { assetsOf, makeTinyProject, type TinyProject } from "./tiny-model.ts";

let project: TinyProject;
let service: Service;

beforeAll(async () => {
  project = await makeTinyProject();
  service = await serviceLoader(assetsOf(project.directory), await compileKernels("edge"))();
});
afterAll(() => project.remove());

const [key, other] = [makeKey(), makeKey()];

function appOf(env: Record<string, unknown>, of: Service = service): App {
  const page = (path: string) => assetsOf(project.directory)(path === "/" ? "/index.html" : path);
  return createApp(() => Promise.resolve(of), settingsOf(env), page);
}

interface Ask {
  key?: string;
  body?: unknown;
  headers?: Record<string, string>;
}

function post(app: App, path: string, { key: sent, body, headers }: Ask = {}): Promise<Response> {
  const all = {
    "content-type": "application/json",
    ...(sent !== undefined && { authorization: `Bearer ${sent}` }),
    ...headers,
  };
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return Promise.resolve(app.request(path, { method: "POST", headers: all, body: text }));
}

async function errorOf(response: Response): Promise<Record<string, unknown>> {
  return { status: response.status, ...((await response.json()) as object) };
}

const ROUTES: readonly (readonly [string, string])[] = [
  ["POST", "/v1/embeddings"],
  ["GET", "/v1/models"],
  ["POST", "/search"],
  ["POST", "/documents"],
  ["GET", "/documents"],
  ["GET", "/documents/a"],
  ["DELETE", "/documents"],
  ["DELETE", "/documents/a"],
  ["GET", "/info"],
  ["GET", "/model/manifest.json"],
  ["GET", "/nowhere"],
];

describe("keys", () => {
  it("are 256 random bits, and hashes are what sha256sum prints", () => {
    expect(key).toMatch(/^simcse-[\w-]{43}$/);
    expect(key).not.toBe(other);
    expect(hashOf(key)).toBe(createHash("sha256").update(key).digest("hex"));
  });

  it("without any, nor PUBLIC, every route but health refuses, the page too, and says what to set", async () => {
    for (const env of [{}, { API_KEY_HASHES: " , " }, { PUBLIC: "yes" }, { PUBLIC: "" }]) {
      const app = appOf(env);
      for (const [method, path] of [...ROUTES, ["GET", "/"], ["GET", "/search.js"]] as const) {
        const response = await app.request(path, { method, headers: { authorization: "Bearer " } });
        expect([path, response.status]).toEqual([path, 401]);
        expect(response.headers.get("www-authenticate")).toMatch(/^Bearer/);
        expect(await response.text()).toContain("set API_KEY_HASHES");
      }
      expect((await app.request("/health")).status).toBe(200);
    }
  });

  it.each([
    [
      "a key instead of its hash",
      { API_KEY_HASHES: key, PUBLIC: "true" },
      "entry 1 of API_KEY_HASHES",
    ],
    ["a limit that is no number", { PUBLIC: "true", MAX_INPUTS: "many" }, "MAX_INPUTS"],
    ["a limit of none", { PUBLIC: "true", MAX_TOKENS: 0 }, "MAX_TOKENS"],
    [
      "an origin with a path",
      { PUBLIC: "true", CORS_ORIGINS: "https://a.example/x" },
      "CORS_ORIGINS",
    ],
    ["any origin", { PUBLIC: "true", CORS_ORIGINS: "*" }, "CORS_ORIGINS"],
  ])("%s closes the server, which says so but quotes no key", async (_, env, named) => {
    const response = await appOf(env).request("/v1/models");
    expect(response.status).toBe(401);
    const text = await response.text();
    expect(text).toContain(named);
    expect(text).not.toContain(key);
  });

  it("let in whoever has one of them, and nobody else", async () => {
    const app = appOf({ API_KEY_HASHES: `${hashOf(key)}, ${hashOf(other)}` });
    for (const good of [key, other]) {
      expect((await post(app, "/v1/embeddings", { key: good, body: { input: "a" } })).status).toBe(
        200,
      );
    }
    const wrong = [
      undefined,
      "",
      makeKey(),
      key.slice(0, -1),
      `${key}x`,
      hashOf(key),
      key.toUpperCase(),
    ];
    for (const bad of wrong) {
      for (const [method, path] of ROUTES) {
        const headers = bad === undefined ? {} : { authorization: `Bearer ${bad}` };
        const response = await app.request(path, { method, headers });
        expect([bad, path, response.status]).toEqual([bad, path, 401]);
      }
    }
    for (const authorization of [
      `Basic ${btoa(`:${key}`)}`,
      key,
      `Bearer ${key} ${key}`,
      `Bearer${key}`,
    ]) {
      expect((await post(app, "/v1/embeddings", { headers: { authorization } })).status).toBe(401);
    }
    expect(
      (
        await post(app, "/v1/embeddings", {
          headers: { authorization: `bearer  ${key}` },
          body: { input: "a" },
        })
      ).status,
    ).toBe(200);
  });

  it("win over PUBLIC, and open the page, which shows nothing without one", async () => {
    const app = appOf({ API_KEY_HASHES: hashOf(key), PUBLIC: "true" });
    expect((await app.request("/info")).status).toBe(401);
    expect((await app.request("/")).status).toBe(200);
  });

  it("a refusal is OpenAI's or TEI's, and comes before the body is read", async () => {
    const app = appOf({ API_KEY_HASHES: hashOf(key) });
    const body = "{".repeat(3_000_000);
    expect(await errorOf(await post(app, "/v1/embeddings", { body }))).toEqual({
      status: 401,
      error: {
        message: "expected an API key in the header `Authorization: Bearer …`",
        type: "invalid_request_error",
        param: null,
        code: "invalid_api_key",
      },
    });
    expect(await errorOf(await app.request("/info"))).toMatchObject({
      status: 401,
      error_type: "Validation",
    });
  });
});

describe("limits", () => {
  it("a body of another type is a 415, so that no form of another site can send one", async () => {
    const app = appOf({ PUBLIC: "true" });
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "",
      "application/jsonp",
      "application/json; charset=latin1",
    ]) {
      const response = await post(app, "/v1/embeddings", {
        body: { input: "a" },
        headers: { "content-type": type },
      });
      expect(await errorOf(response)).toMatchObject({
        status: 415,
        error: { code: "unsupported_content_type" },
      });
    }
    for (const type of [
      "application/json",
      "application/json; charset=utf-8",
      "Application/JSON",
    ]) {
      const response = await post(app, "/v1/embeddings", {
        body: { input: "a" },
        headers: { "content-type": type },
      });
      expect(response.status).toBe(200);
    }
  });

  it("a body past the limit is given up while it arrives, not after", async () => {
    const app = appOf({ PUBLIC: "true", MAX_BODY_BYTES: "1000" });
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 100;
        controller.enqueue(new Uint8Array(100).fill(32));
      },
    });
    const headers = { "content-type": "application/json" };
    const response = await app.request("/v1/embeddings", {
      method: "POST",
      headers,
      body: endless,
      duplex: "half",
    } as RequestInit);
    expect(await errorOf(response)).toMatchObject({ status: 413, error: { code: null } });
    expect(sent).toBeLessThan(2000);
    expect((await post(app, "/v1/embeddings", { body: { input: "a" } })).status).toBe(200);
  });

  it("a body that stops arriving is a 408, and what it held is free again", async () => {
    const app = appOf({ PUBLIC: "true", MAX_BODY_SECONDS: 1, MAX_CONCURRENT_BYTES: 100 });
    const stalled = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(60).fill(32)),
    });
    const headers = { "content-type": "application/json" };
    const slow = app.request("/v1/embeddings", {
      method: "POST",
      headers,
      body: stalled,
      duplex: "half",
    } as RequestInit);
    await new Promise((turn) => setTimeout(turn, 100));
    const body = { input: "a".repeat(40) };
    const crowded = await post(app, "/v1/embeddings", { body });
    expect(crowded.headers.get("retry-after")).toBe("1");
    expect(await errorOf(crowded)).toMatchObject({
      status: 429,
      error: { type: "requests", code: "overloaded" },
    });
    expect(await errorOf(await slow)).toMatchObject({ status: 408 });
    expect((await post(app, "/v1/embeddings", { body })).status).toBe(200);
  });

  it("inputs and tokens in sum are limited", async () => {
    const app = appOf({ PUBLIC: "true", MAX_INPUTS: 3, MAX_TOKENS: 12 });
    const ask = async (input: unknown) =>
      errorOf(await post(app, "/v1/embeddings", { body: { input } }));
    expect(await ask(["a", "a", "a"])).toMatchObject({ status: 200 });
    expect(await ask(["a", "a", "a", "a"])).toMatchObject({
      status: 400,
      error: { param: "input" },
    });
    expect(
      await ask([
        [5, 5, 5, 5, 5, 5],
        [5, 5, 5, 5, 5, 5],
      ]),
    ).toMatchObject({ status: 200 });
    expect(
      await ask([
        [5, 5, 5, 5, 5, 5],
        [5, 5, 5, 5, 5, 5, 5],
      ]),
    ).toMatchObject({
      status: 400,
      error: { param: "input", message: "input: more than 12 tokens in sum; send fewer at a time" },
    });
  });

  it("requests at a time are limited; the one too many is a 429 with retry-after", async () => {
    let proceed = (): void => undefined;
    const held = new Promise<void>((resolve) => (proceed = resolve));
    const app = createApp(
      () => held.then(() => service),
      settingsOf({ PUBLIC: "true", MAX_CONCURRENT: 2 }),
    );
    const waiting = [1, 2].map(() => post(app, "/v1/embeddings", { body: { input: "a" } }));
    await new Promise((turn) => setTimeout(turn, 50));
    const refused = await post(app, "/v1/embeddings", { body: { input: "a" } });
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(await errorOf(refused)).toMatchObject({ status: 429, error: { code: "overloaded" } });
    const info = await app.request("/info");
    expect(await errorOf(info)).toMatchObject({ status: 429, error_type: "Overloaded" });
    proceed();
    for (const { status } of await Promise.all(waiting)) expect(status).toBe(200);
    expect((await post(app, "/v1/embeddings", { body: { input: "a" } })).status).toBe(200);
  });

  it("a binding limits the rate of each key, or of each address where there are no keys", async () => {
    const asked: string[] = [];
    const RATE_LIMITER = {
      limit: ({ key: client }: { key: string }) =>
        Promise.resolve({ success: asked.push(client) <= 1 }),
    };
    const keyed = appOf({ API_KEY_HASHES: hashOf(key), RATE_LIMITER });
    expect((await post(keyed, "/v1/embeddings", { key, body: { input: "a" } })).status).toBe(200);
    const refused = await post(keyed, "/v1/embeddings", { key, body: { input: "a" } });
    expect(refused.headers.get("retry-after")).toBe("60");
    expect(await errorOf(refused)).toMatchObject({
      status: 429,
      error: { code: "rate_limit_exceeded" },
    });
    await appOf({ PUBLIC: "true", RATE_LIMITER }).request("/info", {
      headers: { "cf-connecting-ip": "192.0.2.1" },
    });
    expect(asked).toEqual([hashOf(key), hashOf(key), "192.0.2.1"]);
  });
});

describe("other origins", () => {
  it("may read what CORS_ORIGINS lists, with a key, and preflights need none", async () => {
    const app = appOf({
      API_KEY_HASHES: hashOf(key),
      CORS_ORIGINS: "https://a.example https://b.example",
    });
    const preflight = (origin: string) =>
      app.request("/v1/embeddings", {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "POST" },
      });
    const good = await preflight("https://b.example");
    expect(good.status).toBe(204);
    expect(good.headers.get("access-control-allow-origin")).toBe("https://b.example");
    expect(good.headers.get("access-control-allow-headers")).toBe("Authorization,Content-Type");
    expect(
      (await preflight("https://c.example")).headers.get("access-control-allow-origin"),
    ).toBeNull();
    const headers = { origin: "https://a.example" };
    const refused = await post(app, "/v1/embeddings", { headers });
    expect(refused.status).toBe(401);
    expect(refused.headers.get("access-control-allow-origin")).toBe("https://a.example");
    expect(refused.headers.get("vary")).toContain("Origin");
    const answered = await post(app, "/v1/embeddings", { key, headers, body: { input: "a" } });
    expect(answered.headers.get("access-control-allow-origin")).toBe("https://a.example");
    expect(answered.headers.get("cache-control")).toBe("no-store");
    expect(answered.headers.get("access-control-allow-credentials")).toBeNull();
  });
});

describe("logs", () => {
  const logged: string[] = [];
  beforeEach(() => {
    logged.length = 0;
    for (const method of ["log", "info", "warn", "error", "debug"] as const) {
      vi.spyOn(console, method).mockImplementation((...args: unknown[]) => {
        logged.push(
          args.map((arg) => (arg instanceof Error ? (arg.stack ?? "") : String(arg))).join(" "),
        );
      });
    }
    return () => vi.restoreAllMocks();
  });

  it("hold no key and no text, whatever happens", async () => {
    const secret = "xyzzyplugh";
    const env = { API_KEY_HASHES: hashOf(key) };
    const { config, dimension, tokenizer } = service.model;
    const encode = (): never => {
      throw new Error(`cannot encode "${secret}" of ${key}`);
    };
    const module = await compileKernels("edge");
    const model = new SentenceModel({ config, dimension, encode }, tokenizer, module);
    for (const app of [appOf(env), appOf(env, { ...service, model })]) {
      for (const body of [
        { input: secret },
        `{"input": "${secret}`,
        { input: [secret, ""] },
        { model: secret, input: "a" },
      ]) {
        for (const sent of [key, key.slice(0, -1)])
          await post(app, "/v1/embeddings", { key: sent, body });
        await post(app, "/search", { key, body: { query: secret } });
      }
    }
    expect(logged.length).toBeGreaterThan(0);
    expect(logged[0]).toContain("Error: (message withheld)");
    expect(logged.join("\n")).not.toContain(secret);
    expect(logged.join("\n")).not.toContain(key.slice(8, 30));
  });
});
