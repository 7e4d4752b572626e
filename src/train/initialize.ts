import type { Parameters } from "../model/parameters.ts";
import { size } from "../runtime/arena.ts";
import { RandomStream, STREAM } from "./random.ts";

/** BERT's initializer_range. */
const STANDARD_DEVIATION = 0.02;

/** Random weights as BERT begins with: matrices and tables normal (0, 0.02), biases 0, layer norms 1 and 0. */
export function initializeWeights(
  buffer: ArrayBufferLike,
  weights: Parameters,
  seed: number,
): void {
  weights.named.forEach((tensor, index) => {
    const values = new Float32Array(buffer, tensor.ptr, size(tensor.shape));
    if (tensor.shape.length === 2) {
      const random = new RandomStream(seed, STREAM.weights, index);
      for (let i = 0; i < values.length; i++) values[i] = STANDARD_DEVIATION * random.normal();
    } else {
      values.fill(tensor.name.endsWith("LayerNorm.weight") ? 1 : 0);
    }
  });
}
