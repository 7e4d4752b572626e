/** The weights of a model file into the memory of its encoders. A thread that only encodes does not load this. */
import type { SafetensorsTensor } from "../files/safetensors.ts";
import { size, type Tensor } from "../runtime/arena.ts";
import type { ModelConfig } from "./config.ts";
import { type EncoderPlan, memoryOf, packEncoders, planEncoders } from "./sentence-encoder.ts";
import { loadWeights } from "./weights.ts";

/**
 * A memory of exactly the size that `ranks` encoders need, with the weights in it; it is shared between threads if `shared`,
 * which only the node binary can use. `module` packs the weights; `file` names them in errors.
 * @throws FormatError naming a tensor that is absent or has another shape
 */
export function allocateEncoders(
  module: WebAssembly.Module,
  config: ModelConfig,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
  { ranks = 1, shared = false }: { ranks?: number; shared?: boolean } = {},
): WebAssembly.Memory {
  const plan = planEncoders(config, ranks);
  const memory = memoryOf(plan, shared);
  fillEncoders(module, memory, plan, tensors, file);
  return memory;
}

/**
 * Loads the weights and packs them. The table of words comes last: until then its place is the scratch of packing. Another
 * scratch would stay as well, since a process keeps what it has touched.
 * @throws FormatError naming a tensor that is absent or has another shape
 */
export function fillEncoders(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  plan: EncoderPlan,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
): void {
  const { named, tokens } = plan.model;
  const load = (some: readonly Tensor[]): void => loadWeights(memory.buffer, some, tensors, file);
  const words = "layers" in tokens ? tokens.words : undefined;
  const [needed = 0] = plan.ranks[0]!.buffers.scratch.shape;
  if (words?.dtype !== "F32" || 4 * size(words.shape) < needed) {
    load(named);
    packEncoders(module, memory, plan);
    return;
  }
  const isWords = ({ ptr }: Tensor): boolean => ptr === words.ptr;
  load(named.filter((tensor) => !isWords(tensor)));
  packEncoders(module, memory, plan, words.ptr);
  load(named.filter(isWords));
}
