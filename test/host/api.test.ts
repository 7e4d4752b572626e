/** The examples of docs/api.md, each as a program of its own. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

/** Where the package's entries are in the sources: what the tests import need not be built. */
const ENTRIES: Readonly<Record<string, string>> = {
  "simcse-edge": "src/node/index.ts",
  "simcse-edge/edge": "src/edge.ts",
  "simcse-edge/train": "src/train/index.ts",
  "simcse-edge/commands": "src/cli/commands.ts",
  "simcse-edge/evaluate": "src/evaluate/index.ts",
  "simcse-edge/wasm/edge.wasm": "build/edge.wasm",
};

const PAIRS = "5\ta cat\ta kitten\n3\ta cat\ta dog\n0\ta cat\ta stock\n";

const directory = mkdtempSync(join(tmpdir(), "simcse-docs-"));
beforeAll(async () => {
  await writeTinyModel(join(directory, "models/my-model"), "int8");
  await writeTinyModel(join(directory, "models/f32"), "f32");
  writeFileSync(join(directory, "corpus.txt"), `${SENTENCES.join("\n")}\n`);
  writeFileSync(join(directory, "pairs.tsv"), PAIRS);
});
afterAll(() => rmSync(directory, { recursive: true }));

const examples = Array.from(
  readFileSync("docs/api.md", "utf8").matchAll(/^## (.*)$|^```ts\n([\s\S]*?)^```$/gm),
)
  .reduce<{ heading: string; code: string }[]>((found, [, heading, code]) => {
    const last = found.at(-1);
    if (heading !== undefined) return [...found, { heading, code: "" }];
    return [...found, { heading: last!.heading, code: code! }];
  }, [])
  .filter(({ code }) => code !== "");

describe("docs/api.md", () => {
  it.each(Object.entries(ENTRIES).filter(([, file]) => file.endsWith(".ts")))(
    "names every export of %s",
    async (_, file) => {
      const entry = (await import(new URL(`../../${file}`, import.meta.url).href)) as object;
      const text = readFileSync("docs/api.md", "utf8");
      expect(Object.keys(entry).filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
    },
  );

  it("has examples", () => {
    expect(examples.length).toBeGreaterThan(8);
  });

  it.each(examples)("$heading: prints what it says", ({ code }) => {
    const program = code.replaceAll(/"(simcse-edge[\w/.-]*)"/g, (_, name: string) =>
      JSON.stringify(new URL(`../../${ENTRIES[name]}`, import.meta.url).href),
    );
    const file = join(directory, "example.ts");
    writeFileSync(file, program);
    const { stdout, stderr } = spawnSync(process.execPath, [file], {
      cwd: directory,
      encoding: "utf8",
    });
    const expected = Array.from(code.matchAll(/\/\/ → (.*)$/gm), ([, text]) => `${text}\n`);
    expect(stderr).toBe("");
    expect(stdout).toBe(expected.join(""));
    expect(expected.length).toBeGreaterThan(0);
  });
});
