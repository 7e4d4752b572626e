import { FormatError } from "../errors.ts";
import { type SafetensorsTensor, toFloat32 } from "../files/safetensors.ts";
import { size, type Tensor } from "../runtime/arena.ts";

/**
 * Copies the tensors of a model file to their planned addresses. A prefix such as `bert.` is skipped, and tensors that
 * the plan does not name are ignored: a folder may hold heads we do not use.
 * @throws FormatError naming the tensor that is absent or has another shape, and the file
 */
export function loadWeights(
  buffer: ArrayBufferLike,
  named: readonly Tensor[],
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
): void {
  for (const { name, ptr, shape, dtype } of named) {
    const stored = tensors.get(name) ?? tensors.get(`bert.${name}`);
    if (!stored)
      throw new FormatError(`${name}: expected [${shape.join(", ")}], absent from ${file}`);
    if (stored.shape.join() !== shape.join()) {
      throw new FormatError(
        `${name}: expected [${shape.join(", ")}], found [${stored.shape.join(", ")}] in ${file}`,
      );
    }
    if (dtype === "F32") new Float32Array(buffer, ptr, size(shape)).set(toFloat32(stored));
    else if (stored.dtype === dtype)
      new Uint8Array(buffer, ptr, stored.data.length).set(stored.data);
    else throw new FormatError(`${name}: expected ${dtype}, found ${stored.dtype} in ${file}`);
  }
}

/** Copies planned tensors out of memory, for a model file. */
export function storeWeights(
  buffer: ArrayBufferLike,
  named: readonly Tensor[],
): [string, SafetensorsTensor][] {
  return named.map(({ name, ptr, shape, dtype }) => {
    const bytes = size(shape) * (dtype === "I8" ? 1 : 4);
    return [name, { dtype, shape: [...shape], data: new Uint8Array(buffer, ptr, bytes).slice() }];
  });
}
