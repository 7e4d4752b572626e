/**
 * Exhaustive search: the inner product of a query with every row, which is their cosine where both are unit vectors.
 *
 *   scores[i] = vectors[i] · query        vectors [rows, cols]    query [cols]    cols % 4 == 0
 */
import { fma, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

/** Computes scores. */
export function innerProducts(
  scores: usize,
  vectors: usize,
  query: usize,
  rows: usize,
  cols: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const vector = vectors + row * stride;
    let sum = f32x4.splat(0);
    for (let j: usize = 0; j < stride; j += 16)
      sum = fma(v128.load(vector + j), v128.load(query + j), sum);
    store<f32>(scores + (row << 2), sumLanes(sum));
  }
  barrier();
}
