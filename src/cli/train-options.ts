import { type Command, Option } from "commander";
import { AUGMENTATIONS } from "../train/augment.ts";
import {
  DISTILLATIONS,
  type DistillOptions,
  type Objective,
  OBJECTIVES,
  SIMILARITIES,
  type Similarity,
} from "../train/objective.ts";
import { type Pooling, POOLINGS } from "../model/config.ts";
import { type Schedule, SCHEDULES } from "../train/schedule.ts";
import { DEFAULT_THREADS, numberBetween, wholeNumber } from "./options.ts";

export interface TrainOptions {
  readonly model: string;
  /** Files of rows, each with its columns and its share after colons if it has them. */
  readonly train?: readonly string[];
  /** Files of a recipe, `name=file` each. */
  readonly data?: readonly string[];
  /** A file of text whatever its name. */
  readonly corpus?: string;
  readonly columns?: readonly string[];
  readonly neighbours?: number;
  readonly output: string;
  readonly epochs: number;
  readonly steps?: number;
  /** Instead of the model's. */
  readonly pooling?: Pooling;
  /** Compares vectors of pooling `cls`, and makes a model of `cls_before_pooler`. */
  readonly mlpOnlyTrain?: boolean;
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
  /** A file of moments to begin with. */
  readonly adam?: string;
  readonly freezeEmbeddings?: boolean;
  readonly freezeLayers?: number;
  readonly ema?: number;
  readonly chunkSize?: number;
  readonly accumulate?: number;
  readonly maxLength: number;
  readonly dev?: string;
  readonly devPairs?: string;
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

/** `simcse train` with its options, and nothing yet that it does. */
export function trainCommand(program: Command): Command {
  return program
    .command("train")
    .description("train by SimCSE: sentences (dropout the only noise), pairs, or triplets")
    .option("--model <folder>", "model to begin with (`simcse init` makes one)")
    .option("--output <folder>", "folder for the checkpoint, the metrics and the trained model")
    .option(
      "--config <file>",
      "JSON of these options, batchSize for --batch-size, or a recipe of stages; options given here win",
    )
    .option("--data <name=file...>", "the files that a recipe asks for")
    .optionsGroup("Data:")
    .option(
      "--train <files...>",
      "txt, csv, tsv, jsonl (also .gz, .zst) or parquet with 1 to 3 columns; file:0.7 makes 0.7 of the batches of it",
    )
    .option("--corpus <file>", "text file, one sentence a line, whatever its name")
    .option(
      "--columns <names>",
      "columns of all files: sentence, positive, hard negative; file:a,b and file:a,b:0.7 choose for one",
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
    .addOption(
      new Option(
        "--pooling <name>",
        "how tokens become a vector, instead of the model's way",
      ).choices(POOLINGS),
    )
    .option(
      "--mlp-only-train",
      "of pooling cls: compare what its layer on the first token makes, and leave that out of the model",
    )
    .option("--no-mlp-only-train", "keep it (where --config says otherwise)")
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
      "--adam <file>",
      "moments of AdamW to begin with: checkpoint.safetensors of a run, or what examples/pytorch wrote",
    )
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
    .option(
      "--accumulate <n>",
      "batches of a step, which takes their mean gradient; sentences are compared within a batch alone: for more negatives, a larger --batch-size with --chunk-size",
      wholeNumber(1),
    )
    .optionsGroup("Evaluation:")
    .option("--dev <file>", "graded pairs (score, sentence, sentence; tabs): the best weights stay")
    .option(
      "--dev-pairs <file>",
      "pairs that mean the same, without grades, in two columns: alignment and uniformity; the last weights stay",
    )
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
    .option(
      "--seeds <n>",
      "train with n seeds, from --seed on; mean and deviation",
      wholeNumber(2),
    );
}
