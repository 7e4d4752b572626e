import type { Command } from "commander";
import { Option } from "commander";
import { UsageError } from "../errors.ts";
import { VOCABULARY } from "../files/json.ts";
import { toFloat32 } from "../files/safetensors.ts";
import {
  type ModelConfig,
  type Pooling,
  POOLINGS,
  staticEncoder,
  validateEncoder,
} from "../model/config.ts";
import { type ParameterSet, planParameters } from "../model/parameters.ts";
import { planStatic } from "../model/static.ts";
import { foldStatic, storeWeights, TABLE_ALONE } from "../model/weights.ts";
import { readJson, writeModelFolder } from "../node/model-folder.ts";
import { openText } from "../node/rows.ts";
import { Arena, size } from "../runtime/arena.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { unframed } from "../tokenizer/vocab.ts";
import { beginAsStatic, initializeStatic, initializeWeights } from "../train/initialize.ts";
import { readFloatFolder } from "./float-folder.ts";
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
  /** A static model instead of a BERT: of the options of its shape only `hidden` counts. */
  readonly static?: boolean;
  /** Folder of a static model that an encoder begins as. */
  readonly beginAs?: string;
  /** Outputs of a layer on the mean of a static model. */
  readonly dense?: number;
  /** Text whose frequencies weigh the tokens of a static model. */
  readonly corpus?: string;
}

/** Writes a model folder with random weights: of a BERT, or of a static model if a corpus is to weigh its tokens. */
export async function init(options: InitOptions): Promise<void> {
  const tokenizerJson = await readJson(options.tokenizer, "a tokenizer.json", VOCABULARY);
  await (options.static ? initStatic(options, tokenizerJson) : initEncoder(options, tokenizerJson));
}

async function initEncoder(options: InitOptions, tokenizerJson: object): Promise<void> {
  const tokenizer = new Tokenizer(tokenizerJson);
  const { vocabSize } = tokenizer;
  const table =
    options.beginAs === undefined ? undefined : await staticTable(options.beginAs, vocabSize);
  const config: ModelConfig = {
    encoder: {
      vocabSize,
      hiddenSize: table ? table.length / vocabSize : options.hidden,
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
  if (table) {
    // The static model never saw what frames a text.
    const hidden = config.encoder.hiddenSize;
    for (const id of tokenizer.encode("", 2).ids) table.fill(0, id * hidden, (id + 1) * hidden);
    beginAsStatic(buffer, weights, table);
  }
  await write(options.output, config, tokenizerJson, buffer, weights, "BERT");
}

/** The token vectors of a static model of the same vocabulary, with their weights in them. */
async function staticTable(path: string, vocabSize: number): Promise<Float32Array> {
  const folder = await readFloatFolder(path);
  if (folder.config.modules?.some(({ type }) => type !== "normalize")) {
    throw new UsageError(
      `--begin-as ${path}: expected a mean of token vectors alone, found modules after it`,
    );
  }
  const { tensors } = foldStatic(folder.config, folder.tensors);
  const table = tensors.get(TABLE_ALONE);
  if (!table || table.shape[0] !== vocabSize) {
    throw new UsageError(
      `--begin-as ${path}: expected a static model of the same ${vocabSize} word pieces, found ` +
        (table ? `one of ${table.shape[0]}` : "another kind of model"),
    );
  }
  return toFloat32(table);
}

async function initStatic(options: InitOptions, framed: object): Promise<void> {
  const tokenizerJson = unframed(framed);
  const tokenizer = new Tokenizer(tokenizerJson);
  const { vocabSize } = tokenizer;
  const encoder = staticEncoder(vocabSize, options.hidden);
  if (options.hidden % 4 !== 0) {
    throw new UsageError(`--hidden ${options.hidden}: expected a multiple of 4`);
  }
  if (options.dense !== undefined && options.dense % 4 !== 0) {
    throw new UsageError(`--dense ${options.dense}: expected a multiple of 4`);
  }
  const counts = new Uint32Array(vocabSize);
  if (options.corpus !== undefined) {
    for await (const { cells } of openText(options.corpus).rows) {
      for (const id of tokenizer.encode(cells[0]!, encoder.maxPositions).ids) counts[id]!++;
    }
  }
  const arena = new Arena(64);
  const dense = options.dense === undefined ? undefined : { outputs: options.dense, tanh: true };
  const weights = planStatic(arena, encoder, vocabSize, { dense });
  const buffer = new ArrayBuffer(arena.top);
  initializeStatic(buffer, weights, counts, options.seed);
  const config: ModelConfig = {
    encoder,
    pooling: "avg",
    maxLength: encoder.maxPositions,
    dtype: "f32",
    table: { rows: vocabSize },
    ...(dense && {
      modules: [
        { type: "dense", inputs: options.hidden, outputs: dense.outputs, activation: "tanh" },
      ],
    }),
  };
  await write(options.output, config, tokenizerJson, buffer, weights, "static model");
}

async function write(
  output: string,
  config: ModelConfig,
  tokenizerJson: object,
  buffer: ArrayBuffer,
  { named }: ParameterSet,
  kind: string,
): Promise<void> {
  await writeModelFolder(output, { config, tokenizerJson, tensors: storeWeights(buffer, named) });
  const parameters = named.reduce((sum, { shape }) => sum + size(shape), 0);
  note(`${output}: a ${kind} of ${count(parameters)} random parameters`);
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
    .option("--static", "a static model: a vector and a weight for each token, and no layers")
    .option(
      "--corpus <file>",
      "with --static: text whose rarer tokens weigh more to begin with, a / (a + p)",
    )
    .option(
      "--dense <n>",
      "with --static: a layer on the mean, linear and tanh, that makes vectors of n numbers",
      wholeNumber(4),
    )
    .option(
      "--begin-as <static model>",
      "an encoder that begins as this static model of the same vocabulary, whose size of a vector it takes",
    )
    .option("--seed <n>", "seed of the random weights", wholeNumber(0), 42)
    .action((options: InitOptions) => init(options));
}
