import type { Command } from "commander";
import { Option } from "commander";
import { UsageError } from "../errors.ts";
import { type ModelConfig, type Pooling, POOLINGS, validateEncoder } from "../model/config.ts";
import { planParameters } from "../model/parameters.ts";
import { storeWeights } from "../model/weights.ts";
import { readJson, writeModelFolder } from "../node/model-folder.ts";
import { Arena, size } from "../runtime/arena.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { initializeWeights } from "../train/initialize.ts";
import { numberBetween, wholeNumber } from "./options.ts";
import { count, note } from "./terminal.ts";

export interface InitOptions {
  readonly tokenizer: string;
  readonly output: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly maxLength: number;
  readonly pooling: Pooling;
  readonly dropout: number;
  readonly seed: number;
}

/** Writes a model folder with random weights. */
export async function init(options: InitOptions): Promise<void> {
  const tokenizerJson = await readJson(options.tokenizer, "a tokenizer.json");
  const config: ModelConfig = {
    encoder: {
      vocabSize: new Tokenizer(tokenizerJson).vocabSize,
      hiddenSize: options.hidden,
      numLayers: options.layers,
      numHeads: options.heads,
      intermediateSize: options.intermediate,
      maxPositions: options.maxLength,
      typeVocabSize: 2,
      layerNormEpsilon: 1e-12,
      hiddenDropout: options.dropout,
      attentionDropout: options.dropout,
    },
    pooling: options.pooling,
    maxLength: options.maxLength,
    dtype: "f32",
  };
  try {
    validateEncoder(config.encoder, "init");
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
  const arena = new Arena(64);
  const weights = planParameters(arena, config.encoder, config.pooling === "cls");
  const buffer = new ArrayBuffer(arena.top);
  initializeWeights(buffer, weights, options.seed);
  await writeModelFolder(options.output, {
    config,
    tokenizerJson,
    tensors: storeWeights(buffer, weights.named),
  });
  const parameters = weights.named.reduce((sum, { shape }) => sum + size(shape), 0);
  note(`${options.output}: a BERT of ${count(parameters)} random parameters`);
}

export function addInit(program: Command): void {
  program
    .command("init")
    .description("write a model folder with random weights")
    .requiredOption("--tokenizer <file>", "tokenizer.json, as `simcse vocab` writes it")
    .requiredOption("--output <folder>", "model folder to write")
    .option("--layers <n>", "transformer layers", wholeNumber(1), 2)
    .option("--hidden <n>", "size of a vector", wholeNumber(4), 128)
    .option("--heads <n>", "attention heads", wholeNumber(1), 4)
    .option("--intermediate <n>", "size of the feed-forward layer", wholeNumber(4), 512)
    .option("--max-length <n>", "longest text in tokens, specials included", wholeNumber(3), 64)
    .addOption(
      new Option("--pooling <name>", "how tokens become a vector").choices(POOLINGS).default("avg"),
    )
    .option(
      "--dropout <rate>",
      "dropout of hidden states and attention",
      numberBetween(0, 0.9),
      0.1,
    )
    .option("--seed <n>", "seed of the random weights", wholeNumber(0), 42)
    .action((options: InitOptions) => init(options));
}
