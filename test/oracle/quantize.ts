/** Rounds to the nearest integer, ties to even. */
export function nearestEven(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** 127 / range in float32, and finite. */
export function codesPerUnit(range: number): number {
  return Math.min(Math.fround(127 / range), MAX_FLOAT32);
}

const MAX_FLOAT32 = (2 - 2 ** -23) * 2 ** 127;

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
    const inverse = codesPerUnit(high);
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
    const inverse = codesPerUnit(range);
    row.forEach((value, j) => {
      codes[i * cols + j] = nearestEven(Math.fround(Math.fround(value - low) * inverse));
    });
    scales[i] = range / 127;
    minima[i] = low;
  }
  return { codes, scales, minima };
}
