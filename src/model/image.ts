/**
 * The image of a model: its weights as they lie in linear memory, so that a runtime can stream them to their place. Tensors
 * begin at multiples of 64 bytes, in the order of the plan.
 */
import { FormatError } from "../errors.ts";
import type { SafetensorsTensor } from "../files/safetensors.ts";
import { Arena, ARENA_BASE, type ElementType, size, type Tensor } from "../runtime/arena.ts";
import type { ModelConfig } from "./config.ts";
import { planInference } from "./inference-weights.ts";
import { loadWeights } from "./weights.ts";

/** Where a tensor lies in an image. */
export interface ImageTensor {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  /** First byte. */
  readonly offset: number;
}

/** The image of the tensors of a model file, and what lies where. */
export function buildImage(
  config: ModelConfig,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
): { tensors: ImageTensor[]; bytes: Uint8Array<ArrayBuffer> } {
  const arena = new Arena();
  const { named } = planInference(arena, config);
  const buffer = new ArrayBuffer(arena.top);
  loadWeights(buffer, named, tensors, file);
  return { tensors: layout(named), bytes: new Uint8Array(buffer, ARENA_BASE) };
}

function layout(named: readonly Tensor[]): ImageTensor[] {
  return named.map(({ name, dtype, shape, ptr }) => ({
    name,
    dtype,
    shape,
    offset: ptr - ARENA_BASE,
  }));
}

/**
 * The part of a memory that an image of so many bytes is written to.
 * @throws FormatError for an image whose tensors do not lie where this version of the kernels expects them
 */
export function imageTarget(
  { buffer }: WebAssembly.Memory,
  named: readonly Tensor[],
  image: { readonly tensors: readonly ImageTensor[]; readonly bytes: number },
  file: string,
): Uint8Array<ArrayBuffer> {
  const describe = (tensor: ImageTensor | undefined): string =>
    tensor
      ? `${tensor.name} ${tensor.dtype} [${tensor.shape.join(", ")}] at byte ${tensor.offset}`
      : "none";
  const expected = layout(named);
  for (let i = 0; i < Math.max(expected.length, image.tensors.length); i++) {
    const [wanted, found] = [describe(expected[i]), describe(image.tensors[i])];
    if (wanted === found) continue;
    throw new FormatError(
      `${file}: tensor ${i}: expected ${wanted}, found ${found}; deploy the model again with this version`,
    );
  }
  const end = Math.max(
    ...named.map(({ ptr, shape, dtype }) => ptr + size(shape) * (dtype === "I8" ? 1 : 4)),
  );
  const least = end - ARENA_BASE;
  if (image.bytes < least || image.bytes > buffer.byteLength - ARENA_BASE) {
    throw new FormatError(`${file}: expected ${least} bytes of weights, found ${image.bytes}`);
  }
  return new Uint8Array(buffer, ARENA_BASE, image.bytes);
}
