import type { QuantizedWeight } from "./linear-quantized.ts";
import { nearestEven } from "./quantize.ts";

const GROUP = 32;

/** Codes in -8 … 7 and a scale for each group of 32 inputs: of six sizes, the one whose codes leave the least error. */
export function quantizeInt4(
  weight: ArrayLike<number>,
  outputs: number,
  inputs: number,
): QuantizedWeight {
  const groups = Math.ceil(inputs / GROUP);
  const codes = new Int32Array(outputs * inputs);
  const scales = new Float64Array(outputs * groups);
  for (let o = 0; o < outputs; o++) {
    for (let g = 0; g < groups; g++) {
      const first = o * inputs + g * GROUP;
      const count = Math.min(GROUP, inputs - g * GROUP);
      const w = Array.from({ length: count }, (_, k) => weight[first + k]!);
      const best = bestCodes(w);
      codes.set(best.codes, first);
      scales[o * groups + g] = best.scale;
    }
  }
  return { codes, scales, group: GROUP };
}

function bestCodes(w: readonly number[]): { codes: number[]; scale: number } {
  const extreme = w.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most), 0);
  let best = { codes: w.map(() => 0), scale: 0 };
  if (extreme === 0) return best;
  let most = -1;
  for (let size = 0; size < 6; size++) {
    const inverse = -(7.2 + size * 0.4) / extreme;
    const codes = w.map((x) => Math.max(-8, Math.min(7, nearestEven(x * inverse))));
    const products = w.reduce((total, x, k) => total + x * codes[k]!, 0);
    const squares = codes.reduce((total, q) => total + q * q, 0);
    // The error is Σ w² less this; compared as the kernel does, or every tie would be a difference.
    const explained = (products * products) / squares;
    if (explained > most) {
      most = explained;
      best = { codes, scale: products / squares };
    }
  }
  return best;
}
