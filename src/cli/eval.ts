import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { evaluatePairs, type PairReport } from "../evaluate/measures.ts";
import { PUBLISHED_STS, PUBLISHED_TRANSFER, type PublishedRow } from "../evaluate/published.ts";
import type { RetrievalScore } from "../evaluate/retrieval.ts";
import { STS_TASKS } from "../evaluate/sts.ts";
import { ENTAILMENT_TASK, TRANSFER_TASKS } from "../evaluate/transfer.ts";
import type { Split } from "../node/eval-data.ts";
import { readPairs } from "../node/pairs-file.ts";
import { readRetrieval } from "../node/retrieval-data.ts";
import {
  addCandidates,
  type Candidate,
  type CandidateOptions,
  candidatesOf,
} from "./candidates.ts";
import { evaluateRetrieval, retrievalTable } from "./retrieval.ts";
import {
  evaluateTasks,
  floorOf,
  parseTasks,
  printed,
  readTasks,
  type Task,
  type TaskReport,
} from "./tasks.ts";
import { note, table } from "./terminal.ts";

interface EvalOptions extends CandidateOptions {
  readonly pairs?: string;
  readonly retrieval?: string;
  readonly tasks?: readonly Task[];
  readonly data?: string;
  readonly split: Split;
  readonly fast?: boolean;
  readonly published?: boolean;
  readonly json?: boolean;
}

/** Scores models on a file of graded pairs. */
export async function evaluateModels(
  candidates: readonly Candidate[],
  pairsFile: string,
): Promise<(PairReport & { readonly pooling: string })[]> {
  const { pairs, ungraded } = await readPairs(pairsFile);
  if (ungraded > 0) note(`${pairsFile}: left out ${ungraded} rows without a score`);
  const reports = [];
  for (const candidate of candidates) {
    await using embedder = await candidate.open();
    const report = await evaluatePairs(pairs, (texts) => embedder.encode(texts));
    reports.push({ pooling: embedder.pooling, ...report });
  }
  return reports;
}

/** Rows for people: one a model, and word overlap as what each has to beat. */
export function reportTable(names: readonly string[], reports: readonly PairReport[]): string {
  const number = (value: number, digits: number): string => value.toFixed(digits);
  const graded = table([
    ["model", "Spearman", "95 % interval", "alignment", "uniformity"],
    ["word overlap", number(reports[0]!.overlapSpearman, 2), "", "", ""],
    ...reports.map((r, i) => [
      names[i]!,
      number(r.spearman, 2),
      `${number(r.interval[0], 1)} to ${number(r.interval[1], 1)}`,
      number(r.alignment, 3),
      number(r.uniformity, 3),
    ]),
  ]);
  if (reports[0]!.paraphrase === undefined) return graded;
  const labelled = table([
    ["paraphrases", "accuracy", "threshold", "average precision", "F1"],
    ["larger class", number(reports[0]!.paraphrase.majority, 2), "", "", ""],
    ...reports.map(({ paraphrase: p }, i) => [
      names[i]!,
      number(p!.accuracy, 2),
      number(p!.threshold, 3),
      number(p!.averagePrecision, 2),
      number(p!.f1, 2),
    ]),
  ]);
  return `${graded}\n\n${labelled}`;
}

/** A table as in the paper: a row a model, a column a task, the average only where all tasks are there. */
function taskTable(
  tasks: readonly Task[],
  names: readonly string[],
  reports: readonly TaskReport[],
  average: "average" | "transferAverage",
  published: readonly PublishedRow[],
): string {
  const overlaps = tasks.map((task) => floorOf(reports[0]!.tasks[task])?.toFixed(2) ?? "");
  return table([
    ["model", ...tasks, "average"],
    ...(overlaps.some((cell) => cell !== "") ? [["word overlap", ...overlaps, ""]] : []),
    ...reports.map((report, i) => [
      names[i]!,
      ...tasks.map((task) => printed(report.tasks[task])),
      report[average]?.toFixed(2) ?? "",
    ]),
    ...published.map(([model, scores]) => [
      `published: ${model}`,
      ...scores.map((score) => score.toFixed(2)),
    ]),
  ]);
}

function taskTables(
  names: readonly string[],
  reports: readonly TaskReport[],
  published: boolean,
): string {
  const evaluated = (tasks: readonly Task[]): boolean =>
    tasks.some((task) => reports[0]!.tasks[task] !== undefined);
  const tables: string[] = [];
  if (evaluated(STS_TASKS)) {
    tables.push(taskTable(STS_TASKS, names, reports, "average", published ? PUBLISHED_STS : []));
  }
  if (evaluated(TRANSFER_TASKS)) {
    tables.push(
      taskTable(
        TRANSFER_TASKS,
        names,
        reports,
        "transferAverage",
        published ? PUBLISHED_TRANSFER : [],
      ),
    );
  }
  if (reports[0]!.tasks[ENTAILMENT_TASK] !== undefined) {
    tables.push(
      table([
        ["model", ENTAILMENT_TASK],
        ...reports.map(({ tasks }, i) => [names[i]!, printed(tasks[ENTAILMENT_TASK])]),
      ]),
    );
  }
  if (reports[0]!.geometry !== null) {
    tables.push(
      table([
        ["STS-B", "alignment", "uniformity"],
        ...reports.map(({ geometry }, i) => [
          names[i]!,
          geometry!.alignment.toFixed(3),
          geometry!.uniformity.toFixed(3),
        ]),
      ]),
    );
  }
  return tables.join("\n\n");
}

async function evaluate(options: EvalOptions): Promise<void> {
  const { pairs, retrieval, tasks, data, split, json, published = false } = options;
  if ([pairs, retrieval, tasks].filter((given) => given !== undefined).length !== 1) {
    throw new UsageError("eval: expected --tasks, --pairs or --retrieval, one of the three");
  }
  if (tasks !== undefined && data === undefined) {
    throw new UsageError("--tasks: expected --data <folder>, the evaluation data, beside it");
  }
  const candidates = await candidatesOf(options);
  if (tasks !== undefined && json && candidates.length > 1) {
    throw new UsageError(
      `--json: expected one --model and one --pooling, as --tasks prints one object, found ${candidates.length}`,
    );
  }
  const names = candidates.map(({ name }) => name);
  const models = candidates.map(({ model }) => model);
  const print = (value: unknown): void => console.log(JSON.stringify(value, null, 2));

  if (pairs !== undefined) {
    const reports = await evaluateModels(candidates, pairs);
    if (json) print(reports.map((report, i) => ({ model: models[i], ...report })));
    else console.log(reportTable(names, reports));
    return;
  }
  if (retrieval !== undefined) {
    const found = await readRetrieval(retrieval, split);
    note(`${retrieval}: ${found.documents.size} documents, ${found.queries.size} queries`);
    const scores: (RetrievalScore & { readonly pooling: string })[] = [];
    for (const candidate of candidates) {
      await using embedder = await candidate.open();
      const score = await evaluateRetrieval(found, embedder);
      scores.push({ pooling: embedder.pooling, ...score });
    }
    if (json) print(scores.map((score, i) => ({ model: models[i], split, ...score })));
    else console.log(retrievalTable(names, scores));
    return;
  }
  const read = await readTasks(tasks!, data!, split);
  const reports: TaskReport[] = [];
  for (const candidate of candidates) {
    await using embedder = await candidate.open();
    reports.push(await evaluateTasks(candidate, embedder, read, options));
  }
  if (json) print(reports[0]);
  else console.log(taskTables(names, reports, published));
}

export function addEval(program: Command): void {
  addCandidates(
    program
      .command("eval")
      .description(
        "score models: graded pairs or retrieval of your own, or the STS and transfer tasks of the paper",
      ),
  )
    .option(
      "--pairs <file>",
      "graded or labelled pairs: .csv, .jsonl, .parquet, or score, sentence, sentence with tabs",
    )
    .option(
      "--retrieval <folder>",
      "corpus.jsonl, queries.jsonl and qrels/<split>.tsv, as BEIR has",
    )
    .option("--tasks <names>", "sts, transfer, all, or names such as STS12,STS-B,MR", parseTasks)
    .option(
      "--data <folder>",
      "the tasks' data, in SentEval's layout or as docs/evaluation.md says",
    )
    .addOption(
      new Option("--split <name>", "split of STS-B, SICK-R and --retrieval")
        .choices(["dev", "test"])
        .default("test"),
    )
    .option(
      "--fast",
      "train the transfer classifiers as SimCSE's fasttest does; so does --split dev",
    )
    .option("--published", "print the paper's rows beside ours")
    .option("--json", "print JSON instead of tables")
    .action(evaluate);
}
