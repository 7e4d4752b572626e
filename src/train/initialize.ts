import type { ParameterSet } from "../model/parameters.ts";
import type { StaticParameters } from "../model/static.ts";
import { size } from "../runtime/arena.ts";
import { RandomStream, STREAM } from "./random.ts";

/** BERT's initializer_range. */
const STANDARD_DEVIATION = 0.02;

/** Random weights as BERT begins with: matrices and tables normal (0, 0.02), biases 0, layer norms 1 and 0. */
export function initializeWeights(
  buffer: ArrayBufferLike,
  { named }: ParameterSet,
  seed: number,
): void {
  named.forEach((tensor, index) => {
    const values = new Float32Array(buffer, tensor.ptr, size(tensor.shape));
    if (tensor.shape.length === 2) {
      const random = new RandomStream(seed, STREAM.weights, index);
      for (let i = 0; i < values.length; i++) values[i] = STANDARD_DEVIATION * random.normal();
    } else {
      values.fill(tensor.name.endsWith("LayerNorm.weight") ? 1 : 0);
    }
  });
}

/** a of a / (a + p), the weight of a token of probability p (Arora, Liang & Ma 2017, https://openreview.net/forum?id=SyK00v5xx). */
const SMOOTHING = 1e-3;

/**
 * A static model's random weights: vectors of a length near 1, and for each token the smooth inverse of its frequency, given
 * as counts by token id.
 */
export function initializeStatic(
  buffer: ArrayBufferLike,
  { table, weights }: StaticParameters,
  counts: ArrayLike<number>,
  seed: number,
): void {
  const vectors = new Float32Array(buffer, table.ptr, size(table.shape));
  const deviation = 1 / Math.sqrt(table.shape[1]!);
  const random = new RandomStream(seed, STREAM.weights, 0);
  for (let i = 0; i < vectors.length; i++) vectors[i] = deviation * random.normal();
  const total = Array.from(counts).reduce((sum, n) => sum + n, 0);
  new Float32Array(buffer, weights.ptr, size(weights.shape)).forEach((_, id, factors) => {
    factors[id] = total === 0 ? 1 : SMOOTHING / (SMOOTHING + counts[id]! / total);
  });
}
