import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { compileKernels } from "../node/binaries.ts";
import { readModelFolder, writeModelFolder } from "../node/model-folder.ts";
import { quantizeInt8 } from "../quantize/quantize.ts";
import { note } from "./terminal.ts";

export interface QuantizeOptions {
  readonly model: string;
  readonly output: string;
}

/** Writes an int8 model folder. */
export async function quantize({ model, output }: QuantizeOptions): Promise<void> {
  const folder = await readModelFolder(model);
  const { config, tensors } = quantizeInt8(
    await compileKernels("node"),
    folder.config,
    folder.tensors,
    model,
  );
  await writeModelFolder(output, { config, tokenizerJson: folder.tokenizerJson, tensors });
  const megabytes = async (path: string): Promise<string> =>
    ((await stat(join(path, "model.safetensors"))).size / 1e6).toFixed(2);
  note(
    `${output}: ${await megabytes(model)} MB of f32 became ${await megabytes(output)} MB of int8`,
  );
}

export function addQuantize(program: Command): void {
  program
    .command("quantize")
    .description("int8 weights for the Worker")
    .requiredOption("--model <folder>", "f32 model folder")
    .requiredOption("--output <folder>", "int8 model folder to write")
    .action((options: QuantizeOptions) => quantize(options));
}
