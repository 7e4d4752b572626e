/** `simcse ablate`: the paper's ablations on a model and corpus of any size. */
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import {
  type Ablation,
  type AblationChange,
  type AblationEffect,
  ablationEffect,
  ABLATION_NAMES,
  type AblationName,
  ABLATIONS,
} from "../evaluate/ablations.ts";
import type { GradedPair } from "../evaluate/pairs.ts";
import { sha256Hex } from "../files/checksum.ts";
import { writeFileAtomic } from "../node/files.ts";
import { readModelFolder } from "../node/model-folder.ts";
import { readPairs } from "../node/pairs-file.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { DEFAULT_THREADS, numberBetween, wholeNumber } from "./options.ts";
import { note, table } from "./terminal.ts";
import { scoreWeights, train } from "./train.ts";
import type { TrainOptions } from "./train-options.ts";

export interface AblateOptions {
  readonly model: string;
  readonly corpus?: string;
  readonly triplets?: string;
  readonly dev: string;
  readonly output: string;
  readonly rows: readonly AblationName[];
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly warmup: number;
  readonly maxLength: number;
  readonly seed: number;
  readonly seeds: number;
  readonly threads: number;
  readonly json?: boolean;
}

/** A row with our scores, one of each seed, and what they say of its effect. */
interface Scored extends AblationEffect {
  readonly name: string;
  readonly published: number | null;
  /** The paper's difference from the first row. */
  readonly publishedEffect: number | null;
  readonly scores: readonly number[];
}

/**
 * Trains every row with every seed, and scores its last weights on `dev`. What has been scored is kept in `output`, by all that
 * decides it, so that a second call goes on where the first one ended; a row that two ablations share is trained once.
 */
export async function ablate(options: AblateOptions): Promise<Map<AblationName, Scored[]>> {
  const { output, rows: names, seed, seeds } = options;
  for (const name of names) dataOf(ABLATIONS[name], options);
  const { pairs } = await readPairs(options.dev);
  await mkdir(join(output, "scores"), { recursive: true });
  const found = new Map<AblationName, Scored[]>();
  for (const name of names) {
    const ablation = ABLATIONS[name];
    const scores: number[][] = [];
    for (const row of ablation.rows) {
      const own: number[] = [];
      for (let s = seed; s < seed + seeds; s++) {
        own.push(await scoreOf(ablation, row.change, s, options, pairs));
        note(`${name}: ${row.name}, seed ${s}: ${own.at(-1)!.toFixed(2)}`);
      }
      scores.push(own);
    }
    const base = ablation.rows[0]!.published;
    found.set(
      name,
      ablation.rows.map(({ name: title, published }, i) => {
        const publishedEffect =
          published === undefined || base === undefined ? undefined : published - base;
        return {
          name: title,
          published: published ?? null,
          publishedEffect: publishedEffect ?? null,
          scores: scores[i]!,
          ...ablationEffect(scores[i]!, scores[0]!, publishedEffect),
        };
      }),
    );
  }
  return found;
}

/** @throws UsageError where the command was not given what an ablation trains on */
function dataOf(
  { data, title }: Ablation,
  { corpus, triplets }: AblateOptions,
): { corpus: string } | { train: string[] } {
  if (data === "sentences" && corpus !== undefined) return { corpus };
  if (data === "triplets" && triplets !== undefined) return { train: [triplets] };
  throw new UsageError(
    `${title}: expected ${data === "sentences" ? "--corpus <text>" : "--triplets <file>"}; ` +
      `give it, or leave the ablation out with --rows`,
  );
}

/** Spearman, times 100, of a run's last weights: as kept in a file, or of a run. */
async function scoreOf(
  ablation: Ablation,
  change: AblationChange,
  seed: number,
  options: AblateOptions,
  pairs: readonly GradedPair[],
): Promise<number> {
  const { dropoutRate, pairs: without, ...others } = change;
  const { output, dev, threads } = options;
  const batchSize = change.batchSize ?? options.batchSize;
  const settings = {
    model: options.model,
    ...dataOf(ablation, options),
    ...(without && { columns: ["sent0", "sent1"] }),
    epochs: 1,
    // As many sentences, whatever the size of a batch.
    steps: Math.max(1, Math.round((options.steps * options.batchSize) / batchSize)),
    learningRate: options.learningRate,
    warmup: options.warmup,
    weightDecay: 0,
    temperature: 0.05,
    maxGradientNorm: 1,
    maxLength: options.maxLength,
    seed,
    ...(dropoutRate !== undefined && {
      hiddenDropout: dropoutRate,
      attentionDropout: dropoutRate,
    }),
    ...others,
    batchSize,
  } satisfies Partial<TrainOptions>;
  const description = JSON.stringify({ ...settings, dev });
  const name = (await sha256Hex(new TextEncoder().encode(description))).slice(0, 16);
  const file = join(output, "scores", `${name}.json`);
  const kept = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (kept !== undefined) return (JSON.parse(kept) as { spearman: number }).spearman;

  const run = join(output, "run");
  await train({
    ...settings,
    output: run,
    threads,
    checkpointEvery: settings.steps,
    force: true,
  });
  const trained = await readModelFolder(run);
  const { spearman, alignment, uniformity } = await scoreWeights(
    trained,
    new Tokenizer(trained.tokenizerJson),
    pairs,
  );
  const result = { spearman, alignment, uniformity, settings: JSON.parse(description) as unknown };
  await writeFileAtomic(file, new TextEncoder().encode(`${JSON.stringify(result, null, 2)}\n`));
  await rm(run, { recursive: true });
  return spearman;
}

/** The tables of all ablations, ours beside the paper's. */
export function ablationTables(found: ReadonlyMap<AblationName, readonly Scored[]>): string {
  const signed = (value: number | null): string =>
    value === null ? "" : `${value > 0 ? "+" : ""}${value.toFixed(1)}`;
  return [...found]
    .map(([name, rows]) => {
      const { title, source } = ABLATIONS[name];
      return table([
        [`${title} (${source})`, "paper", "effect", "ours", "±", "effect", "±", "direction"],
        ...rows.map((row, i) => [
          row.name,
          row.published?.toFixed(1) ?? "",
          i === 0 ? "" : signed(row.publishedEffect),
          row.mean.toFixed(2),
          Number.isNaN(row.deviation) ? "" : row.deviation.toFixed(2),
          i === 0 ? "" : signed(row.effect),
          i === 0 || Number.isNaN(row.standardError) ? "" : row.standardError.toFixed(1),
          i === 0 ? "" : (row.direction ?? ""),
        ]),
      ]);
    })
    .join("\n\n");
}

function parseRows(text: string): AblationName[] {
  if (text === "all") return [...ABLATION_NAMES];
  return text.split(",").map((name) => {
    const found = ABLATION_NAMES.find((other) => other === name.trim());
    if (found !== undefined) return found;
    throw new UsageError(
      `--rows: there is no ablation ${JSON.stringify(name)}; expected all or names of ${ABLATION_NAMES.join(", ")}`,
    );
  });
}

export function addAblate(program: Command): void {
  program
    .command("ablate")
    .description(
      "train the paper's ablations on a model of yours, and print them beside the paper's",
    )
    .requiredOption("--model <folder>", "model that every row begins with")
    .requiredOption("--dev <file>", "graded pairs that every row is scored on: STS-B dev")
    .requiredOption("--output <folder>", "where scores are kept; a second call goes on there")
    .option("--corpus <text>", "sentences, one a line, blank lines between documents")
    .option("--triplets <file>", "sent0, sent1, hard_neg; for temperature and hard-negatives")
    .option(
      "--rows <names>",
      `all, or names of ${ABLATION_NAMES.join(", ")}`,
      parseRows,
      parseRows("all"),
    )
    .option("--steps <n>", "steps of a row at --batch-size", wholeNumber(1), 250)
    .option("--batch-size <n>", "sentences of a batch", wholeNumber(2), 64)
    .option("--learning-rate <rate>", "peak learning rate", numberBetween(0, 10), 3e-5)
    .option("--warmup <share>", "share of the steps in which it rises", numberBetween(0, 1), 0)
    .option("--max-length <n>", "tokens of a sentence", wholeNumber(3), 32)
    .option("--seed <n>", "first seed", wholeNumber(0), 42)
    .option("--seeds <n>", "runs of a row", wholeNumber(1), 3)
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .option("--json", "print JSON instead of tables")
    .action(async (options: AblateOptions) => {
      const found = await ablate(options);
      if (options.json) console.log(JSON.stringify(Object.fromEntries(found), null, 2));
      else console.log(ablationTables(found));
    });
}
