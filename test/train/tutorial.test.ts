import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { sentences } from "./text.ts";

/** The commands of `docs/tutorial.md`, one after another, in a folder with the files it speaks of. */
const folder = mkdtempSync(join(tmpdir(), "simcse-tutorial-"));
const blocks = readFileSync("docs/tutorial.md", "utf8").matchAll(/```sh\n([\s\S]*?)```/g);
const commands = [...blocks].flatMap(([, block]) => block!.trim().split("\n"));

beforeAll(() => {
  const [left, right] = [sentences(60, 1), sentences(60, 2)];
  const write = (name: string, lines: readonly string[]): void =>
    writeFileSync(join(folder, name), lines.join("\n"));
  const pairs = left.map((sentence, i) => [sentence, right[i]!]);
  write(
    "sentences.txt",
    sentences(600, 3).flatMap((line, i) => (i % 8 === 0 ? ["", line] : line)),
  );
  write("pairs.csv", ["text,title", ...pairs.map((pair) => pair.join())]);
  write(
    "graded.tsv",
    pairs.map((pair, i) => [i % 6, ...pair].join("\t")),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

it("has commands", () => {
  expect(commands.length).toBeGreaterThan(12);
});

it.each(commands)("%s", (command) => {
  const [name, ...words] = command.match(/"[^"]*"|\S+/g)!;
  expect(name).toBe("simcse");
  const args = words.map((word) => word.replaceAll('"', ""));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [resolve("src/cli/main.ts"), ...args],
    { cwd: folder, encoding: "utf8" },
  );
  expect(status, stderr).toBe(0);
  expect(stdout + stderr).not.toBe("");
});
