import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { writeModelFolder } from "../node/model-folder.ts";
import { averageWeights } from "../train/average.ts";
import { readFloatFolder } from "./float-folder.ts";
import { numberBetween, shareOf } from "./options.ts";
import { note } from "./terminal.ts";

export interface AverageOptions {
  /** Folders, each with its share after a colon if it has one. */
  readonly model: readonly string[];
  /** Their shares in the weights of layers, where these are others. */
  readonly layers?: readonly number[];
  readonly output: string;
}

/** Writes the average of models that began as the same one. */
export async function average({ model, layers, output }: AverageOptions): Promise<void> {
  if (layers && layers.length !== model.length) {
    throw new UsageError(
      `--layers ${layers.join(",")}: expected a share for each of ${model.length} models, found ${layers.length}`,
    );
  }
  const [first, ...others] = await Promise.all(
    model.map(async (text, i) => {
      const { name, share = 1 } = shareOf("--model", text);
      const layerShare = layers?.[i];
      return {
        ...(await readFloatFolder(name)),
        name,
        share,
        ...(layerShare !== undefined && { layerShare }),
      };
    }),
  );
  if (!first || others.length === 0) {
    throw new UsageError("--model: expected two folders or more; the average of one is itself");
  }
  const tensors = averageWeights([first, ...others]);
  const { config, tokenizerJson } = first;
  await writeModelFolder(output, { config, tokenizerJson, tensors });
  note(`${output}: the average of ${model.length} models`);
}

export function addAverage(program: Command): void {
  program
    .command("average")
    .description("the average of the weights of models that began as the same one")
    .requiredOption("--model <folders...>", "f32 model folders; folder:0.7 has a share of 0.7")
    .option(
      "--layers <shares>",
      "shares in the weights of layers, where these are others: -0.25,1.25 goes beyond the second model",
      (text) => text.split(",").map(numberBetween(-10, 10)),
    )
    .requiredOption("--output <folder>", "model folder to write")
    .action((options: AverageOptions) => average(options));
}
