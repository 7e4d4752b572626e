import type { QuantizedWeight } from "./linear-quantized.ts";
import { codesPerUnit, nearestEven } from "./quantize.ts";

/**
 * Codes in -127 … 127 and a scale for each output. Of four inputs that share a lane, the codes of one sign sum to 258 at most;
 * where they would not, the scale grows until they do. Rounding is decided in float32, as in `quantizeRows`.
 */
export function quantizeInt8(
  weight: ArrayLike<number>,
  outputs: number,
  inputs: number,
): QuantizedWeight {
  const codes = new Int32Array(outputs * inputs);
  const scales = new Float64Array(outputs);
  for (let o = 0; o < outputs; o++) {
    const row = Array.from({ length: inputs }, (_, k) => weight[o * inputs + k]!);
    let high = Math.max(...row.map(Math.abs));
    for (;;) {
      const inverse = codesPerUnit(high);
      const found = row.map((w) => nearestEven(Math.fround(w * inverse)));
      codes.set(found, o * inputs);
      const lane = largestLane(found);
      if (lane <= 258) break;
      high = Math.fround(high * Math.fround(lane / 258));
    }
    scales[o] = high / 127;
  }
  return { codes, scales, group: inputs };
}

/** The largest sum of codes of one sign in a lane: inputs 0, 1, 4, 5 or 2, 3, 6, 7 of eight. */
function largestLane(codes: readonly number[]): number {
  let largest = 0;
  for (let k = 0; k < codes.length; k += 8) {
    for (const lane of [
      [0, 1, 4, 5],
      [2, 3, 6, 7],
    ]) {
      for (const sign of [1, -1]) {
        const sum = lane.reduce((total, i) => total + Math.max(0, sign * (codes[k + i] ?? 0)), 0);
        largest = Math.max(largest, sum);
      }
    }
  }
  return largest;
}
