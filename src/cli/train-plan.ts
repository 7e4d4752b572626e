/** What decides a training run, put together from the options of `simcse train`. */
import { UsageError } from "../errors.ts";
import type { GradedPair } from "../evaluate/pairs.ts";
import { sha256HexOfParts } from "../files/checksum.ts";
import {
  isOfFirsts,
  type ModelConfig,
  type Pooling,
  trainableDense,
  trainablePooling,
} from "../model/config.ts";
import type { ModelFolder } from "../node/model-folder.ts";
import { readFileOr } from "../node/files.ts";
import type { Team } from "../node/team.ts";
import type { Teachers } from "../node/teachers.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type AdamState, loadAdam, parseAdam, type RunOptions } from "../train/checkpoint.ts";
import { BatchOrder, batchesPerEpoch, type Sequences, type Source } from "../train/data.ts";
import { size } from "../runtime/arena.ts";
import { loadInitial } from "../train/initialize.ts";
import { type Batches, TaughtBatches } from "../train/teaching.ts";
import { readFloatFolder } from "./float-folder.ts";
import { readAugmentation, readData, readDev, readMasking, readTeachers } from "./train-data.ts";
import type { TrainOptions } from "./train-options.ts";

export interface PlannedRun {
  /** The model to begin with. */
  readonly folder: ModelFolder;
  /** Of the model that comes out. */
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly sentences: Sequences;
  /** The graded pairs that choose its weights, if any do. */
  readonly dev: { readonly pairs: readonly GradedPair[]; readonly sha256: string } | null;
  readonly run: RunOptions;
  readonly order: Batches;
  /** What the run begins with, unless it is resumed. */
  readonly adam: AdamState | undefined;
  /** To be closed in the end. */
  readonly teachers: Teachers | undefined;
}

/** Writes to memory what a run begins with, and returns the names of heads that begin at random. */
export function begin({ buffer, plan }: Team, { folder, run, adam }: PlannedRun): string[] {
  const { tensors, weightsFile } = folder;
  const heads = loadInitial(buffer, plan.model.weights, tensors, weightsFile, run.step.seed);
  if (adam) loadAdam(buffer, plan, adam);
  const { weights, average } = plan.model;
  for (const [i, { ptr, shape }] of (average?.named ?? []).entries()) {
    const from = weights.named[i]!.ptr;
    new Uint8Array(buffer).copyWithin(ptr, from, from + 4 * size(shape));
  }
  return heads;
}

/** Reads the model, its teachers and the data, and puts together what decides a run. */
export async function planRun(options: TrainOptions): Promise<PlannedRun> {
  const folder = await readFloatFolder(options.model);
  const { pooling, served } = poolingsFor(folder.config, options);
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
  const config: ModelConfig = {
    ...folder.config,
    pooling: served,
    encoder: withDropout(folder.config, options),
  };
  const tokenizer = new Tokenizer(folder.tokenizerJson);
  const dense = trainableDense(config);
  const taught = await readTeachers(options, dense?.outputs ?? config.encoder.hiddenSize);
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
  const adam =
    options.adam === undefined
      ? undefined
      : parseAdam(await readFileOr(options.adam, "moments of Adam"), options.adam);
  const batchSize = Math.min(options.batchSize, Math.max(...sources.map(({ rows }) => rows)));
  const totalSteps =
    options.steps ??
    Math.ceil((options.epochs * batchesPerEpoch(sources, batchSize)) / (options.accumulate ?? 1));
  const run: RunOptions = {
    step: {
      encoder: config.encoder,
      pooling,
      ...(config.table && { tableRows: config.table.rows }),
      ...(dense && { dense }),
      ...(options.ema !== undefined && { averageDecay: options.ema }),
      ...(options.layerRate !== undefined && { layerRate: options.layerRate }),
      ...(options.freezeEmbeddings && { freezeEmbeddings: true }),
      ...(options.freezeLayers !== undefined && { freezeLayers: options.freezeLayers }),
      ...(options.chunkSize !== undefined && { chunkSize: options.chunkSize }),
      ...((options.accumulate ?? 1) > 1 && { accumulate: options.accumulate }),
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
      ...(adam && { adamSteps: adam.steps }),
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
    ...(served !== pooling && { served }),
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
  return {
    folder,
    config,
    tokenizer,
    sentences,
    dev,
    run,
    adam,
    order: taught ? new TaughtBatches(drawn, taught.teachers) : drawn,
    teachers: taught?.teachers,
  };
}
/** The bytes of an array of numbers. */
function bytes({
  buffer,
  byteOffset,
  byteLength,
}: Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>) {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** How tokens become a vector in training, and in the model that comes out of it. */
function poolingsFor(
  config: ModelConfig,
  { model, pooling: chosen, mlpOnlyTrain = false }: TrainOptions,
): { pooling: Pooling; served: Pooling } {
  const pooling = trainablePooling({ ...config, ...(chosen && { pooling: chosen }) }, model);
  if (config.table && pooling !== "avg") {
    throw new UsageError(`--pooling ${pooling}: ${model} is a static model, which has only avg`);
  }
  if (!mlpOnlyTrain) return { pooling, served: pooling };
  // A model whose own pooling is cls_before_pooler may come of such a run.
  if (isOfFirsts(pooling) && chosen !== "cls_before_pooler") {
    return { pooling: "cls", served: "cls_before_pooler" };
  }
  throw new UsageError(
    `--mlp-only-train: expected pooling cls, which has a layer to leave out, found ${pooling}; ` +
      `give --pooling cls, or --no-mlp-only-train`,
  );
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

/** Of a row; where nothing is compared, each different one is only there once. */
function mostSentences(sources: readonly Source[], alone: boolean): 1 | 2 | 3 {
  if (sources.some(({ columns }) => columns === 3)) return 3;
  return alone && sources.every(({ unsupervised }) => unsupervised) ? 1 : 2;
}
