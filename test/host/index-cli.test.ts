/** `simcse index`: a file of texts becomes an index, which is searched, thinned, grouped, and mined for training. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SimCSE } from "../../src/node/index.ts";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-index-cli-"));
const at = (name: string): string => join(directory, name);
const MODEL = ["--model", at("model")];

function simcse(...args: string[]): { code: number | null; out: string; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
    encoding: "utf8",
  });
  return { code: status, out: stdout, errors: stderr };
}

function run(...args: string[]): { out: string[]; errors: string } {
  const { code, out, errors } = simcse(...args);
  expect(code, errors).toBe(0);
  return { out: out.trim().split("\n"), errors };
}

/** Seven texts, and two of them again. */
const TEXTS = [...SENTENCES, SENTENCES[2]!, SENTENCES[3]!];

beforeAll(async () => {
  await writeTinyModel(at("model"), "f32");
  writeFileSync(at("texts.txt"), `${TEXTS.join("\n")}\n`);
  run("index", "build", at("texts.txt"), at("texts.index"), ...MODEL, "--precision", "int8");
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("simcse index", () => {
  it("search prints score, id and text, or JSON", () => {
    const { out } = run("index", "search", at("texts.index"), SENTENCES[4]!, ...MODEL);
    expect(out).toHaveLength(5);
    expect(out[0]).toMatch(/^(1\.00\d|0\.99\d) {2}4 {2}delete a folder and everything in it$/);
    const json = run("index", "search", at("texts.index"), SENTENCES[4]!, ...MODEL, "--json");
    expect(JSON.parse(json.out[0]!)).toMatchObject({ id: 4, text: SENTENCES[4] });
  });

  it("dedupe prints texts that repeat one before them, and removes them if told", () => {
    const index = at("copy.index");
    writeFileSync(index, readFileSync(at("texts.index")));
    const { out, errors } = run("index", "dedupe", index, "--threshold", "0.99");
    expect(out.map((line) => line.slice(7))).toEqual([
      `7 repeats 2  ${SENTENCES[2]}`,
      `8 repeats 3  ${SENTENCES[3]}`,
    ]);
    expect(errors).toContain("found 2 of 9 texts that repeat one");
    const json = run("index", "dedupe", index, "--threshold", "0.99", "--remove", "--json");
    expect(json.out.map((line) => JSON.parse(line))).toMatchObject([
      { id: 7, of: 2, text: SENTENCES[2] },
      { id: 8, of: 3, text: SENTENCES[3] },
    ]);
    expect(run("index", "dedupe", index, "--threshold", "0.99").errors).toContain(
      "found 0 of 7 texts",
    );
  });

  it("cluster prints groups of near texts", () => {
    const { out, errors } = run("index", "cluster", at("texts.index"), "--threshold", "0.99");
    expect(out).toEqual([
      `0  2  ${SENTENCES[2]}`,
      `0  7  ${SENTENCES[2]}`,
      `1  3  ${SENTENCES[3]}`,
      `1  8  ${SENTENCES[3]}`,
    ]);
    expect(errors).toContain("2 clusters of 4 of 9 texts");
    const all = run("index", "cluster", at("texts.index"), "--threshold", "-1", "--json");
    expect(JSON.parse(all.out[0]!).ids.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it.each(["csv", "jsonl"])("mine writes %s that simcse train reads", async (extension) => {
    const [pairs, triplets] = [at("pairs.tsv"), at(`triplets.${extension}`)];
    const rows = [
      ["question", "answer"],
      [SENTENCES[4]!, SENTENCES[5]!],
      [SENTENCES[6]!, SENTENCES[0]!],
    ];
    writeFileSync(pairs, rows.map((row) => row.join("\t")).join("\n"));
    const options = ["--negatives", "2", "--margin", "-2"];
    const { errors } = run(
      "index",
      "mine",
      at("texts.index"),
      pairs,
      triplets,
      ...MODEL,
      ...options,
    );
    expect(errors).toContain("4 triplets of 2 pairs; 0 pairs have no negative");

    await using model = await SimCSE.load(at("model"), { threads: 1 });
    const index = await model.loadIndex(at("texts.index"));
    const [first] = await index.mine([{ anchor: SENTENCES[4]!, positive: SENTENCES[5]! }], {
      negatives: 2,
      margin: -2,
    });
    const text = readFileSync(triplets, "utf8");
    for (const negative of first!.negatives)
      expect(text).toContain(JSON.stringify(negative).slice(1, 20));
    // prettier-ignore
    const train = run("train", ...MODEL, "--train", triplets, "--output", at(`run-${extension}`), "--steps", "1", "--batch-size", "4", "--max-length", "32", "--threads", "1");
    expect(train.errors).toContain("4 rows (sent0, sent1, hard_neg)");
  });

  it("mine says how many pairs have no text that is far enough", () => {
    writeFileSync(at("pairs.csv"), `a,b\n${SENTENCES[0]},${SENTENCES[1]}\n`);
    // prettier-ignore
    const { errors } = run("index", "mine", at("texts.index"), at("pairs.csv"), at("none.jsonl"), ...MODEL, "--margin", "2");
    expect(errors).toContain("0 triplets of 1 pairs; 1 pairs have no negative");
  });

  it.each([
    ["a name that is no format", "x.txt", "pairs.csv", /x\.txt: expected a name that ends in/],
    ["a file of one column", "x.csv", "texts.txt", /texts\.txt: expected two columns/],
  ])("mine refuses %s", (_, output, input, message) => {
    // prettier-ignore
    const { code, errors } = simcse("index", "mine", at("texts.index"), at(input), at(output), ...MODEL);
    expect(errors).toMatch(message);
    expect(code).toBe(2);
  });
});
