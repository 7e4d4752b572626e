import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { loadWeights, storeWeights } from "../model/weights.ts";
import { readCorpus } from "../node/corpus.ts";
import { readModelFolder, writeModelFolder } from "../node/model-folder.ts";
import { RunFolder } from "../node/run-folder.ts";
import { Team } from "../node/team.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type RunOptions, sha256Hex } from "../train/checkpoint.ts";
import { BatchOrder, stepsPerEpoch, tokenizeCorpus } from "../train/data.ts";
import { train as runTraining } from "../train/trainer.ts";
import { DEFAULT_THREADS, numberBetween, wholeNumber } from "./options.ts";
import { count, duration, note, Progress } from "./terminal.ts";

export interface TrainOptions {
  readonly model: string;
  readonly corpus: string;
  readonly output: string;
  readonly epochs: number;
  readonly steps?: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly warmup: number;
  readonly weightDecay: number;
  readonly temperature: number;
  readonly maxGradientNorm: number;
  readonly maxLength: number;
  readonly seed: number;
  readonly threads: number;
  readonly checkpointEvery: number;
  readonly resume?: boolean;
  readonly force?: boolean;
}

/** Thrown when Ctrl-C ended a run after its checkpoint was written. */
export class Interrupted extends Error {
  override name = "Interrupted";
}

/** Unsupervised SimCSE: fine-tunes a model folder on sentences, and writes the result and its checkpoints to `output`. */
export async function train(options: TrainOptions): Promise<void> {
  const folder = await readModelFolder(options.model);
  const { config } = folder;
  if (config.dtype !== "f32") {
    throw new UsageError(
      `--model ${options.model}: ${config.dtype} weights cannot be trained; give the f32 model`,
    );
  }
  if (options.maxLength > config.maxLength) {
    throw new UsageError(
      `--max-length ${options.maxLength}: ${options.model} takes at most ${config.maxLength} tokens`,
    );
  }
  const sentences = await readCorpus(options.corpus);
  const corpus = tokenizeCorpus(sentences, new Tokenizer(folder.tokenizerJson), options.maxLength);
  note(
    `${options.corpus}: ${count(sentences.length)} sentences, ${count(corpus.tokens.length)} tokens; ` +
      `${count(corpus.truncated)} cut to ${options.maxLength} tokens, ${count(corpus.duplicates)} duplicates ` +
      `(never each other's negatives)`,
  );
  const batchSize = Math.min(options.batchSize, sentences.length);
  if (batchSize < 2) {
    throw new UsageError(
      `--corpus ${options.corpus}: one sentence has no negatives; expected two or more`,
    );
  }
  const totalSteps = options.steps ?? Math.ceil(options.epochs * stepsPerEpoch(corpus, batchSize));
  const run: RunOptions = {
    step: {
      encoder: config.encoder,
      pooling: config.pooling,
      batchSize,
      columns: 2,
      maxLength: options.maxLength,
      temperature: options.temperature,
      hardNegativeWeight: 0,
      dropout: true,
      seed: options.seed,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: options.weightDecay,
      maxGradientNorm: options.maxGradientNorm,
    },
    totalSteps,
    learningRate: options.learningRate,
    warmupSteps: Math.round(options.warmup * totalSteps),
    corpus: await sha256Hex(new Uint8Array(corpus.tokens.buffer)),
  };

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
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    const from = resumable && options.resume ? await resume(output, team, run, options) : 0;
    if (from === 0) {
      loadWeights(team.buffer, team.plan.weights.named, folder.tensors, folder.weightsFile);
      await output.reset();
    }
    const progress = new Progress();
    const begun = performance.now();
    let tokens = 0;
    let smoothLoss: number | undefined;
    const order = new BatchOrder(corpus, batchSize, options.seed);
    const events = {
      onStep(report: Parameters<typeof output.record>[0]): void {
        output.record(report);
        tokens += report.tokens;
        smoothLoss =
          smoothLoss === undefined ? report.loss : 0.95 * smoothLoss + 0.05 * report.loss;
        progress.show(() => {
          const seconds = (performance.now() - begun) / 1000;
          const eta = ((totalSteps - report.step) * seconds) / (report.step - from);
          return (
            `step ${report.step}/${totalSteps}  loss ${smoothLoss!.toFixed(4)}  ` +
            `lr ${report.learningRate.toExponential(1)}  ${count(tokens / seconds)} tokens/s  ETA ${duration(eta)}`
          );
        }, report.step === totalSteps);
      },
      onCheckpoint: (step: number) => output.save(team, run, step),
    };
    const last = await runTraining(
      team,
      run,
      order,
      from,
      options.checkpointEvery,
      events,
      interruption.signal,
    );
    progress.end();
    if (last < totalSteps) {
      throw new Interrupted(
        `stopped after step ${last} of ${totalSteps}; --resume continues from there`,
      );
    }
    const tensors = storeWeights(team.buffer, team.plan.weights.named);
    await writeModelFolder(options.output, {
      config,
      tokenizerJson: folder.tokenizerJson,
      tensors,
    });
    note(
      `${options.output}: trained ${totalSteps - from} steps in ${duration((performance.now() - begun) / 1000)}`,
    );
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
    await team.close();
  }
}

/** The step to go on after; 0 where `force` allows to begin anew because the checkpoint belongs to another run. */
async function resume(
  output: RunFolder,
  team: Team,
  run: RunOptions,
  options: TrainOptions,
): Promise<number> {
  try {
    const step = await output.restore(team, run);
    note(`resumed after step ${step} of ${run.totalSteps}`);
    return step;
  } catch (error) {
    if (!options.force) throw error;
    note(`${(error as Error).message}\nbeginning anew`);
    return 0;
  }
}

export function addTrain(program: Command): void {
  program
    .command("train")
    .description("train by unsupervised SimCSE: each sentence twice, dropout the only noise")
    .requiredOption("--model <folder>", "model to begin with (`simcse init` makes one)")
    .requiredOption("--corpus <file>", "text file, one sentence a line")
    .requiredOption(
      "--output <folder>",
      "folder for the checkpoint, the metrics and the trained model",
    )
    .option("--epochs <n>", "passes over the corpus", numberBetween(0, 10_000), 1)
    .option("--steps <n>", "steps, instead of epochs", wholeNumber(1))
    .option("--batch-size <n>", "sentences of a batch", wholeNumber(2), 64)
    .option("--learning-rate <rate>", "peak learning rate", numberBetween(0, 10), 3e-5)
    .option(
      "--warmup <share>",
      "share of the steps in which the rate rises",
      numberBetween(0, 1),
      0,
    )
    .option("--weight-decay <rate>", "AdamW's weight decay of matrices", numberBetween(0, 1), 0)
    .option("--temperature <tau>", "τ of the loss", numberBetween(1e-4, 100), 0.05)
    .option(
      "--max-gradient-norm <norm>",
      "clip gradients to this norm; 0 does not",
      numberBetween(0, 1e9),
      1,
    )
    .option("--max-length <n>", "tokens of a sentence, specials included", wholeNumber(3), 32)
    .option("--seed <n>", "seed of data order and dropout", wholeNumber(0), 42)
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .option("--checkpoint-every <n>", "steps between checkpoints", wholeNumber(1), 250)
    .option("--resume", "continue the run in --output, if there is one")
    .option(
      "--force",
      "begin anew if --output holds a run (with --resume: only one that cannot be continued)",
    )
    .action((options: TrainOptions) => train(options));
}
