import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { planInference } from "../model/inference-weights.ts";
import { loadWeights, storeWeights } from "../model/weights.ts";
import { readModelFolder, writeModelFolder } from "../node/model-folder.ts";
import { Arena } from "../runtime/arena.ts";
import { note } from "./terminal.ts";

/** Writes whatever can be opened as a folder of f32 BertModel names, which sentence-transformers opens too. */
async function convert(model: string, output: string): Promise<void> {
  const { path, config, tokenizerJson, tensors, weightsFile } = await readModelFolder(model);
  if (config.dtype !== "f32") {
    throw new UsageError(
      `${path}: weights of ${config.dtype} cannot be made f32 again; give the folder they were made from`,
    );
  }
  const arena = new Arena();
  const { named } = planInference(arena, config);
  const buffer = new ArrayBuffer(arena.top);
  loadWeights(buffer, named, tensors, weightsFile);
  await writeModelFolder(output, { config, tokenizerJson, tensors: storeWeights(buffer, named) });
  const { encoder, pooling } = config;
  note(
    `${output}: ${encoder.numLayers} layers of ${encoder.hiddenSize}, pooling ${String(pooling)}, f32`,
  );
}

export function addConvert(program: Command): void {
  program
    .command("convert")
    .description("any model that can be opened, as a folder for sentence-transformers and for us")
    .argument("<model>", "model folder, or its name on a hub: org/name[@revision]")
    .argument("<output>", "folder to write: f32 safetensors, tokenizer.json, model card")
    .action((model: string, output: string) => convert(model, output));
}
