/** How the tokens of a sequence become its vector, at the index that the kernel knows it by. */
export const MODES = ["first", "mean", "max", "meanSqrtLen", "weightedMean", "last"] as const;
export type Mode = (typeof MODES)[number];

/** One vector for each sequence. */
export function pooling(
  x: ArrayLike<number>,
  lengths: readonly number[],
  hidden: number,
  mode: Mode,
): Float64Array {
  const y = new Float64Array(lengths.length * hidden);
  let start = 0;
  lengths.forEach((n, s) => {
    for (let j = 0; j < hidden; j++) {
      const column = Array.from({ length: n }, (_, t) => x[(start + t) * hidden + j]!);
      y[s * hidden + j] = pool(column, mode);
    }
    start += n;
  });
  return y;
}

function pool(column: readonly number[], mode: Mode): number {
  const n = column.length;
  const sum = column.reduce((total, v) => total + v, 0);
  switch (mode) {
    case "first":
      return column[0]!;
    case "mean":
      return sum / n;
    case "max":
      return Math.max(...column);
    case "meanSqrtLen":
      return sum / Math.sqrt(n);
    case "weightedMean":
      return column.reduce((total, v, t) => total + v * (t + 1), 0) / ((n * (n + 1)) / 2);
    default:
      return column[n - 1]!;
  }
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
