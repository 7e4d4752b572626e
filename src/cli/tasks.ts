/** The STS and transfer tasks of the paper: which were asked for, their data, and a model's scores. */
import { UsageError } from "../errors.ts";
import { Classifier, type Examples, PROTOCOLS } from "../evaluate/classifier.ts";
import { type Geometry, measureGeometry } from "../evaluate/geometry.ts";
import { cosineScores } from "../evaluate/measures.ts";
import type { GradedPairs } from "../evaluate/pairs.ts";
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
import { compileKernels } from "../node/binaries.ts";
import type { Embedder } from "../node/embedders.ts";
import { readStsTask, readTransferTask, type Split } from "../node/eval-data.ts";
import type { Candidate } from "./candidates.ts";
import { note } from "./terminal.ts";

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
  { model, name }: Pick<Candidate, "model" | "name">,
  embedder: Embedder,
  { sts, transfer, missing }: TaskData,
  { split, fast = false }: { readonly split: Split; readonly fast?: boolean },
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
  note(`${name}: ${texts.size} sentences`);
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
    note(`${name}: ${task} ${printed(scores[task])}`);
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

export function isSts(task: Task): task is StsTask {
  return (STS_TASKS as readonly string[]).includes(task);
}

/** The score that tables print: Spearman or accuracy. */
export function figure(score: Score | undefined): number | undefined {
  return score && ("spearman" in score ? score.spearman : score.accuracy);
}

/** Of word overlap, where a task has it: the floor under the score. */
export function floorOf(score: Score | undefined): number | undefined {
  return score && "overlap" in score ? score.overlap : undefined;
}

export function printed(score: Score | undefined): string {
  return figure(score)?.toFixed(2) ?? "";
}
