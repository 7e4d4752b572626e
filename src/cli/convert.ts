import { type Command, Option } from "commander";
import type { SafetensorsTensor } from "../files/safetensors.ts";
import { type Dtype, DTYPES } from "../model/config.ts";
import { planInference } from "../model/inference-weights.ts";
import { foldStatic, loadWeights, storeWeights } from "../model/weights.ts";
import { compileKernels } from "../node/binaries.ts";
import { type ModelFolder, writeModelFolder } from "../node/model-folder.ts";
import { quantizeModel } from "../quantize/quantize.ts";
import { Arena } from "../runtime/arena.ts";
import { readFloatFolder } from "./float-folder.ts";
import { note } from "./terminal.ts";

interface ConvertOptions {
  readonly dtype: Dtype;
}

/** Writes whatever can be opened as a folder of BertModel names, which sentence-transformers opens too if it is f32. */
export async function convert(
  model: string,
  output: string,
  { dtype }: ConvertOptions,
): Promise<void> {
  const { config, tokenizerJson, tensors, weightsFile } = await readFloatFolder(model);
  let written: Pick<ModelFolder, "config"> & { tensors: Iterable<[string, SafetensorsTensor]> };
  if (dtype === "f32") {
    const arena = new Arena();
    const { named } = planInference(arena, config);
    const buffer = new ArrayBuffer(arena.top);
    loadWeights(buffer, named, tensors, weightsFile);
    written = foldStatic(config, new Map(storeWeights(buffer, named)));
  } else {
    written = quantizeModel(await compileKernels("node"), config, tensors, weightsFile, dtype);
  }
  await writeModelFolder(output, { ...written, tokenizerJson });
  const { encoder, pooling } = config;
  note(
    `${output}: ${encoder.numLayers} layers of ${encoder.hiddenSize}, pooling ${String(pooling)}, ${dtype}`,
  );
}

export function addConvert(program: Command): void {
  program
    .command("convert")
    .description("any model that can be opened, as a folder for sentence-transformers and for us")
    .argument("<model>", "model folder, or its name on a hub: org/name[@revision]")
    .argument("<output>", "folder to write: f32 safetensors, tokenizer.json, model card")
    .addOption(
      new Option("--dtype <dtype>", "of the weights; f32 of a quantised model can be trained")
        .choices(DTYPES)
        .default("f32"),
    )
    .action((model: string, output: string, options: ConvertOptions) =>
      convert(model, output, options),
    );
}
