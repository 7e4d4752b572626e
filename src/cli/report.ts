import { join } from "node:path";
import { readFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { cosineScores } from "../evaluate/measures.ts";
import { PUBLISHED_STS, PUBLISHED_TRANSFER } from "../evaluate/published.ts";
import { pairedBootstrap } from "../evaluate/statistics.ts";
import { STS_TASKS } from "../evaluate/sts.ts";
import { ENTAILMENT_TASK, TRANSFER_TASKS } from "../evaluate/transfer.ts";
import { readCorpus } from "../node/corpus.ts";
import type { Split } from "../node/eval-data.ts";
import { writeFileAtomic } from "../node/files.ts";
import { type EvaluationReport, evaluationReport } from "../report/evaluation.ts";
import type { DevReport } from "../train/trainer.ts";
import { addCandidates, type CandidateOptions, candidatesOf } from "./candidates.ts";
import {
  evaluateTasks,
  figure,
  floorOf,
  parseTasks,
  readTasks,
  type Task,
  type TaskData,
  type TaskReport,
} from "./tasks.ts";
import { note } from "./terminal.ts";

interface ReportOptions extends CandidateOptions {
  readonly tasks: readonly Task[];
  readonly data: string;
  readonly split: Split;
  readonly fast?: boolean;
  readonly runs?: readonly string[];
  readonly sentences?: string;
  readonly output: string;
}

/** A heat map of more is not legible. */
const MOST_SENTENCES = 24;

async function report(options: ReportOptions): Promise<void> {
  const { tasks, data, split, output } = options;
  const sentences = options.sentences === undefined ? [] : await readCorpus(options.sentences);
  if (sentences.length > MOST_SENTENCES) {
    throw new UsageError(
      `--sentences ${options.sentences}: expected at most ${MOST_SENTENCES} lines, found ${sentences.length}`,
    );
  }
  const paths = await Promise.all((options.runs ?? []).map(readPath));
  const candidates = await candidatesOf(options);
  const names = candidates.map(({ name }) => name);
  const read = await readTasks(tasks, data, split);
  const reports: TaskReport[] = [];
  const cosines: Map<Task, Float64Array>[] = [];
  const similarities = [];
  for (const candidate of candidates) {
    await using embedder = await candidate.open();
    const vectors = new Map<string, Float32Array>();
    const encode = async (texts: readonly string[]): Promise<Float32Array[]> => {
      const rows = await embedder.encode(texts);
      texts.forEach((text, i) => vectors.set(text, rows[i]!));
      return rows;
    };
    reports.push(await evaluateTasks(candidate, { ...embedder, encode }, read, options));
    cosines.push(stsCosines(read, (text) => vectors.get(text)!));
    if (sentences.length === 0) continue;
    const rows = await encode(sentences);
    similarities.push({
      model: candidate.name,
      cosines: rows.map((row) => [
        ...cosineScores(
          rows.map(() => row),
          rows,
        ),
      ]),
    });
  }
  const page: EvaluationReport = {
    tables: (
      [
        ["Semantic textual similarity", STS_TASKS, "average", PUBLISHED_STS],
        ["Transfer", TRANSFER_TASKS, "transferAverage", PUBLISHED_TRANSFER],
        ["Entailment", [ENTAILMENT_TASK], undefined, []],
      ] as const
    )
      .filter(([, columns]) => columns.some((task) => reports[0]!.tasks[task] !== undefined))
      .map(([title, columns, average, published]) => ({
        title: `${title}, ${split} split`,
        columns: [...columns, ...(average ? ["average"] : [])],
        rows: [
          ...(average === "average"
            ? [
                {
                  model: "word overlap",
                  scores: columns.map((task) => floorOf(reports[0]!.tasks[task])),
                },
              ]
            : []),
          ...reports.map((one, i) => ({
            model: names[i]!,
            scores: [
              ...columns.map((task) => figure(one.tasks[task])),
              ...(average ? [one[average] ?? undefined] : []),
            ],
          })),
        ],
        published,
      })),
    base: names[0]!,
    comparisons: names.slice(1).flatMap((model, i) =>
      [...read.sts].map(([task, subsets]) => {
        const grades = [...subsets.values()].flatMap(({ pairs }) =>
          pairs.map(({ score }) => score),
        );
        const found = pairedBootstrap(cosines[i + 1]!.get(task)!, cosines[0]!.get(task)!, grades);
        const [low, high] = found.interval;
        return {
          model,
          task,
          difference: 100 * found.difference,
          interval: [100 * low, 100 * high] as const,
          notBetter: found.notBetter,
        };
      }),
    ),
    geometries: reports.flatMap(({ geometry }, i) =>
      geometry ? [{ model: names[i]!, geometry }] : [],
    ),
    paths,
    sentences,
    similarities,
    missing: read.missing,
  };
  await writeFileAtomic(output, new TextEncoder().encode(evaluationReport(page)));
  note(`${output}: written`);
}

/** Cosines of the pairs of each task, its subsets one after the other. */
function stsCosines(
  { sts }: TaskData,
  rowOf: (text: string) => Float32Array,
): Map<Task, Float64Array> {
  return new Map(
    [...sts].map(([task, subsets]) => {
      const pairs = [...subsets.values()].flatMap((subset) => subset.pairs);
      return [
        task,
        cosineScores(
          pairs.map(({ a }) => rowOf(a)),
          pairs.map(({ b }) => rowOf(b)),
        ),
      ];
    }),
  );
}

/** The way of a training run's evaluations. */
async function readPath(run: string): Promise<EvaluationReport["paths"][number]> {
  const file = join(run, "metrics.jsonl");
  const text = await readFile(file, "utf8").catch((cause: Error) => {
    throw new Error(
      `${file}: cannot be read (${cause.message}); expected the metrics of a training run`,
      { cause },
    );
  });
  const evaluations = text
    .split("\n")
    .filter((line) => line.includes('"spearman"'))
    .map((line) => JSON.parse(line) as DevReport);
  if (evaluations.length === 0) {
    throw new Error(`${file}: expected evaluations, found none; train with --dev <file>`);
  }
  const points = evaluations.map(({ step, alignment, uniformity }) => ({
    x: uniformity,
    y: alignment,
    label: `step ${step}`,
  }));
  return { name: run, points };
}

export function addReport(program: Command): void {
  addCandidates(
    program
      .command("report")
      .description(
        "compare models on one HTML page, each with the first: the paper's tables and figures",
      ),
  )
    .requiredOption("--data <folder>", "the tasks' data, as for `eval`")
    .requiredOption("--output <file>", "the page to write")
    .option("--tasks <names>", "tasks as for `eval`", parseTasks, [...STS_TASKS])
    .addOption(
      new Option("--split <name>", "split of STS-B and SICK-R")
        .choices(["dev", "test"])
        .default("test"),
    )
    .option("--fast", "train the transfer classifiers as SimCSE's fasttest does")
    .option("--runs <folders...>", "training runs whose way is drawn")
    .option("--sentences <file>", "sentences, one a line, whose cosines are drawn")
    .action(report);
}
