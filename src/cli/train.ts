import { join } from "node:path";
import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { singularValues } from "../evaluate/geometry.ts";
import { evaluatePairs } from "../evaluate/measures.ts";
import type { GradedPair } from "../evaluate/pairs.ts";
import { deviation, mean } from "../evaluate/statistics.ts";
import { foldStatic, hasWeight, storeWeights } from "../model/weights.ts";
import {
  type ModelFolder,
  openModel,
  readJson,
  readModelFolder,
  writeModelFolder,
} from "../node/model-folder.ts";
import { RunFolder } from "../node/run-folder.ts";
import { Team } from "../node/team.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { TrainingRun } from "../report/training.ts";
import type { RunOptions, RunState } from "../train/checkpoint.ts";
import type { Sequences } from "../train/data.ts";
import { Health } from "../train/health.ts";
import {
  type DevReport,
  isFinished,
  type StepReport,
  train as runTraining,
} from "../train/trainer.ts";
import { applySettings } from "./config-file.ts";
import { isRecipe, runRecipe } from "./recipe.ts";
import { rehearse } from "./rehearsal.ts";
import { count, duration, note, Progress, table } from "./terminal.ts";
import { sentenceLengths } from "./train-data.ts";
import { type TrainOptions, trainCommand } from "./train-options.ts";
import { begin, planRun } from "./train-plan.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Thrown when Ctrl-C ended a run after its checkpoint was written. */
export class Interrupted extends Error {
  override name = "Interrupted";
}

export interface TrainHooks {
  /** Ends the run after a step, as Ctrl-C does that of the command, which without a signal this listens to. */
  readonly signal?: AbortSignal;
  /** Every step and every evaluation. */
  readonly onReport?: (report: StepReport | DevReport) => void;
}

/**
 * SimCSE: fine-tunes a model folder on sentences, pairs or triplets; the result and its checkpoints go to `output`.
 * @throws Interrupted once the checkpoint of an interrupted run is written; UsageError, FormatError
 */
export async function train(
  options: TrainOptions,
  { signal, onReport }: TrainHooks = {},
): Promise<RunState> {
  const planned = await planRun(options);
  const { folder, config, tokenizer, sentences, dev, run, order, teachers } = planned;
  const { totalSteps } = run;
  if (options.dryRun) {
    const state = await rehearse(planned, options.threads);
    await teachers?.close();
    return state;
  }

  const output = await RunFolder.open(options.output);
  const resumable = await output.hasCheckpoint();
  if (resumable && !options.resume && !options.force) {
    throw new UsageError(
      `--output ${options.output}: already holds a run; --resume continues it, --force begins anew`,
    );
  }
  const interruption = new AbortController();
  const onSignal = (): void => {
    if (interruption.signal.aborted) process.exit(130);
    interruption.abort();
    note("\ninterrupted: finishing the step and saving; once more to quit at once");
  };
  const team = await Team.start(run.step, options.threads);
  if (signal === undefined) for (const name of SIGNALS) process.on(name, onSignal);
  try {
    let from: RunState = { step: 0 };
    if (resumable && options.resume) from = await resume(output, team, run, options);
    if (from.step === 0) {
      for (const head of begin(team, planned)) {
        note(`${folder.weightsFile}: has no ${head}; it begins at random`);
      }
      await output.reset();
    }
    const trained = (): ModelFolder => ({
      ...folder,
      ...foldStatic(config, new Map(storeWeights(team.buffer, team.plan.model.served))),
      weightsFile: "the weights in training",
    });
    const progress = new Progress();
    const begun = performance.now();
    const health = new Health();
    const warn = (text: string | undefined): void => {
      if (text === undefined) return;
      progress.end();
      note(`warning: ${text}`);
    };
    const record = (report: StepReport | DevReport): void => {
      output.record(report);
      onReport?.(report);
    };
    let tokens = 0;
    let smoothLoss: number | undefined;
    const events = {
      onStep(report: StepReport): void {
        record(report);
        tokens += report.tokens;
        smoothLoss =
          smoothLoss === undefined ? report.loss : 0.95 * smoothLoss + 0.05 * report.loss;
        progress.show(() => {
          const seconds = (performance.now() - begun) / 1000;
          const eta = ((totalSteps - report.step) * seconds) / (report.step - from.step);
          return (
            `step ${report.step}/${totalSteps}  loss ${smoothLoss!.toFixed(4)}  ${guessed(report)}` +
            `lr ${report.learningRate.toExponential(1)}  ${count(tokens / seconds)} tokens/s  ETA ${duration(eta)}`
          );
        }, report.step === totalSteps);
        warn(health.step(report));
      },
      onCheckpoint: (state: RunState) => output.save(team, run, state),
      async onEvaluation(step: number): Promise<DevReport> {
        const report = { step, ...(await scoreWeights(trained(), tokenizer, dev!.pairs)) };
        record(report);
        progress.end();
        note(
          `step ${step}: dev ${scored(report)}alignment ${report.alignment.toFixed(3)}  uniformity ${report.uniformity.toFixed(3)}`,
        );
        warn(health.evaluation(report));
        return report;
      },
      onBest: () => writeModelFolder(output.best, trained()),
    };
    const state = await runTraining(
      team,
      run,
      order,
      from,
      options.checkpointEvery,
      events,
      signal ?? interruption.signal,
    );
    progress.end();
    const lengths = sentenceLengths(sentences, options.maxLength);
    const report = { name: options.output, settings: { ...options }, lengths };
    if (!isFinished(run, state)) {
      await output.report({ ...report, spectra: [] });
      throw new Interrupted(
        `stopped after step ${state.step} of ${totalSteps}; --resume continues from there`,
      );
    }
    const { best } = state;
    const result = best ? await readModelFolder(output.best) : trained();
    await writeModelFolder(options.output, result);
    const spectra = await spectraOf({ ...folder, config }, result, sentences);
    await output.report({ ...report, spectra });
    note(
      `${options.output}: trained ${state.step - from.step} steps in ${duration((performance.now() - begun) / 1000)}` +
        (best
          ? `; these are the weights of step ${best.step}, dev Spearman ${best.score.toFixed(2)}`
          : ""),
    );
    return state;
  } finally {
    for (const name of SIGNALS) process.off(name, onSignal);
    await teachers?.close();
    await team.close();
  }
}

/** The share of masked tokens that the model guessed, where it guesses. */
function guessed({ accuracy }: StepReport): string {
  return accuracy === undefined ? "" : `guessed ${(100 * accuracy).toFixed(1)} %  `;
}

/** The score on pairs that have grades. */
function scored({ spearman }: DevReport): string {
  return Number.isNaN(spearman) ? "" : `Spearman ${spearman.toFixed(2)}  `;
}

/** Trains with as many seeds, each into a folder of its own, and prints their scores: one seed says little. */
async function sweep(options: TrainOptions, seeds: number): Promise<void> {
  if (options.dev === undefined) {
    throw new UsageError("--seeds compares scores on graded pairs; give --dev <file>");
  }
  const scores: number[] = [];
  const rows = [["seed", "best step", "dev Spearman"]];
  for (let seed = options.seed; seed < options.seed + seeds; seed++) {
    const output = join(options.output, `seed-${seed}`);
    note(output);
    const { best } = await train({ ...options, seed, output });
    if (!best) continue;
    scores.push(best.score);
    rows.push([String(seed), String(best.step), best.score.toFixed(2)]);
  }
  rows.push(["mean", "", mean(scores).toFixed(2)]);
  rows.push(["standard deviation", "", deviation(scores).toFixed(2)]);
  console.log(table(rows));
}

/** Scores weights with the kernels that will serve them. */
export async function scoreWeights(
  folder: ModelFolder,
  tokenizer: Tokenizer,
  pairs: readonly GradedPair[],
): Promise<Omit<DevReport, "step">> {
  const model = await openModel(folder, tokenizer);
  // The interval is not shown, and it and uniformity of all are most of the work of a small evaluation.
  const options = { samples: 1, most: 1000 };
  const report = await evaluatePairs(pairs, async (texts) => model.encode(texts), options);
  const { spearman, alignment, uniformity } = report;
  return { spearman, alignment, uniformity };
}

/** Training sentences whose vectors the report looks at, evenly spaced. */
const SAMPLE = 128;

/** Singular values of what the model before and the one after make of some sentences; a model that lacks its head has no before. */
async function spectraOf(
  before: ModelFolder,
  after: ModelFolder,
  sentences: Sequences,
): Promise<TrainingRun["spectra"]> {
  const most = Math.min(SAMPLE, sentences.size);
  const sample = Array.from({ length: most }, (_, i) =>
    sentences.get(Math.floor((i * sentences.size) / most)),
  );
  const whole = before.config.pooling !== "cls" || hasWeight(before.tensors, "pooler.dense.weight");
  const models = [...(whole ? [["before", before] as const] : []), ["after", after] as const];
  const spectra: TrainingRun["spectra"][number][] = [];
  for (const [name, model] of models) {
    const { encoder } = await openModel(model);
    spectra.push({ name, spectrum: singularValues(encoder.encode(sample)) });
  }
  return spectra;
}

/** The state to go on from; step 0 where `force` allows to begin anew because the checkpoint belongs to another run. */
async function resume(
  output: RunFolder,
  team: Team,
  run: RunOptions,
  options: TrainOptions,
): Promise<RunState> {
  try {
    const state = await output.restore(team, run);
    note(`resumed after step ${state.step} of ${run.totalSteps}`);
    return state;
  } catch (error) {
    if (!options.force) throw error;
    note(`${(error as Error).message}\nbeginning anew`);
    return { step: 0 };
  }
}

export function addTrain(program: Command): void {
  trainCommand(program).action(async (_: unknown, command: Command) => {
    const { config } = command.opts<{ config?: string }>();
    const settings = config === undefined ? {} : await readJson(config, "settings of a command");
    const recipe = isRecipe(settings);
    if (config !== undefined && !recipe) applySettings(command, config, settings);
    const { seeds, ...options } = command.opts<TrainOptions & { seeds?: number }>();
    for (const name of recipe ? (["output"] as const) : (["model", "output"] as const)) {
      if (options[name] === undefined) {
        throw new UsageError(`expected --${name} <folder>, or ${name} in --config <file>`);
      }
    }
    if (recipe) return runRecipe(command, config!, settings, options);
    if (options.data !== undefined) {
      throw new UsageError("--data: names the files of a recipe; give one with --config <file>");
    }
    if (seeds !== undefined && !options.dryRun) return sweep(options, seeds);
    await train(options);
  });
}
