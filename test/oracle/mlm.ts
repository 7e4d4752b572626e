/** mean over rows of log Σ_v exp l_iv - l_i,label with l = x · Wᵀ + b, and the share of rows whose label is highest, in float64. */
export function crossEntropy(
  x: ArrayLike<number>,
  words: ArrayLike<number>,
  bias: ArrayLike<number>,
  labels: ArrayLike<number>,
  hidden: number,
): { loss: Float64Array; logSumExp: Float64Array } {
  const rows = labels.length;
  const logSumExp = new Float64Array(rows);
  let loss = 0;
  let correct = 0;
  for (let i = 0; i < rows; i++) {
    const logits = Array.from(bias, (b, v) => {
      let sum = b;
      for (let j = 0; j < hidden; j++) sum += x[i * hidden + j]! * words[v * hidden + j]!;
      return sum;
    });
    const top = Math.max(...logits);
    const own = logits[labels[i]!]!;
    logSumExp[i] = top + Math.log(logits.reduce((sum, l) => sum + Math.exp(l - top), 0));
    loss += (logSumExp[i]! - own) / rows;
    if (own === top) correct += 1 / rows;
  }
  return { loss: Float64Array.of(loss, correct), logSumExp };
}
