/** The models that `eval` and `report` compare: each that was named, with each pooling that was. */
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { INFERENCE_POOLINGS, type InferencePooling } from "../model/config.ts";
import { readCorpus } from "../node/corpus.ts";
import { type Embedder, openEmbedder } from "../node/embedders.ts";
import { wholeNumber } from "./options.ts";

export interface CandidateOptions {
  readonly model: readonly string[];
  readonly pooling?: readonly InferencePooling[];
  readonly whiten?: string;
  readonly dimensions?: number;
}

export interface Candidate {
  /** As it was named. */
  readonly model: string;
  /** The same, and the pooling where one was asked for. */
  readonly name: string;
  open(): Promise<Embedder>;
}

export function addCandidates(command: Command): Command {
  return command
    .requiredOption(
      "--model <models...>",
      "model folders; random:FOLDER has fresh weights, glove:FILE averages word vectors, whitened:MODEL is whitened",
    )
    .addOption(
      new Option(
        "--pooling <names...>",
        "evaluate each model with each of these poolings; default: its own",
      ).choices(INFERENCE_POOLINGS),
    )
    .option(
      "--whiten <corpus>",
      "what whitened: models are whitened as: a text file, one sentence a line",
    )
    .option("--dimensions <k>", "dimensions that whitening keeps; default: all", wholeNumber(1));
}

export async function candidatesOf(options: CandidateOptions): Promise<Candidate[]> {
  const { model: models, pooling: poolings = [undefined], whiten, dimensions } = options;
  const isWhitened = models.some((model) => model.startsWith("whitened:"));
  if (whiten !== undefined && !isWhitened) {
    throw new UsageError(
      `--whiten: expected a model to whiten, as in --model whitened:${models[0]}; found none`,
    );
  }
  if (dimensions !== undefined && whiten === undefined) {
    throw new UsageError("--dimensions: expected --whiten <corpus> beside it");
  }
  const whitening =
    whiten === undefined ? undefined : { sentences: await readCorpus(whiten), dimensions };
  return models.flatMap((model) =>
    poolings.map((pooling) => ({
      model,
      name: pooling === undefined ? model : `${model}, ${pooling}`,
      open: () => openEmbedder(model, { pooling, whitening }),
    })),
  );
}
