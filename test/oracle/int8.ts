/** Rounds to the nearest integer, ties to even. */
function nearestEven(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/**
 * Symmetric codes in -127 … 127 and a scale for each row. Which way a code rounds is decided in float32, as the kernel
 * does; without that, every tie would be a difference.
 */
export function quantizeRows(
  x: ArrayLike<number>,
  rows: number,
  cols: number,
): { codes: Int32Array; scales: Float64Array } {
  const codes = new Int32Array(rows * cols);
  const scales = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    let high = 0;
    for (let j = 0; j < cols; j++) high = Math.max(high, Math.abs(x[i * cols + j]!));
    const inverse = high > 0 ? Math.fround(127 / high) : 0;
    for (let j = 0; j < cols; j++) {
      codes[i * cols + j] = nearestEven(Math.fround(x[i * cols + j]! * inverse));
    }
    scales[i] = high / 127;
  }
  return { codes, scales };
}

/** Codes in 0 … 127, a scale and a minimum for each row of activations; rounding as in `quantizeRows`. */
export function quantizeActivations(
  x: ArrayLike<number>,
  rows: number,
  cols: number,
): { codes: Int32Array; scales: Float64Array; minima: Float64Array } {
  const codes = new Int32Array(rows * cols);
  const scales = new Float64Array(rows);
  const minima = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    const row = Array.from({ length: cols }, (_, j) => x[i * cols + j]!);
    const low = Math.min(...row);
    const range = Math.fround(Math.max(...row) - low);
    const inverse = range > 0 ? Math.fround(127 / range) : 0;
    row.forEach((value, j) => {
      codes[i * cols + j] = nearestEven(Math.fround(Math.fround(value - low) * inverse));
    });
    scales[i] = range / 127;
    minima[i] = low;
  }
  return { codes, scales, minima };
}

/** y = s · (t · Σ c q + min · Σ q) + b, on the codes of weight and activations. */
export function linearInt8(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number> | undefined,
  rows: number,
  inputs: number,
  outputs: number,
): Float64Array {
  const w = quantizeRows(weight, outputs, inputs);
  const a = quantizeActivations(x, rows, inputs);
  const y = new Float64Array(rows * outputs);
  for (let i = 0; i < rows; i++) {
    for (let o = 0; o < outputs; o++) {
      let products = 0;
      let sum = 0;
      for (let k = 0; k < inputs; k++) {
        products += a.codes[i * inputs + k]! * w.codes[o * inputs + k]!;
        sum += w.codes[o * inputs + k]!;
      }
      y[i * outputs + o] =
        w.scales[o]! * (a.scales[i]! * products + a.minima[i]! * sum) + (bias ? bias[o]! : 0);
    }
  }
  return y;
}
