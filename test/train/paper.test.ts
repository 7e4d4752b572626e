import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { addInit } from "../../src/cli/init.ts";
import { addTrain } from "../../src/cli/train.ts";
import { addVocab } from "../../src/cli/vocab.ts";
import { ABLATIONS } from "../../src/evaluate/ablations.ts";
import { RandomStream } from "../../src/train/random.ts";

/** The commands of `docs/training.md` for the paper's rows, on files and a model of the same names that fit a test. */
const docs = readFileSync("docs/training.md", "utf8").split("## The paper's experiments")[1]!;
const folder = mkdtempSync(join(tmpdir(), "simcse-paper-"));

/** What UNSUP, SUP and PAIRS stand for. */
const variables = Object.fromEntries(
  [...docs.matchAll(/^([A-Z]+)="(.+)"$/gm)].map(([, name, text]) => [name!, text!]),
);
/** Rows by the table they stand in: what they change, the paper's score, the command. */
const rows = [...docs.matchAll(/^Table (\S+?), [\s\S]*?\n\n((?:\|.*\n?)+)/gm)].flatMap(
  ([, table, lines]) =>
    lines!
      .split("\n")
      .slice(2)
      .filter((line) => line !== "")
      .map((line) => line.split("|").map((cell) => cell.trim()))
      .map(([, row, paper, text]) => ({
        table,
        row,
        paper,
        text,
        command: /`([^`]+)`/.exec(text!)![1]!,
      })),
);

const simcse = async (...args: readonly string[]): Promise<void> => {
  const program = new Command().exitOverride();
  for (const add of [addVocab, addInit, addTrain]) add(program);
  await program.parseAsync(args, { from: "user" });
};

/** The words of a command, with the names of its files as paths. */
function wordsOf(command: string): string[] {
  const whole = command.replaceAll(/\$([A-Z]+)/g, (_, name: string) => variables[name]!);
  return whole.split(" ").map((word) => {
    if (word.startsWith("recipes/")) return resolve(word);
    return /\.(txt|csv|tsv)$|^bert-base$/.test(word)
      ? word.replace(/[^:]+$/, (name) => join(folder, name))
      : word;
  });
}

beforeAll(async () => {
  vi.spyOn(console, "log").mockImplementation(() => {});
  vi.spyOn(process.stderr, "write").mockReturnValue(true); // notes
  const words = "a the file folder reads writes quickly server client returns opens value".split(
    " ",
  );
  const random = new RandomStream(4, 9);
  const sentence = (): string =>
    Array.from({ length: 4 + random.below(8) }, () => words[random.below(words.length)]).join(" ");
  const write = (name: string, lines: readonly string[]): void =>
    writeFileSync(join(folder, name), lines.join("\n"));
  const many = (row: () => string): string[] => Array.from({ length: 40 }, row);
  write("wiki.txt", many(sentence));
  write("synonyms.tsv", ["file\tfolder", "quickly\topens"]);
  write(
    "stsb-dev.tsv",
    many(() => `${random.below(6)}\t${sentence()}\t${sentence()}`),
  );
  for (const name of docs.match(/[\w-]+\.csv/g)!) {
    const triplets = /^(nli|anli|nli-neutral-negative)\.csv$/.test(name);
    const columns = triplets ? ["sent0", "sent1", "hard_neg"] : ["sent0", "sent1"];
    write(name, [columns.join(","), ...many(() => columns.map(sentence).join(","))]);
  }
  const path = (name: string): string => join(folder, name);
  await simcse("vocab", "--corpus", path("wiki.txt"), "--output", path("t.json"), "--size", "100");
  // Pretrained weights have the head of a masked language model.
  // prettier-ignore
  await simcse("init", "--tokenizer", path("t.json"), "--output", path("untrained"), "--hidden", "16", "--heads", "2", "--intermediate", "16", "--layers", "2", "--pooling", "cls");
  // prettier-ignore
  await simcse("train", "--objective", "mlm", "--steps", "1", "--threads", "1", "--model", path("untrained"), "--train", path("wiki.txt"), "--output", path("bert-base"));
});
afterAll(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

describe("the paper's rows", () => {
  it("are there, table by table", () => {
    const count = (table: string): number => rows.filter((row) => row.table === table).length;
    const tables = ["1", "2", "3", "4", "6", "7", "D.1", "D.2"];
    expect(Object.fromEntries(tables.map((table) => [table, count(table)]))).toMatchObject({
      1: 11,
      2: 4,
      3: 8,
      4: 10,
      6: 8,
      7: 5,
      "D.1": 6,
      "D.2": 4,
    });
  });

  it("have the scores that simcse ablate prints beside its own", () => {
    for (const { source, rows: own } of Object.values(ABLATIONS)) {
      const printed = rows.filter(({ table }) => source === `table ${table}`);
      for (const { published } of printed.length > 0 ? own : []) {
        if (published === undefined) continue;
        expect(
          printed.map(({ paper }) => Number(paper)),
          source,
        ).toContain(published);
      }
    }
  });

  it.each(rows)("$table, $row: $command", async ({ command }) => {
    const [name, ...args] = wordsOf(command);
    expect(name).toBe("simcse");
    const output = join(folder, "never");
    await simcse(...args, "--output", output, "--threads", "1", "--steps", "2", "--dry-run");
    const printed = vi.mocked(console.log).mock.lastCall?.[0] as string;
    expect(printed).toMatch(/^parameters +[\d,]+\n[\s\S]*seconds a step/);
  });
});
