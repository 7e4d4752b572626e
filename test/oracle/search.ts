import { linear } from "./linear.ts";

/** scores[i] = vectors[i] · query in float64. */
export function innerProducts(
  vectors: ArrayLike<number>,
  query: ArrayLike<number>,
  rows: number,
  cols: number,
): Float64Array {
  return linear(vectors, query, undefined, rows, cols, 1);
}
