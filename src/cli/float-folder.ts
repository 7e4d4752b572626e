import { foldStatic } from "../model/weights.ts";
import { compileKernels } from "../node/binaries.ts";
import { type ModelFolder, readModelFolder } from "../node/model-folder.ts";
import { dequantizeModel } from "../quantize/quantize.ts";
import { note } from "./terminal.ts";

/**
 * Reads a model whose weights are to be changed. Those of a quantised one are made f32 again, and a line says so.
 * @throws as `readModelFolder` and `dequantizeModel`
 */
export async function readFloatFolder(model: string): Promise<ModelFolder> {
  const folder = await readModelFolder(model);
  const { dtype } = folder.config;
  if (dtype === "f32") return folder;
  const { config, tensors } = dequantizeModel(
    await compileKernels("node"),
    folder.config,
    folder.tensors,
    folder.weightsFile,
  );
  note(`${model}: its ${dtype} weights, made f32 again: each a code times its scale`);
  return { ...folder, ...foldStatic(config, new Map(tensors)) };
}
