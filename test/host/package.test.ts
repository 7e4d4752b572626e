/** The package as `npm publish` would send it, installed into an empty folder. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";
import { needs } from "../needs.ts";

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

  await writeTinyModel(join(directory, "models/my-model"), "int8");
  await writeTinyModel(join(directory, "models/f32"), "f32");
  writeFileSync(join(directory, "corpus.txt"), `${SENTENCES.join("\n")}\n`);
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
});
