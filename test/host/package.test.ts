/** The package as `npm publish` would send it, installed into an empty folder. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { publint } from "publint";
import { afterAll, expect, it } from "vitest";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";
import { needs } from "../needs.ts";
import { SimCSE } from "../../src/node/index.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-package-"));
afterAll(() => rmSync(directory, { recursive: true }));

function run(
  cwd: string,
  command: string,
  ...args: string[]
): { code: number | null; out: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  return { code: status, out: stdout + stderr };
}

it("installs with six packages, none of them native, and runs the examples of README.md and docs/api.md", async (test) => {
  const build = run(
    ".",
    process.execPath,
    "node_modules/typescript/bin/tsc",
    "-p",
    "tsconfig.build.json",
  );
  expect(build).toEqual({ code: 0, out: "" });
  expect(run(".", process.execPath, "scripts/copy-assets.ts").code).toBe(0);
  expect(run(".", "npm", "pack", "--ignore-scripts", "--pack-destination", directory).code).toBe(0);
  const [tarball] = readdirSync(directory);

  writeFileSync(join(directory, "package.json"), `{"private": true, "type": "module"}`);
  // prettier-ignore
  const install = run(directory, "npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0", `./${tarball}`);
  const offline = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|network/;
  needs(test, install.code === 0 || !offline.test(install.out), "the npm registry");
  expect(install.code, install.out).toBe(0);
  const files = readdirSync(join(directory, "node_modules"), { recursive: true, encoding: "utf8" });
  const manifests = files.filter((file) => /^(@[^/]+\/)?[^/@.]+\/package\.json$/.test(file));
  expect(manifests).toHaveLength(7);
  expect(files.filter((file) => file.endsWith(".node"))).toEqual([]);
  expect(
    files.filter((file) => /^simcse-edge\/.*\.(map|tsx?)$/.test(file) && !file.endsWith(".d.ts")),
  ).toEqual([]);
  for (const file of manifests) {
    const text = readFileSync(join(directory, "node_modules", file), "utf8");
    const { scripts = {} } = JSON.parse(text) as { scripts?: Record<string, string> };
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$/.test(name))).toEqual([]);
  }
  const bytes = files.map((file) => statSync(join(directory, "node_modules", file)));
  const total = bytes.reduce((sum, stats) => sum + (stats.isFile() ? stats.size : 0), 0);
  expect(total).toBeGreaterThan(3e6);
  expect(total).toBeLessThan(10e6);

  await writeTinyModel(join(directory, "models/my-model"), "int8");
  await writeTinyModel(join(directory, "models/f32"), "f32");
  writeFileSync(join(directory, "corpus.txt"), `${SENTENCES.join("\n")}\n`);
  writeFileSync(
    join(directory, "pairs.tsv"),
    "5\ta cat\ta kitten\n3\ta cat\ta dog\n0\ta cat\ta stock\n",
  );
  // The README's example works on what `npm start` leaves behind.
  await writeTinyModel(join(directory, "runs/start/int8"), "int8");
  writeFileSync(join(directory, "runs/start/corpus.txt"), `${SENTENCES.join("\n")}\n`);
  const [readme, api] = ["README.md", "docs/api.md"].map((file) => readFileSync(file, "utf8"));
  for (const [, code] of `${readme}${api}`.matchAll(/^```ts\n([\s\S]*?)^```$/gm)) {
    writeFileSync(join(directory, "example.ts"), code!);
    const expected = Array.from(code!.matchAll(/\/\/ → (.*)$/gm), ([, text]) => `${text}\n`);
    const { code: status, out } = run(directory, process.execPath, "example.ts");
    expect(status, out).toBe(0);
    expect(out).toBe(expected.join(""));
  }

  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  const command = join(directory, "node_modules/simcse-edge/dist/src/cli/main.js");
  expect(run(directory, process.execPath, command, "--version").out).toBe(`${version}\n`);
  const compared = run(
    directory,
    process.execPath,
    command,
    "similarity",
    "a",
    "a",
    "--model",
    "models/my-model",
  );
  expect(compared).toEqual({ code: 0, out: "1.0000\n" });
  // prettier-ignore
  const absent = run(directory, process.execPath, command, "similarity", "a", "a", "--model", "simcse-edge-mini");
  expect(absent.code).toBe(1);
  expect(absent.out).toContain("simcse-edge-mini: not in the npm package");
});

it("every entry of exports imports, with types; publint and attw find nothing", async (test) => {
  const [tarball] = readdirSync(directory).filter((file) => file.endsWith(".tgz"));
  const installed = join(directory, "node_modules/simcse-edge");
  needs(test, tarball !== undefined && existsSync(installed), "the npm registry");
  const { exports } = JSON.parse(readFileSync("package.json", "utf8")) as { exports: object };
  const entries = Object.keys(exports).filter((name) => !/\*|\.json$/.test(name));
  expect(entries.length).toBeGreaterThanOrEqual(5);
  // The Worker imports what only workerd has: the test below checks its types, and runs it.
  const specifiers = entries
    .filter((name) => name !== "./worker")
    .map((name) => `simcse-edge${name.slice(1)}`);
  const lines = specifiers.map((name, i) => `import * as e${i} from "${name}"; void e${i};`);
  writeFileSync(join(directory, "entries.ts"), `${lines.join("\n")}\n`);
  // prettier-ignore
  const types = ["--noEmit", "--strict", "--skipLibCheck", "false", "--target", "esnext", "--module", "nodenext", "--lib", "esnext,dom,dom.iterable,dom.asynciterable", "entries.ts"];
  const typeRoots = ["--typeRoots", resolve("node_modules/@types"), "--types", "node"];
  const compiler = resolve("node_modules/typescript/bin/tsc");
  expect(run(directory, process.execPath, compiler, ...types, ...typeRoots)).toEqual({
    code: 0,
    out: "",
  });
  const script = specifiers.map((name) => `await import("${name}");`).join("\n");
  expect(run(directory, process.execPath, "--input-type=module", "--eval", script)).toEqual({
    code: 0,
    out: "",
  });

  const { messages } = await publint({ pkgDir: installed, pack: false, strict: true });
  expect(messages).toEqual([]);
  const attw = resolve("node_modules/@arethetypeswrong/cli/dist/index.js");
  const path = join(directory, tarball);
  const checked = run(".", process.execPath, attw, path, "--profile", "esm-only", "--quiet");
  expect(checked).toEqual({ code: 0, out: "" });
});

it("simcse new writes a project that installs the package, passes the type check and answers in workerd", async (test) => {
  const [tarball] = readdirSync(directory).filter((file) => file.endsWith(".tgz"));
  const command = join(directory, "node_modules/simcse-edge/dist/src/cli/main.js");
  needs(test, tarball !== undefined && existsSync(command), "the npm registry");
  const args = [command, "new", "my worker", "--model", "models/own"];
  await writeTinyModel(join(directory, "models/own"), "int8");
  expect(run(directory, process.execPath, ...args).code).toBe(0);
  const project = join(directory, "my worker");
  const again = run(directory, process.execPath, ...args);
  expect(again).toMatchObject({ code: 2, out: expect.stringContaining("package.json") as string });

  const manifest = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as {
    name: string;
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  expect(manifest.dependencies).toEqual({ "simcse-edge": `^${version}` });
  manifest.dependencies["simcse-edge"] = `file:../${tarball}`;
  writeFileSync(join(project, "package.json"), JSON.stringify(manifest));
  const install = ["install", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline"];
  expect(run(project, "npm", ...install).code).toBe(0);
  // The versions that it asks for are installed here already.
  for (const name of Object.keys(manifest.devDependencies)) {
    const target = join(project, "node_modules", name);
    if (!existsSync(target)) symlinkSync(resolve("node_modules", name), target);
  }
  const compiler = "node_modules/typescript/bin/tsc";
  expect(run(project, process.execPath, compiler)).toEqual({ code: 0, out: "" });

  await using model = await SimCSE.load(join(directory, "models/own"), { threads: 1 });
  const child = spawn("npm", ["run", "dev", "--", "--port", "0"], {
    cwd: project,
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exit = once(child, "exit");
  try {
    let url: string | undefined;
    for await (const line of createInterface({ input: child.stderr })) {
      [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(line) ?? [];
      if (url !== undefined) break;
    }
    const response = await fetch(`${url}/v1/embeddings`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: manifest.name, input: SENTENCES[0] }),
    });
    const { data } = (await response.json()) as { data: { embedding: number[] }[] };
    expect(Float32Array.from(data[0]!.embedding)).toEqual(await model.encode(SENTENCES[0]!));
  } finally {
    process.kill(-child.pid!, "SIGINT");
    await exit;
  }
});
