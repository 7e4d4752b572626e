import { join } from "node:path";
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { evaluatePairs } from "../evaluate/measures.ts";
import type { GradedPair } from "../evaluate/pairs.ts";
import { sha256HexOfParts } from "../files/checksum.ts";
import { type ModelConfig, trainablePooling } from "../model/config.ts";
import { GUESSER } from "../model/parameters.ts";
import { foldStatic, hasWeight, loadWeights, storeWeights } from "../model/weights.ts";
import {
  type ModelFolder,
  openModel,
  readModelFolder,
  writeModelFolder,
} from "../node/model-folder.ts";
import { RunFolder } from "../node/run-folder.ts";
import { Team } from "../node/team.ts";
import { size, type Tensor } from "../runtime/arena.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { RunOptions, RunState } from "../train/checkpoint.ts";
import { AUGMENTATIONS } from "../train/augment.ts";
import { BatchOrder, type Source, stepsPerEpoch } from "../train/data.ts";
import { Health } from "../train/health.ts";
import { initializeWeights } from "../train/initialize.ts";
import {
  DISTILLATIONS,
  type DistillOptions,
  type Objective,
  OBJECTIVES,
  SIMILARITIES,
  type Similarity,
} from "../train/objective.ts";
import { STREAM } from "../train/random.ts";
import { type Schedule, SCHEDULES } from "../train/schedule.ts";
import { type Batches, TaughtBatches } from "../train/teaching.ts";
import {
  type DevReport,
  isFinished,
  type StepReport,
  train as runTraining,
} from "../train/trainer.ts";
import { applyConfigFile } from "./config-file.ts";
import { DEFAULT_THREADS, numberBetween, wholeNumber } from "./options.ts";
import { count, duration, note, Progress, table } from "./terminal.ts";
import {
  readAugmentation,
  readData,
  readDev,
  readMasking,
  readTeachers,
  sentenceLengths,
} from "./train-data.ts";

export interface TrainOptions {
  readonly model: string;
  /** Files of rows, each with its share after a colon if it has one. */
  readonly train?: readonly string[];
  /** A file of text whatever its name. */
  readonly corpus?: string;
  readonly columns?: readonly string[];
  readonly neighbours?: number;
  readonly output: string;
  readonly epochs: number;
  readonly steps?: number;
  readonly objective?: Objective;
  readonly mlmWeight?: number;
  readonly mlmProbability?: number;
  /** Model folders. */
  readonly teacher?: readonly string[];
  readonly distill?: DistillOptions["kind"];
  readonly distillWeight?: number;
  readonly distillTemperature?: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly schedule?: Schedule;
  readonly warmup: number;
  readonly weightDecay: number;
  readonly temperature: number;
  readonly hardNegativeWeight?: number;
  readonly symmetric?: boolean;
  readonly similarity?: Similarity;
  /** Beginnings of vectors that are compared too. */
  readonly matryoshka?: readonly number[];
  readonly hiddenDropout?: number;
  readonly attentionDropout?: number;
  /** False trains without any. */
  readonly dropout?: boolean;
  readonly fixedDropout?: boolean;
  /** What makes the positives of one-column files differ: see `AUGMENTATIONS`. */
  readonly augment?: string;
  readonly maxGradientNorm: number;
  /** See `RateOptions`. */
  readonly layerRate?: number;
  readonly freezeEmbeddings?: boolean;
  readonly freezeLayers?: number;
  readonly ema?: number;
  readonly chunkSize?: number;
  readonly maxLength: number;
  readonly dev?: string;
  readonly evalEvery?: number;
  readonly patience?: number;
  readonly seed: number;
  readonly threads: number;
  readonly checkpointEvery: number;
  readonly resume?: boolean;
  readonly force?: boolean;
  /** Prints what the run would take, and writes nothing. */
  readonly dryRun?: boolean;
}

/** Thrown when Ctrl-C ended a run after its checkpoint was written. */
export class Interrupted extends Error {
  override name = "Interrupted";
}

/** SimCSE: fine-tunes a model folder on sentences, pairs or triplets; the result and its checkpoints go to `output`. */
export async function train(options: TrainOptions): Promise<RunState> {
  const folder = await readModelFolder(options.model);
  const pooling = trainablePooling(folder.config, options.model);
  if (options.maxLength > folder.config.maxLength) {
    throw new UsageError(
      `--max-length ${options.maxLength}: ${options.model} takes at most ${folder.config.maxLength} tokens`,
    );
  }
  if (options.fixedDropout && options.chunkSize !== undefined) {
    throw new UsageError(
      "--fixed-dropout: expected no --chunk-size, as it makes chunks of its own",
    );
  }
  const { numLayers } = folder.config.encoder;
  if ((options.freezeLayers ?? 0) > numLayers) {
    throw new UsageError(
      `--freeze-layers ${options.freezeLayers}: ${options.model} has ${numLayers} layers`,
    );
  }
  const config: ModelConfig = { ...folder.config, encoder: withDropout(folder.config, options) };
  const tokenizer = new Tokenizer(folder.tokenizerJson);
  const taught = await readTeachers(options, config.encoder.hiddenSize);
  const { sentences, sources } = await readData(options, tokenizer, {
    ...(config.table?.ignoredId !== undefined && { ignoredId: config.table.ignoredId }),
    ...(taught && { onSentence: (text) => taught.teachers.add(text) }),
  });
  if (options.fixedDropout && sources.length > 1) {
    throw new UsageError(`--fixed-dropout: expected one file, found ${sources.length}`);
  }
  const { augmentation, name } = await readAugmentation(options, tokenizer, sources, folder);
  const guessing = readMasking(options, tokenizer, config.table !== undefined);
  const dev = await readDev(options);
  const batchSize = Math.min(options.batchSize, Math.max(...sources.map(({ rows }) => rows)));
  const totalSteps = options.steps ?? Math.ceil(options.epochs * stepsPerEpoch(sources, batchSize));
  const bytes = ({
    buffer,
    byteOffset,
    byteLength,
  }: Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>) =>
    new Uint8Array(buffer, byteOffset, byteLength);
  const run: RunOptions = {
    step: {
      encoder: config.encoder,
      pooling,
      ...(config.table && { tableRows: config.table.rows }),
      ...(options.ema !== undefined && { averageDecay: options.ema }),
      ...(options.layerRate !== undefined && { layerRate: options.layerRate }),
      ...(options.freezeEmbeddings && { freezeEmbeddings: true }),
      ...(options.freezeLayers !== undefined && { freezeLayers: options.freezeLayers }),
      ...(options.chunkSize !== undefined && { chunkSize: options.chunkSize }),
      ...(guessing && { mlmWeight: guessing.weight }),
      ...(options.objective !== "contrastive" && { objective: options.objective }),
      ...(taught && { distill: taught.distill }),
      batchSize,
      columns: mostSentences(sources, options.objective === "mlm"),
      maxLength: options.maxLength,
      temperature: options.temperature,
      hardNegativeWeight: options.hardNegativeWeight ?? 0,
      symmetric: options.symmetric ?? false,
      similarity: options.similarity ?? "cos",
      ...(options.matryoshka && { beginnings: options.matryoshka }),
      dropout: options.dropout ?? true,
      ...(options.fixedDropout && { fixedDropout: true }),
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
    schedule: options.schedule ?? "linear",
    corpus: await sha256HexOfParts(
      [sentences.values, ...sources.flatMap(({ data }) => data)].map(bytes),
    ),
    ...(name !== undefined && { augmentation: name }),
    ...(guessing && { masking: guessing.masking.rate }),
    ...(taught && { teachers: taught.teachers.sha256 }),
    shares: sources.map(({ share }) => (Number.isNaN(share) ? null : share)),
    evaluation: dev && {
      dev: dev.sha256,
      every: options.evalEvery ?? 250,
      patience: options.patience ?? 0,
    },
  };
  const drawn = new BatchOrder(sentences, sources, batchSize, options.seed, {
    ...(augmentation && { augmentation }),
    ...(guessing && { masking: guessing.masking }),
    alone: options.objective === "mlm",
  });
  const order = taught ? new TaughtBatches(drawn, taught.teachers) : drawn;
  if (options.dryRun) {
    const state = await rehearse(run, order, folder, options.threads);
    await taught?.teachers.close();
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
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    let from: RunState = { step: 0 };
    if (resumable && options.resume) from = await resume(output, team, run, options);
    if (from.step === 0) {
      loadInitial(team, folder, options.seed);
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
    let tokens = 0;
    let smoothLoss: number | undefined;
    const events = {
      onStep(report: StepReport): void {
        output.record(report);
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
        const report = { step, ...(await evaluate(trained(), tokenizer, dev!.pairs)) };
        output.record(report);
        progress.end();
        note(
          `step ${step}: dev Spearman ${report.spearman.toFixed(2)}  alignment ${report.alignment.toFixed(3)}  ` +
            `uniformity ${report.uniformity.toFixed(3)}`,
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
      interruption.signal,
    );
    progress.end();
    const lengths = sentenceLengths(sentences, options.maxLength);
    await output.report({ name: options.output, settings: { ...options }, lengths });
    if (!isFinished(run, state)) {
      throw new Interrupted(
        `stopped after step ${state.step} of ${totalSteps}; --resume continues from there`,
      );
    }
    const { best } = state;
    await writeModelFolder(options.output, best ? await readModelFolder(output.best) : trained());
    note(
      `${options.output}: trained ${state.step - from.step} steps in ${duration((performance.now() - begun) / 1000)}` +
        (best
          ? `; these are the weights of step ${best.step}, dev Spearman ${best.score.toFixed(2)}`
          : ""),
    );
    return state;
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
    await taught?.teachers.close();
    await team.close();
  }
}

/** Of a row; where nothing is compared, each different one is only there once. */
function mostSentences(sources: readonly Source[], alone: boolean): 1 | 2 | 3 {
  if (sources.some(({ columns }) => columns === 3)) return 3;
  return alone && sources.every(({ unsupervised }) => unsupervised) ? 1 : 2;
}

/** The share of masked tokens that the model guessed, where it guesses. */
function guessed({ accuracy }: StepReport): string {
  return accuracy === undefined ? "" : `guessed ${(100 * accuracy).toFixed(1)} %  `;
}

/** Weights of the folder; what guesses masked tokens begins at random where the folder has no such head. */
function loadInitial(team: Team, { tensors, weightsFile }: ModelFolder, seed: number): void {
  const { named } = team.plan.model.weights;
  const isAbsent = ({ name }: Tensor): boolean =>
    name.startsWith(GUESSER) && !hasWeight(tensors, name);
  const head = named.filter(({ name }) => name.startsWith(GUESSER));
  const fresh = head.length > 0 && head.every(isAbsent);
  const stored = fresh ? named.filter((tensor) => !head.includes(tensor)) : named;
  loadWeights(team.buffer, stored, tensors, weightsFile);
  if (!fresh) return;
  initializeWeights(team.buffer, { named: head }, seed, STREAM.guesser);
  note(`${weightsFile}: has no head of a masked language model; it begins at random`);
}

/** Steps of a dry run; the first also warms up. */
const REHEARSED = 5;

/** Trains a few steps, and prints what the run would take of memory and time. */
async function rehearse(
  run: RunOptions,
  order: Batches,
  folder: ModelFolder,
  threads: number,
): Promise<RunState> {
  const team = await Team.start(run.step, threads);
  try {
    const { model } = team.plan;
    loadInitial(team, folder, run.step.seed);
    const ends = [performance.now()];
    const steps = Math.min(REHEARSED, run.totalSteps);
    const events = {
      onStep: () => void ends.push(performance.now()),
      onCheckpoint: async () => {},
    };
    const short = { ...run, totalSteps: steps, evaluation: null };
    await runTraining(team, short, order, { step: 0 }, Infinity, events);
    const times = ends.slice(1).map((end, i) => (end - ends[i]!) / 1000);
    const seconds =
      times.slice(1).toSorted((a, b) => a - b)[Math.floor((times.length - 1) / 2)] ?? times[0]!;
    const parameters = model.first.named.reduce((sum, { shape }) => sum + size(shape), 0);
    const averages = model.average ? parameters : 0;
    const all = team.buffer.byteLength;
    const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
    console.log(
      table([
        ["parameters", count(parameters)],
        ["weights, for the whole run", megabytes(4 * parameters)],
        ["moments of Adam, for the whole run", megabytes(8 * parameters)],
        ...(averages > 0 ? [["their average, for the whole run", megabytes(4 * averages)]] : []),
        ["gradients, for a step", megabytes(4 * parameters)],
        [
          "activations of the largest batch, for a step",
          megabytes(all - 16 * parameters - 4 * averages),
        ],
        ["memory of the kernels, all of this", megabytes(all)],
        ["steps", count(run.totalSteps)],
        [`seconds a step, median of ${Math.max(1, steps - 1)}`, seconds.toFixed(3)],
        ["time, without evaluations", duration(seconds * run.totalSteps)],
      ]),
    );
    return { step: 0 };
  } finally {
    await team.close();
  }
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
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const squares = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0);
  const deviation = Math.sqrt(squares / (scores.length - 1));
  rows.push(["mean", "", mean.toFixed(2)], ["standard deviation", "", deviation.toFixed(2)]);
  console.log(table(rows));
}

/** The encoder with the rates that the options override. */
function withDropout(
  { encoder }: ModelConfig,
  { hiddenDropout, attentionDropout }: TrainOptions,
): ModelConfig["encoder"] {
  return {
    ...encoder,
    ...(hiddenDropout !== undefined && { hiddenDropout }),
    ...(attentionDropout !== undefined && { attentionDropout }),
  };
}

/** Scores weights with the kernels that will serve them. */
async function evaluate(
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
  program
    .command("train")
    .description("train by SimCSE: sentences (dropout the only noise), pairs, or triplets")
    .option("--model <folder>", "model to begin with (`simcse init` makes one)")
    .option("--output <folder>", "folder for the checkpoint, the metrics and the trained model")
    .option(
      "--config <file>",
      "JSON of these options, batchSize for --batch-size; options given here win",
    )
    .optionsGroup("Data:")
    .option(
      "--train <files...>",
      "txt, csv, tsv, jsonl (also .gz, .zst) or parquet with 1 to 3 columns; file:0.7 makes 0.7 of the batches of it",
    )
    .option("--corpus <file>", "text file, one sentence a line, whatever its name")
    .option(
      "--columns <names>",
      "columns of all files: sentence, positive, hard negative",
      (names) => names.split(","),
    )
    .option(
      "--neighbours <k>",
      "positives of one-column files are one of the next k sentences of the document",
      wholeNumber(1),
    )
    .option(
      "--augment <kind>",
      `changes the positives of one-column files: ${AUGMENTATIONS.join(", ")}`,
    )
    .option("--max-length <n>", "tokens of a sentence, specials included", wholeNumber(3), 32)
    .optionsGroup("Objective:")
    .addOption(
      new Option(
        "--objective <name>",
        "compare sentences, only guess masked tokens (mlm: pre-training), or only learn from --teacher (distill)",
      )
        .choices(OBJECTIVES)
        .default("contrastive"),
    )
    .option(
      "--mlm-weight <weight>",
      "guess masked tokens too, of copies: weight of this loss beside the other (the paper's λ)",
      numberBetween(0, 100),
    )
    .option("--mlm-probability <p>", "of a token to be masked (0.15)", numberBetween(0.001, 0.9))
    .option("--batch-size <n>", "rows of a batch", wholeNumber(2), 64)
    .option("--temperature <tau>", "τ of the loss", numberBetween(1e-4, 100), 0.05)
    .option(
      "--hard-negative-weight <log>",
      "added to the logit of an anchor's own hard negative: the log of the paper's α",
      numberBetween(-100, 100),
      0,
    )
    .option("--symmetric", "the mean of the loss from sentences to positives and back")
    .addOption(
      new Option("--similarity <name>", "what is compared: cosines, or inner products")
        .choices(SIMILARITIES)
        .default("cos"),
    )
    .option(
      "--matryoshka <dimensions>",
      "vectors that serve when cut short, too: the mean of the loss over these beginnings (64,128) and the whole",
      (text) => text.split(",").map(wholeNumber(4)),
    )
    .option(
      "--teacher <folders...>",
      "models to learn from too, of any kind; of several the mean cosines count",
    )
    .addOption(
      new Option(
        "--distill <what>",
        "what is learned: the teachers' similarities within the batch, or one's vectors (similarity)",
      ).choices(DISTILLATIONS),
    )
    .option("--distill-weight <weight>", "of this loss beside the other (1)", numberBetween(0, 1e6))
    .option(
      "--distill-temperature <tau>",
      "τ of the distributions of similarities (0.05)",
      numberBetween(1e-4, 100),
    )
    .option("--hidden-dropout <rate>", "instead of the model's", numberBetween(0, 0.99))
    .option("--attention-dropout <rate>", "instead of the model's", numberBetween(0, 0.99))
    .option("--no-dropout", "train without any")
    .option("--fixed-dropout", "the same masks for a sentence and its positive (an ablation)")
    .optionsGroup("Optimizer:")
    .option("--epochs <n>", "passes over the data", numberBetween(0, 10_000), 1)
    .option("--steps <n>", "steps, instead of epochs", wholeNumber(1))
    .option("--learning-rate <rate>", "peak learning rate", numberBetween(0, 10), 3e-5)
    .addOption(
      new Option("--schedule <name>", "of the learning rate, after the warm-up")
        .choices(SCHEDULES)
        .default("linear"),
    )
    .option(
      "--warmup <share>",
      "share of the steps in which the rate rises",
      numberBetween(0, 1),
      0,
    )
    .option("--weight-decay <rate>", "AdamW's weight decay of matrices", numberBetween(0, 1), 0)
    .option(
      "--max-gradient-norm <norm>",
      "clip gradients to this norm; 0 does not",
      numberBetween(0, 1e9),
      1,
    )
    .option(
      "--layer-rate <factor>",
      "learning rate of a layer, as a share of that of the layer above it; embeddings are lowest",
      numberBetween(0, 1),
    )
    .option("--freeze-embeddings", "do not train the embeddings")
    .option("--freeze-layers <n>", "do not train the n lowest layers", wholeNumber(1))
    .option(
      "--ema <decay>",
      "keep an exponential moving average of the weights, which is evaluated and written: 0.999",
      numberBetween(0, 0.999999),
    )
    .option(
      "--chunk-size <n>",
      "sentences encoded at a time, each twice: large batches in little memory, same result",
      wholeNumber(1),
    )
    .optionsGroup("Evaluation:")
    .option("--dev <file>", "graded pairs (score, sentence, sentence; tabs): the best weights stay")
    .option("--eval-every <n>", "steps between evaluations (250)", wholeNumber(1))
    .option("--patience <n>", "end after n evaluations without a better score", wholeNumber(1))
    .optionsGroup("Run:")
    .option("--seed <n>", "seed of data order and dropout", wholeNumber(0), 42)
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .option("--checkpoint-every <n>", "steps between checkpoints", wholeNumber(1), 250)
    .option("--resume", "continue the run in --output, if there is one")
    .option(
      "--force",
      "begin anew if --output holds a run (with --resume: only one that cannot be continued)",
    )
    .option("--dry-run", "print parameters, memory and time; write nothing")
    .option("--seeds <n>", "train with n seeds, from --seed on; mean and deviation", wholeNumber(2))
    .action(async (_: unknown, command: Command) => {
      const { config } = command.opts<{ config?: string }>();
      if (config !== undefined) await applyConfigFile(command, config);
      const { seeds, ...options } = command.opts<TrainOptions & { seeds?: number }>();
      for (const name of ["model", "output"] as const) {
        if (options[name] === undefined) {
          throw new UsageError(`expected --${name} <folder>, or ${name} in --config <file>`);
        }
      }
      if (seeds !== undefined && !options.dryRun) await sweep(options, seeds);
      else await train(options);
    });
}
