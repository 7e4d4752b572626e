import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { Classifier, type Examples, PROTOCOLS } from "../evaluate/classifier.ts";
import { type Geometry, measureGeometry } from "../evaluate/geometry.ts";
import { cosineScores, evaluatePairs, type PairReport } from "../evaluate/measures.ts";
import type { GradedPairs } from "../evaluate/pairs.ts";
import { PUBLISHED_STS, PUBLISHED_TRANSFER, type PublishedRow } from "../evaluate/published.ts";
import type { RetrievalScore } from "../evaluate/retrieval.ts";
import { averageScore, scoreSts, STS_TASKS, type StsScore, type StsTask } from "../evaluate/sts.ts";
import {
  ENTAILMENT_TASK,
  GRID,
  type LabelledTexts,
  scoreTransfer,
  TRANSFER_TASKS,
  type TransferData,
  transferFeatures,
  type TransferScore,
  type TransferTask,
} from "../evaluate/transfer.ts";
import { fitWhitening } from "../evaluate/whitening.ts";
import { compileKernels } from "../node/binaries.ts";
import { readCorpus } from "../node/corpus.ts";
import { type Embedder, openEmbedder } from "../node/embedders.ts";
import { readStsTask, readTransferTask, type Split } from "../node/eval-data.ts";
import { readPairs } from "../node/pairs-file.ts";
import { readRetrieval } from "../node/retrieval-data.ts";
import { wholeNumber } from "./options.ts";
import { evaluateRetrieval, retrievalTable } from "./retrieval.ts";
import { note, table } from "./terminal.ts";

export interface EvalOptions {
  readonly model: readonly string[];
  readonly pairs?: string;
  readonly retrieval?: string;
  readonly tasks?: readonly Task[];
  readonly data?: string;
  readonly split: Split;
  readonly fast?: boolean;
  readonly whiten?: string;
  readonly dimensions?: number;
  readonly published?: boolean;
  readonly json?: boolean;
}

export type Task = StsTask | TransferTask;
type Score = StsScore | TransferScore;

/** What `--json` prints: all of one model's scores, times 100. */
export interface TaskReport {
  readonly model: string;
  readonly pooling: string;
  readonly dtype: string;
  readonly split: Split;
  readonly tasks: Readonly<Record<string, Score>>;
  /** Of the seven STS tasks, as the paper's tables have it; null unless all are there, on their test splits. */
  readonly average: number | null;
  /** The same of the seven transfer tasks. */
  readonly transferAverage: number | null;
  /** Of STS-B; null where it is absent. */
  readonly geometry: Geometry | null;
  /** Tasks, subsets or files that were asked for and are not there. */
  readonly missing: readonly string[];
}

/** The data of the tasks that were asked for, read once for all models. */
export interface TaskData {
  readonly sts: ReadonlyMap<StsTask, ReadonlyMap<string, GradedPairs>>;
  readonly transfer: ReadonlyMap<TransferTask, TransferData>;
  readonly missing: readonly string[];
}

/** Scores models on a file of graded pairs. */
export async function evaluateModels(
  models: readonly string[],
  pairsFile: string,
  open: (model: string) => Promise<Embedder> = openEmbedder,
): Promise<PairReport[]> {
  const { pairs, ungraded } = await readPairs(pairsFile);
  if (ungraded > 0) note(`${pairsFile}: left out ${ungraded} rows without a score`);
  const reports: PairReport[] = [];
  for (const path of models) {
    const embedder = await open(path);
    reports.push(await evaluatePairs(pairs, (texts) => embedder.encode(texts)));
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

export async function readTasks(
  tasks: readonly Task[],
  folder: string,
  split: Split,
): Promise<TaskData> {
  const sts = new Map<StsTask, ReadonlyMap<string, GradedPairs>>();
  const transfer = new Map<TransferTask, TransferData>();
  const missing: string[] = [];
  for (const task of tasks) {
    if (isSts(task)) {
      const found = await readStsTask(folder, task, split);
      if ("data" in found) sts.set(task, found.data);
      else missing.push(...found.missing);
    } else {
      const found = await readTransferTask(folder, task);
      if ("data" in found) transfer.set(task, found.data);
      else missing.push(...found.missing);
    }
  }
  if (sts.size + transfer.size === 0) {
    throw new Error(
      `${folder}: expected data of ${tasks.join(", ")}, found none (missing: ${missing.join(", ")}); ` +
        `docs/evaluation.md lists the files`,
    );
  }
  if (missing.length > 0) note(`${folder}: missing ${missing.join(", ")}`);
  return { sts, transfer, missing };
}

/** Scores one model on all tasks; each different sentence is encoded once. */
export async function evaluateTasks(
  model: string,
  embedder: Embedder,
  { sts, transfer, missing }: TaskData,
  { split, fast = false }: Pick<EvalOptions, "split" | "fast">,
): Promise<TaskReport> {
  const texts = new Set<string>();
  for (const subsets of sts.values()) {
    for (const { pairs } of subsets.values()) {
      for (const { a, b } of pairs) texts.add(a).add(b);
    }
  }
  for (const { train, dev, test } of transfer.values()) {
    for (const part of [train, dev, test]) {
      for (const example of part?.texts ?? []) for (const text of example) texts.add(text);
    }
  }
  note(`${model}: ${texts.size} sentences`);
  const all = [...texts];
  const rows = await embedder.encode(all);
  const vectors = new Map(all.map((text, i) => [text, rows[i]!]));
  const rowOf = (text: string): Float32Array => vectors.get(text)!;

  const scores: Partial<Record<Task, Score>> = {};
  for (const [task, subsets] of sts) {
    scores[task] = scoreSts(subsets, ({ a, b }) => cosineScores([rowOf(a)], [rowOf(b)])[0]!);
  }
  const protocol = PROTOCOLS[fast || split === "dev" ? "fast" : "test"];
  const module = await compileKernels("node");
  for (const [task, { train, dev, test }] of transfer) {
    const examples = (part: LabelledTexts): Examples => ({
      rows: part.texts.map((example) => transferFeatures(example.map(rowOf))),
      labels: part.labels,
    });
    const data = {
      train: examples(train),
      ...(dev && { dev: examples(dev) }),
      ...(test && { test: examples(test) }),
    };
    const classes = Math.max(...new Set(train.labels)) + 1;
    const classifier = new Classifier(
      module,
      protocol,
      data.train.rows[0]!.length,
      classes,
      GRID.length,
    );
    scores[task] = scoreTransfer(data, classifier, protocol.folds);
    note(`${model}: ${task} ${printed(scores[task])}`);
  }

  const average = (tasks: readonly Task[]): number | null =>
    split === "test" ? (averageScore(tasks.map((task) => figure(scores[task]))) ?? null) : null;
  const benchmark = sts.get("STS-B")?.get(split);
  return {
    model,
    pooling: embedder.pooling,
    dtype: embedder.dtype,
    split,
    tasks: scores,
    average: average(STS_TASKS),
    transferAverage: average(TRANSFER_TASKS),
    geometry: benchmark ? measureGeometry(benchmark.pairs, rowOf) : null,
    missing,
  };
}

/** The embedder with its vectors whitened as those of a corpus are. */
async function whitened(
  embedder: Embedder,
  sentences: readonly string[],
  dimensions: number | undefined,
): Promise<Embedder> {
  const whiten = fitWhitening(await embedder.encode(sentences), dimensions);
  return { ...embedder, encode: async (texts) => (await embedder.encode(texts)).map(whiten) };
}

export function isSts(task: Task): task is StsTask {
  return (STS_TASKS as readonly string[]).includes(task);
}

/** The score that tables print: Spearman or accuracy. */
export function figure(score: Score | undefined): number | undefined {
  return score && ("spearman" in score ? score.spearman : score.accuracy);
}

function printed(score: Score | undefined): string {
  return figure(score)?.toFixed(2) ?? "";
}

/** A table as in the paper: a row a model, a column a task, the average only where all tasks are there. */
function taskTable(
  tasks: readonly Task[],
  reports: readonly TaskReport[],
  average: "average" | "transferAverage",
  published: readonly PublishedRow[],
): string {
  const overlaps = tasks.map((task) => {
    const score = reports[0]!.tasks[task];
    return score && "overlap" in score ? score.overlap.toFixed(2) : "";
  });
  return table([
    ["model", ...tasks, "average"],
    ...(overlaps.some((cell) => cell !== "") ? [["word overlap", ...overlaps, ""]] : []),
    ...reports.map((report) => [
      report.model,
      ...tasks.map((task) => printed(report.tasks[task])),
      report[average]?.toFixed(2) ?? "",
    ]),
    ...published.map(([model, scores]) => [
      `published: ${model}`,
      ...scores.map((score) => score.toFixed(2)),
    ]),
  ]);
}

function taskTables(reports: readonly TaskReport[], published: boolean): string {
  const evaluated = (tasks: readonly Task[]): boolean =>
    tasks.some((task) => reports[0]!.tasks[task] !== undefined);
  const tables: string[] = [];
  if (evaluated(STS_TASKS)) {
    tables.push(taskTable(STS_TASKS, reports, "average", published ? PUBLISHED_STS : []));
  }
  if (evaluated(TRANSFER_TASKS)) {
    tables.push(
      taskTable(TRANSFER_TASKS, reports, "transferAverage", published ? PUBLISHED_TRANSFER : []),
    );
  }
  if (reports[0]!.tasks[ENTAILMENT_TASK] !== undefined) {
    tables.push(
      table([
        ["model", ENTAILMENT_TASK],
        ...reports.map(({ model, tasks }) => [model, printed(tasks[ENTAILMENT_TASK])]),
      ]),
    );
  }
  const shapes = reports.filter(({ geometry }) => geometry !== null);
  if (shapes.length > 0) {
    tables.push(
      table([
        ["STS-B", "alignment", "uniformity"],
        ...shapes.map(({ model, geometry }) => [
          model,
          geometry!.alignment.toFixed(3),
          geometry!.uniformity.toFixed(3),
        ]),
      ]),
    );
  }
  return tables.join("\n\n");
}

/** `sts`, `transfer`, `all`, or names with commas between them, in any case. */
export function parseTasks(text: string): Task[] {
  const all: readonly Task[] = [...STS_TASKS, ...TRANSFER_TASKS, ENTAILMENT_TASK];
  const groups: Record<string, readonly Task[]> = {
    sts: STS_TASKS,
    transfer: TRANSFER_TASKS,
    all,
  };
  const tasks = text.split(",").flatMap((name) => {
    const wanted = name.trim().toLowerCase();
    const found = groups[wanted] ?? all.filter((task) => task.toLowerCase() === wanted);
    if (found.length > 0) return found;
    throw new UsageError(
      `--tasks: there is no task ${JSON.stringify(name)}; expected sts, transfer, all or names of ${all.join(", ")}`,
    );
  });
  return [...new Set(tasks)];
}

async function evaluate(options: EvalOptions): Promise<void> {
  const { model: models, pairs, retrieval, tasks, data, split, json, published = false } = options;
  if ([pairs, retrieval, tasks].filter((given) => given !== undefined).length !== 1) {
    throw new UsageError("eval: expected --tasks, --pairs or --retrieval, one of the three");
  }
  if (tasks !== undefined && data === undefined) {
    throw new UsageError("--tasks: expected --data <folder>, the evaluation data, beside it");
  }
  if (tasks !== undefined && json && models.length > 1) {
    throw new UsageError(
      `--json: expected one --model, as --tasks prints one object, found ${models.length}`,
    );
  }
  if (options.dimensions !== undefined && options.whiten === undefined) {
    throw new UsageError("--dimensions: expected --whiten <corpus> beside it");
  }
  const sentences = options.whiten === undefined ? undefined : await readCorpus(options.whiten);
  const open = async (model: string): Promise<Embedder> => {
    const embedder = await openEmbedder(model);
    return sentences ? whitened(embedder, sentences, options.dimensions) : embedder;
  };
  const print = (value: unknown): void => console.log(JSON.stringify(value, null, 2));

  if (pairs !== undefined) {
    const reports = await evaluateModels(models, pairs, open);
    if (json) print(reports.map((report, i) => ({ model: models[i], ...report })));
    else console.log(reportTable(models, reports));
    return;
  }
  if (retrieval !== undefined) {
    const found = await readRetrieval(retrieval, split);
    note(`${retrieval}: ${found.documents.size} documents, ${found.queries.size} queries`);
    const scores: RetrievalScore[] = [];
    for (const model of models) scores.push(await evaluateRetrieval(found, await open(model)));
    if (json) print(scores.map((score, i) => ({ model: models[i], split, ...score })));
    else console.log(retrievalTable(models, scores));
    return;
  }
  const read = await readTasks(tasks!, data!, split);
  const reports: TaskReport[] = [];
  for (const model of models) {
    reports.push(await evaluateTasks(model, await open(model), read, options));
  }
  if (json) print(reports[0]);
  else console.log(taskTables(reports, published));
}

export function addEval(program: Command): void {
  program
    .command("eval")
    .description(
      "score models: graded pairs or retrieval of your own, or the STS and transfer tasks of the paper",
    )
    .requiredOption(
      "--model <models...>",
      "model folders; random:FOLDER has fresh weights, glove:FILE averages word vectors",
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
    .option("--whiten <corpus>", "whiten vectors as those of a text file, one sentence a line")
    .option("--dimensions <k>", "dimensions that whitening keeps; default: all", wholeNumber(1))
    .option("--published", "print the paper's rows beside ours")
    .option("--json", "print JSON instead of tables")
    .action(evaluate);
}
