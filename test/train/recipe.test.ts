import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parsePairs } from "../../src/evaluate/pairs.ts";
import { openRows } from "../../src/node/rows.ts";
import { RandomStream } from "../../src/train/random.ts";

/** Our models' own recipes, on little text and for few steps. */
const folder = mkdtempSync(join(tmpdir(), "simcse-recipe-"));
const path = (...names: string[]): string => join(folder, ...names);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(() => {
  const words = "a server opens the file then a client reads it and closes quickly".split(" ");
  const random = new RandomStream(3, 9);
  const sentence = (): string =>
    Array.from({ length: 5 }, () => words[random.below(words.length)]).join(" ");
  const sentences = (columns: number, between: string): string[] =>
    Array.from({ length: 60 }, () => Array.from({ length: columns }, sentence).join(between));
  writeFileSync(path("wiki.txt"), sentences(1, "").join("\n"));
  writeFileSync(path("nli.csv"), ["sent0,sent1,hard_neg", ...sentences(3, ",")].join("\n"));
  const graded = sentences(2, "\t").map((pair, i) => `${i % 6}\t${pair}`);
  writeFileSync(path("dev.tsv"), graded.join("\n"));
});

const DATA = [
  `wikipedia=${path("wiki.txt")}`,
  `triplets=${path("nli.csv")}`,
  `dev=${path("dev.tsv")}`,
];

function recipe(
  name: string,
  data: readonly string[],
  ...more: string[]
): { out: string; code: number | null } {
  // prettier-ignore
  const args = ["train", "--config", `recipes/${name}.json`, "--output", path(name), "--steps", "4", "--batch-size", "16",
    "--data", ...data, ...more];
  const all = ["src/cli/main.ts", ...args];
  const { stdout, stderr, status } = spawnSync(process.execPath, all, { encoding: "utf8" });
  return { out: stdout + stderr, code: status };
}

it("makes a quantised model from text, and leaves out what it has made", () => {
  const listed = recipe("nano", DATA, "--dry-run", "--seed", "2");
  expect(listed.code, listed.out).toBe(0);
  expect(existsSync(path("nano"))).toBe(false);
  expect(listed.out.match(/simcse init .* --seed 2 /)?.length).toBe(1);
  expect(listed.out.match(/simcse train .* --steps 4 .* --seed 2 .*/)?.length).toBe(1);

  const first = recipe("nano", DATA);
  expect(first.code, first.out).toBe(0);
  expect(first.out).toContain("trained 4 steps");
  const config = JSON.parse(readFileSync(path("nano", "int8", "config.json"), "utf8"));
  expect(config).toMatchObject({ hidden_size: 192, simcse_edge: { dtype: "int8" } });
  const { mtimeMs } = statSync(path("nano", "tokenizer.json"));

  const second = recipe("nano", DATA);
  expect(second.code, second.out).toBe(0);
  expect(second.out).toContain("tokenizer.json: made before");
  expect(second.out).toContain("trained 0 steps");
  expect(statSync(path("nano", "tokenizer.json")).mtimeMs).toBe(mtimeMs);
});

it.each([
  [DATA.slice(1), "--data wikipedia=<file>: text, a sentence a line"],
  [[...DATA, "corpus=x"], "has no such data; it takes wikipedia, triplets, dev"],
  [["wikipedia"], "--data wikipedia: expected name=file"],
])("refuses the data %j", (data, message) => {
  const { code, out } = recipe("nano", data);
  expect(code).toBe(2);
  expect(out).toContain(message);
});

it.each([
  [{ command: "bake" }, "stage 1: expected a command, found bake"],
  [{ command: "vocab", sise: 3, output: "x" }, "stage 1: sise is no option of vocab"],
  [{ command: "vocab", corpus: "{text}", output: "x" }, "stage 1: {text} is no data of it"],
  [{ command: "vocab", corpus: "x" }, "stage 1: expected an output"],
])("refuses the stage %j", (stage, message) => {
  writeFileSync(path("recipe.json"), JSON.stringify({ data: {}, stages: [stage] }));
  const args = ["src/cli/main.ts", "train", "--config", path("recipe.json"), "--output", path("x")];
  const { stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toContain(message);
});

it("averages models of several seeds, goes on from them, and averages again", () => {
  const { code, out } = recipe("mini", DATA, "--seed", "4");
  expect(code, out).toBe(0);
  for (const seed of [4, 5]) expect(out).toMatch(new RegExp(`simcse train .* --seed ${seed} `));
  expect(out).toContain("contrasts.csv.gz: 20,000 rows");
  expect(out).toContain("sentences.csv: ");
  expect(out).not.toContain("NaN");
  const config = JSON.parse(readFileSync(path("mini", "int8", "config.json"), "utf8"));
  expect(config).toMatchObject({ num_hidden_layers: 2, simcse_edge: { dtype: "int8" } });
});

it("trains on triplets that their rules still make", () => {
  const made = spawnSync(process.execPath, ["recipes/contrasts.ts"], {
    encoding: "utf8",
    maxBuffer: 2 ** 24,
  });
  expect(made.stderr).toBe("");
  const kept = gunzipSync(readFileSync("recipes/contrasts.csv.gz")).toString();
  expect(made.stdout === kept).toBe(true);
});

it("trains on no sentence that tests it", async () => {
  const trained = new Set<string>();
  for (const name of ["contrasts.csv.gz", "paraphrases.csv", "sentences.csv", "words.csv"])
    for await (const { cells } of (await openRows(`recipes/${name}`)).rows)
      for (const cell of cells) trained.add(cell.toLowerCase());
  expect(trained.size).toBeGreaterThan(105_000);
  const tests = ["order-negation", "software-pairs"].flatMap((name) =>
    parsePairs(readFileSync(`examples/${name}.tsv`, "utf8"), name).pairs.flatMap(({ a, b }) => [
      a,
      b,
    ]),
  );
  expect(tests.filter((sentence) => trained.has(sentence.toLowerCase()))).toEqual([]);
});
