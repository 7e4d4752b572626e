/** The commands of `docs/evaluation.md`, each as it stands there, on data and a model that fit a test. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { addEval } from "../../src/cli/eval.ts";
import { addIndex } from "../../src/cli/index.ts";
import { addInit } from "../../src/cli/init.ts";
import { addOverlap } from "../../src/cli/overlap.ts";
import { addReport } from "../../src/cli/report.ts";
import { addVocab } from "../../src/cli/vocab.ts";
import { ABLATION_NAMES } from "../../src/evaluate/ablations.ts";
import { STS_SUBSETS, STS_TASKS } from "../../src/evaluate/sts.ts";

const docs = readFileSync("docs/evaluation.md", "utf8");
const variables = Object.fromEntries(
  [...docs.matchAll(/^([A-Z]+)="(.+)"$/gm)].map(([, name, text]) => [name!, text!]),
);
/** Rows of the first table: what the paper calls it, the command, and where `--json` has it. */
const rows = /\| paper +\| what[\s\S]*?\n\n/
  .exec(docs)![0]
  .trim()
  .split("\n")
  .slice(2)
  .map((line) => {
    const [paper, what, command, json] = line
      .split("|")
      .slice(1)
      .map((cell) => cell.trim());
    const codes = [...json!.matchAll(/`([^`]+)`/g)].map(([, path]) => path!);
    return {
      paper: paper!,
      what: what!,
      cell: command!,
      command: /^`([^`]+)`$/.exec(command!)?.[1],
      paths: codes,
    };
  });
const ablations = rows.flatMap(({ command, paths }) => {
  const [, name] = /^\$ABLATE --rows (\S+)$/.exec(command ?? "") ?? [];
  return name === undefined ? [] : [{ name, paths }];
});
const runnable = rows.filter(
  ({ command }) => command !== undefined && !command.includes("$ABLATE"),
);

const folder = mkdtempSync(join(tmpdir(), "simcse-paper-"));
const at = (...names: string[]): string => join(folder, ...names);
const write = (name: string, lines: readonly string[]): void => {
  mkdirSync(dirname(at(name)), { recursive: true });
  writeFileSync(at(name), lines.join("\n"));
};
const printed = vi.spyOn(console, "log").mockImplementation(() => {});

/** What a command prints; it runs once, however many rows it stands in. */
async function simcse(...args: readonly string[]): Promise<string> {
  const known = outputs.get(args.join(" "));
  if (known !== undefined) return known;
  printed.mockClear();
  const program = new Command().exitOverride();
  for (const add of [addVocab, addInit, addEval, addReport, addOverlap, addIndex]) add(program);
  await program.parseAsync(args, { from: "user" });
  const out = printed.mock.calls.flat().join("\n");
  outputs.set(args.join(" "), out);
  return out;
}
const outputs = new Map<string, string>();

/** The words of a command, with the names of files and folders as paths. */
function wordsOf(command: string): string[] {
  const whole = command
    .replaceAll(/\$([A-Z]+)/g, (_, name: string) => variables[name]!)
    .replace("--dimensions 256", "--dimensions 4");
  const words = [...whole.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare!);
  return words
    .slice(1)
    .map((word) =>
      /\.(txt|csv|tsv|index|html)$|^DIR$|MODEL$|^scifact$|^runs\//.test(word)
        ? word.replace(/[^:]+$/, (name) => at(name))
        : word,
    );
}

beforeAll(async () => {
  vi.spyOn(process.stderr, "write").mockReturnValue(true); // notes
  const nouns = ["cat", "dog", "bird", "fish", "sun", "moon", "sea", "tree"];
  const sentences = nouns.flatMap((a) => nouns.slice(0, 3).map((b) => `A ${a} sees the ${b}.`));
  const graded = sentences.map((a, i) => `${(i * 7) % 6}\t${a}\t${sentences[(i * 5) % 24]}`);
  const labelled = (i: number): string => `${i % 2 ? "good" : "bad"} ${sentences[i]}`;
  for (const [task, subsets] of Object.entries(STS_SUBSETS)) {
    for (const subset of subsets) write(`DIR/sts/${task.toLowerCase()}/${subset}.tsv`, graded);
  }
  for (const split of ["dev", "test"]) {
    write(`DIR/sts/stsb/${split}.tsv`, graded);
    write(`DIR/sts/sickr/${split}.tsv`, graded);
  }
  const classes = [0, 1].map((label) =>
    sentences.map((_, i) => labelled(i)).filter((_, i) => i % 2 === label),
  );
  // prettier-ignore
  for (const [file, label] of [["MR/rt-polarity.neg", 0], ["MR/rt-polarity.pos", 1], ["CR/custrev.neg", 0], ["CR/custrev.pos", 1], ["SUBJ/subj.subjective", 0], ["SUBJ/subj.objective", 1], ["MPQA/mpqa.neg", 0], ["MPQA/mpqa.pos", 1]] as const) write(`DIR/${file}`, classes[label]!);
  for (const split of ["train", "dev", "test"]) {
    write(
      `DIR/SST/binary/sentiment-${split}`,
      sentences.map((_, i) => `${labelled(i)}\t${i % 2}`),
    );
  }
  for (const file of ["train_5500", "TREC_10"]) {
    write(
      `DIR/TREC/${file}.label`,
      sentences.map((_, i) => `${i % 2 ? "NUM" : "HUM"}:x ${labelled(i)}`),
    );
  }
  const paraphrases = [
    "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    ...sentences.map((text, i) => `${i % 2}\t1\t2\t${text}\t${i % 2 ? text : sentences[23 - i]}`),
  ];
  write("DIR/MRPC/msr_paraphrase_train.txt", paraphrases);
  write("DIR/MRPC/msr_paraphrase_test.txt", paraphrases);
  write("msr_paraphrase_test.txt", paraphrases);
  const sick = sentences.map(
    (text, i) => `${i}\t${text}\t${sentences[23 - i]}\t3\t${i % 2 ? "NEUTRAL" : "ENTAILMENT"}`,
  );
  for (const name of ["SICK_train", "SICK_trial", "SICK_test_annotated"]) {
    write(`DIR/SICK/${name}.txt`, [
      "pair_ID\tA\tB\trelatedness_score\tentailment_judgment",
      ...sick,
    ]);
  }
  write("stsb-zh.tsv", ["5\t一只猫\t一只小猫", "0\t一只猫\t一架飞机", "3\t狗跑\t狗走"]);
  write("nli.csv", [
    "sent0,sent1,hard_neg",
    ...sentences.map((text, i) => `${text},${sentences[23 - i]},x`),
  ]);
  for (const name of ["nli.txt", "target.txt", "captions.txt"]) write(name, sentences);
  const words = [...nouns, "A", "sees", "the", "."];
  write(
    "glove.txt",
    words.map((word, i) => `${word} ${Math.sin(i)} ${Math.cos(2 * i)} ${Math.sin(5 * i)}`),
  );
  const texts = (letter: string): string[] =>
    sentences.map((text, i) => JSON.stringify({ _id: `${letter}${i}`, text }));
  write("scifact/corpus.jsonl", texts("d"));
  write("scifact/queries.jsonl", texts("q"));
  write("scifact/qrels/test.tsv", ["query-id\tcorpus-id\tscore", "q1\td2\t1", "q3\td3\t2"]);
  write("runs/first/metrics.jsonl", [
    JSON.stringify({ step: 1, spearman: 50, alignment: 0.3, uniformity: -1 }),
  ]);
  await simcse(
    "vocab",
    "--corpus",
    at("nli.txt"),
    "--output",
    at("t.json"),
    "--size",
    "120",
    "--min-frequency",
    "1",
  );
  // prettier-ignore
  await simcse("init", "--tokenizer", at("t.json"), "--output", at("MODEL"), "--hidden", "16", "--intermediate", "16", "--heads", "2", "--layers", "2", "--max-length", "16", "--pooling", "cls");
});
afterAll(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

it("every table and figure of the paper has a row", () => {
  const papers = rows.map(({ paper }) => paper).join();
  // prettier-ignore
  for (const name of [1, 2, 3, 4, 5, 6, 7, 8, "B.3", "C.1", "D.1", "D.2", "E.1"]) expect(papers).toContain(`table ${name}`);
  for (const name of [2, 3, "F.1", "G.1"]) expect(papers).toContain(`figure ${name}`);
  for (const { command, cell } of rows) if (!command) expect(cell).toContain("(training.md#");
  // `ablate.test.ts` trains them.
  expect(ablations.map(({ name }) => name).toSorted()).toEqual([...ABLATION_NAMES].toSorted());
  for (const { name, paths } of ablations) expect(paths).toEqual([name]);
});

describe("runs", () => {
  it.each(runnable)("$paper $what: $command", async ({ command, paths }) => {
    const words = wordsOf(command!);
    const out = await simcse(...words, ...(command!.includes("transfer") ? ["--fast"] : []));
    if (words[0] === "report") {
      const html = readFileSync(at("report.html"), "utf8");
      expect(html).toContain("<title>Alignment and uniformity</title>");
      expect(html).toContain("<title>Singular values</title>");
      expect(html.match(/<title>Cosines by grade/g)).toHaveLength(2);
      if (command!.includes("--runs")) expect(html).toContain("<title>Training of");
    } else if (words[1] === "build") {
      expect(existsSync(at("captions.index"))).toBe(true);
    } else {
      expect(out).toMatch(/\d\.\d/);
      expect(out).not.toMatch(/NaN|undefined/);
    }
    if (words.includes("--tasks") && words.includes("sts") && words[0] === "eval") {
      expect(out.split("\n")[0]).toMatch(new RegExp(`^model +${STS_TASKS.join(" +")} +average$`));
    }
    if (paths.length === 0) return;
    const json = JSON.parse(
      await simcse(...words, "--json", ...(command!.includes("transfer") ? ["--fast"] : [])),
    ) as Record<string, unknown>;
    for (const path of paths) {
      const value = path
        .split(".")
        .reduce<unknown>((found, key) => (found as Record<string, unknown>)[key], json);
      const finite = (found: unknown): boolean =>
        typeof found === "object" && found !== null
          ? Object.values(found).length > 0
          : Number.isFinite(found);
      expect(finite(value), `${path}: ${JSON.stringify(value)}`).toBe(true);
    }
  });
});
