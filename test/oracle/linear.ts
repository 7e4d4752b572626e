/** y = x · Wᵀ + b in float64. */
export function linear(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number> | undefined,
  rows: number,
  inputs: number,
  outputs: number,
): Float64Array {
  const y = new Float64Array(rows * outputs);
  for (let i = 0; i < rows; i++) {
    for (let o = 0; o < outputs; o++) {
      let sum = bias ? bias[o]! : 0;
      for (let k = 0; k < inputs; k++) sum += x[i * inputs + k]! * weight[o * inputs + k]!;
      y[i * outputs + o] = sum;
    }
  }
  return y;
}

/** dx = dy · W, dW = dyᵀ · x, db = Σ dy over rows. */
export function linearBackward(
  dy: ArrayLike<number>,
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  rows: number,
  inputs: number,
  outputs: number,
): { dx: Float64Array; dWeight: Float64Array; dBias: Float64Array } {
  const dx = new Float64Array(rows * inputs);
  const dWeight = new Float64Array(outputs * inputs);
  const dBias = new Float64Array(outputs);
  for (let i = 0; i < rows; i++) {
    for (let o = 0; o < outputs; o++) {
      const d = dy[i * outputs + o]!;
      dBias[o]! += d;
      for (let k = 0; k < inputs; k++) {
        dx[i * inputs + k]! += d * weight[o * inputs + k]!;
        dWeight[o * inputs + k]! += d * x[i * inputs + k]!;
      }
    }
  }
  return { dx, dWeight, dBias };
}
