import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { QUANTIZED_DTYPES, type QuantizedDtype } from "../model/config.ts";
import { compileKernels } from "../node/binaries.ts";
import { readModelFolder, writeModelFolder } from "../node/model-folder.ts";
import { quantizeModel } from "../quantize/quantize.ts";
import { note } from "./terminal.ts";

export interface QuantizeOptions {
  readonly model: string;
  readonly output: string;
  readonly dtype: QuantizedDtype;
}

/** Writes a quantised model folder. */
export async function quantize({ model, output, dtype }: QuantizeOptions): Promise<void> {
  const folder = await readModelFolder(model);
  const { config, tensors } = quantizeModel(
    await compileKernels("node"),
    folder.config,
    folder.tensors,
    model,
    dtype,
  );
  await writeModelFolder(output, { config, tokenizerJson: folder.tokenizerJson, tensors });
  const megabytes = async (path: string): Promise<string> =>
    ((await stat(join(path, "model.safetensors"))).size / 1e6).toFixed(2);
  note(
    `${output}: ${await megabytes(model)} MB of f32 became ${await megabytes(output)} MB of ${dtype}`,
  );
}

export function addQuantize(program: Command): void {
  program
    .command("quantize")
    .description("weights of fewer bits, for the Worker")
    .requiredOption("--model <folder>", "f32 model folder")
    .requiredOption("--output <folder>", "quantised model folder to write")
    .addOption(
      new Option("--dtype <dtype>", "of the weights of linear layers; tables are int8 in both")
        .choices(QUANTIZED_DTYPES)
        .default("int8"),
    )
    .action((options: QuantizeOptions) => quantize(options));
}
