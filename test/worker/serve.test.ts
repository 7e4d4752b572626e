/** `simcse key`, and whom `simcse serve` lets in. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyProject, type TinyProject } from "./tiny-model.ts";

/** This process's environment without what would open a server. */
const { API_KEY_HASHES: _, SIMCSE_API_KEY: __, PUBLIC: ___, ...environment } = process.env;

let project: TinyProject;
beforeAll(async () => {
  project = await makeTinyProject();
});
afterAll(() => project.remove());

function makeKey(): { key: string; hash: string; out: string; errors: string } {
  const { stdout: out, stderr: errors } = spawnSync(process.execPath, ["src/cli/main.ts", "key"], {
    encoding: "utf8",
  });
  const [, key, hash] = /^key {3}(\S+)\nhash {2}(\S+)\n$/.exec(out)!;
  return { key: key!, hash: hash!, out, errors };
}

interface Server {
  readonly url: string;
  readonly fragment: string;
  readonly notice: string;
}

/** Runs `simcse serve` on a free port while it is used. */
async function serving(
  {
    args = [],
    env = {},
    end = "SIGTERM",
  }: { args?: readonly string[]; env?: Record<string, string>; end?: NodeJS.Signals },
  use: (server: Server) => Promise<void>,
): Promise<void> {
  const command = ["src/cli/main.ts", "serve", "--model", join(project.directory, "model")];
  const child: ChildProcess = spawn(
    process.execPath,
    [...command, "--port", "0", "--threads", "1", ...args],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...environment, ...env } },
  );
  const exit = once(child, "exit");
  try {
    const printed: string[] = [];
    for await (const line of createInterface({ input: child.stderr! })) {
      printed.push(line);
      if (line.includes("open to")) break;
    }
    const [, url, fragment] = /(http:\/\/127\.0\.0\.1:\d+)\/(\S*)/.exec(printed.join("\n")) ?? [];
    if (url === undefined) throw new Error(`simcse serve printed ${printed.join("\n")}`);
    await use({ url, fragment: fragment!, notice: printed.at(-1)! });
  } finally {
    child.kill(end);
    await exit;
  }
}

async function statusOf(url: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await new Promise<IncomingMessage>((done, fail) => {
    request(url, { headers }, done).on("error", fail).end();
  });
  response.resume();
  return response.statusCode!;
}
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

describe("simcse key", () => {
  it("prints a new key and its SHA-256, and tells what they are for on the other stream", () => {
    const [one, other] = [makeKey(), makeKey()];
    expect(one.key).not.toBe(other.key);
    expect(one.key).toMatch(/^simcse-[\w-]{43}$/);
    expect(one.hash).toBe(createHash("sha256").update(one.key).digest("hex"));
    expect(one.errors).toContain("API_KEY_HASHES");
    expect(one.errors).not.toContain(one.key);
  });
});

describe("simcse serve", () => {
  it("without a word about keys makes one for its run, and prints it behind the address", async () => {
    await serving({}, async ({ url, fragment, notice }) => {
      const key = fragment.replace("#key=", "");
      expect(key).toMatch(/^simcse-[\w-]{43}$/);
      expect(notice).toContain(key);
      expect(await statusOf(`${url}/info`)).toBe(401);
      expect(await statusOf(`${url}/info`, bearer(makeKey().key))).toBe(401);
      expect(await statusOf(`${url}/info`, bearer(key))).toBe(200);
      expect(await statusOf(`${url}/`)).toBe(200);
      expect(await statusOf(`${url}/health`)).toBe(200);
    });
  });

  it("takes the hash of `simcse key`, and then prints no key", async () => {
    const { key, hash } = makeKey();
    await serving({ env: { API_KEY_HASHES: hash } }, async ({ url, fragment, notice }) => {
      expect([fragment, notice]).toEqual(["", "open to the keys of API_KEY_HASHES"]);
      expect(await statusOf(`${url}/info`)).toBe(401);
      expect(await statusOf(`${url}/info`, bearer(hash))).toBe(401);
      expect(await statusOf(`${url}/info`, bearer(key))).toBe(200);
    });
  });

  it("is misdirected under a name that is not this computer's, key or not", async () => {
    await serving({ args: ["--public"] }, async ({ url }) => {
      const { port } = new URL(url);
      for (const host of ["evil.example", `evil.example:${port}`, "localhost.evil.example"]) {
        expect([host, await statusOf(`${url}/info`, { host })]).toEqual([host, 421]);
      }
      for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`]) {
        expect([host, await statusOf(`${url}/info`, { host })]).toEqual([host, 200]);
      }
    });
  });

  it("--documents keeps what was acknowledged in a file, even when it is killed", async () => {
    const file = join(project.directory, "documents.sqlite");
    const args = ["--public", "--documents", file];
    const json = { "content-type": "application/json" };
    const document = { id: "a/1", text: "a dog runs along the beach", metadata: { page: 3 } };
    await serving({ args, end: "SIGKILL" }, async ({ url }) => {
      const body = JSON.stringify({ documents: [document] });
      const response = await fetch(`${url}/documents`, { method: "POST", headers: json, body });
      expect(await response.json()).toEqual({ written: 1 });
    });
    await serving({ args }, async ({ url }) => {
      expect(await (await fetch(`${url}/documents/a/1`)).json()).toEqual(document);
      const body = JSON.stringify({ query: document.text, filter: { page: 3 } });
      const response = await fetch(`${url}/search`, { method: "POST", headers: json, body });
      const { results } = (await response.json()) as { results: object[] };
      expect(results).toEqual([{ ...document, score: expect.closeTo(1, 6) as number }]);
    });
  });

  it("simcse index fill writes a file into it, and says what a server refuses", async () => {
    const input = join(project.directory, "rows.jsonl");
    const rows = [...Array(25).keys()].map((i) => ({
      id: i,
      body: "a cat sleeps",
      page: i % 2,
    }));
    await writeFile(input, rows.map((row) => JSON.stringify(row)).join("\n"));
    const database = join(project.directory, "filled.sqlite");
    const args = ["--api-key", "secret", "--documents", database];
    await serving({ args }, async ({ url }) => {
      const fill = async (...more: string[]) => {
        // prettier-ignore
        const command = ["src/cli/main.ts", "index", "fill", input, "--url", url, "--field", "body", "--batch-size", "10", ...more];
        const child = spawn(process.execPath, command, { env: environment });
        const [errors, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
        return [code as number, errors] as const;
      };
      const [refused, why] = await fill();
      expect([refused, why]).toEqual([1, expect.stringContaining("401") as string]);
      for (let i = 0; i < 2; i++) {
        const [code, errors] = await fill("--api-key", "secret");
        expect([code, errors]).toEqual([0, expect.stringContaining("25 documents") as string]);
      }
      const response = await fetch(`${url}/documents`, { headers: bearer("secret") });
      const { documents } = (await response.json()) as { documents: object[] };
      expect(documents).toHaveLength(25);
      expect(documents[1]).toEqual({ id: "1", text: "a cat sleeps", metadata: { page: 1 } });
    });
  });

  it.each([
    [["--public", "--api-key", "y"], "expected --public or --api-key, not both"],
    [["--index", "x", "--documents", "y"], "expected --index or --documents, not both"],
  ])("refuses %s", (options, message) => {
    const args = ["serve", "--model", "x", ...options];
    const { status, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
      encoding: "utf8",
      env: environment,
    });
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});
