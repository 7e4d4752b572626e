import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { writeModelFolder } from "../node/model-folder.ts";
import { averageWeights } from "../train/average.ts";
import { readFloatFolder } from "./float-folder.ts";
import { shareOf } from "./options.ts";
import { note } from "./terminal.ts";

export interface AverageOptions {
  /** Folders, each with its share after a colon if it has one. */
  readonly model: readonly string[];
  readonly output: string;
}

/** Writes the average of models that began as the same one. */
export async function average({ model, output }: AverageOptions): Promise<void> {
  const [first, ...others] = await Promise.all(
    model.map(async (text) => {
      const { name, share = 1 } = shareOf("--model", text);
      return { ...(await readFloatFolder(name)), name, share };
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
    .requiredOption("--output <folder>", "model folder to write")
    .action((options: AverageOptions) => average(options));
}
