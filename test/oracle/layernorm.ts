/** y = γ · (x - μ) · r + β with μ and r = 1 / √(var + ε) per row, in float64. */
export function layerNorm(
  x: ArrayLike<number>,
  gamma: ArrayLike<number>,
  beta: ArrayLike<number>,
  rows: number,
  cols: number,
  epsilon: number,
): { y: Float64Array; mean: Float64Array; rstd: Float64Array } {
  const y = new Float64Array(rows * cols);
  const mean = new Float64Array(rows);
  const rstd = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    let mu = 0;
    for (let j = 0; j < cols; j++) mu += x[i * cols + j]! / cols;
    let variance = 0;
    for (let j = 0; j < cols; j++) variance += (x[i * cols + j]! - mu) ** 2 / cols;
    const r = 1 / Math.sqrt(variance + epsilon);
    for (let j = 0; j < cols; j++) {
      y[i * cols + j] = gamma[j]! * (x[i * cols + j]! - mu) * r + beta[j]!;
    }
    mean[i] = mu;
    rstd[i] = r;
  }
  return { y, mean, rstd };
}
