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

/** scores[i] = scales[i] · (codes[i] · query) in float64. */
export function innerProductsInt8(
  codes: ArrayLike<number>,
  scales: ArrayLike<number>,
  query: ArrayLike<number>,
  rows: number,
  cols: number,
): Float64Array {
  return innerProducts(codes, query, rows, cols).map((score, i) => score * scales[i]!);
}

/** The cosine of the ±1 that the first `cols` bits stand for; rows are `stride` bytes apart. */
export function signAgreements(
  bits: ArrayLike<number>,
  query: ArrayLike<number>,
  rows: number,
  cols: number,
  stride: number,
): Float64Array {
  const sign = (bytes: ArrayLike<number>, row: number, j: number): number =>
    (bytes[row * stride + (j >> 3)]! >> (j & 7)) & 1 ? 1 : -1;
  return Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let j = 0; j < cols; j++) sum += sign(bits, row, j) * sign(query, 0, j);
    return sum / cols;
  });
}
