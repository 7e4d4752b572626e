/** The mean of the tokens of each sequence, or its first token. */
export function pooling(
  x: ArrayLike<number>,
  lengths: readonly number[],
  hidden: number,
  mean: boolean,
): Float64Array {
  const y = new Float64Array(lengths.length * hidden);
  let start = 0;
  lengths.forEach((length, s) => {
    const count = mean ? length : 1;
    for (let t = start; t < start + count; t++) {
      for (let j = 0; j < hidden; j++) y[s * hidden + j]! += x[t * hidden + j]! / count;
    }
    start += length;
  });
  return y;
}

/** y = x · scale with scale = 1 / max(|x|, 1e-12) per row. */
export function normalize(
  x: ArrayLike<number>,
  rows: number,
  cols: number,
): { y: Float64Array; scales: Float64Array } {
  const y = new Float64Array(rows * cols);
  const scales = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    let squares = 0;
    for (let j = 0; j < cols; j++) squares += x[i * cols + j]! ** 2;
    scales[i] = 1 / Math.max(Math.sqrt(squares), 1e-12);
    for (let j = 0; j < cols; j++) y[i * cols + j] = x[i * cols + j]! * scales[i]!;
  }
  return { y, scales };
}
