import { quantizeActivations } from "./quantize.ts";

/** A weight [outputs, inputs] as codes, with a scale for each output and group of inputs. */
export interface QuantizedWeight {
  readonly codes: Int32Array; // [outputs, inputs]
  readonly scales: Float64Array; // [outputs, groups]
  readonly group: number;
}

/** The weight that codes stand for. */
export function weightOf(
  { codes, scales, group }: QuantizedWeight,
  outputs: number,
  inputs: number,
): Float64Array {
  const groups = Math.ceil(inputs / group);
  return Float64Array.from({ length: outputs * inputs }, (_, i) => {
    const [o, k] = [Math.floor(i / inputs), i % inputs];
    return scales[o * groups + Math.floor(k / group)]! * codes[i]!;
  });
}

/** y = x Wᵀ + b + residual, of the weight and the activations that the codes stand for. */
export function linearQuantized(
  x: ArrayLike<number>,
  weight: QuantizedWeight,
  bias: ArrayLike<number> | undefined,
  residual: ArrayLike<number> | undefined,
  rows: number,
  inputs: number,
  outputs: number,
): Float64Array {
  const w = weightOf(weight, outputs, inputs);
  const { codes, scales, minima } = quantizeActivations(x, rows, inputs);
  const y = new Float64Array(rows * outputs);
  for (let i = 0; i < rows; i++) {
    for (let o = 0; o < outputs; o++) {
      let sum = (bias?.[o] ?? 0) + (residual?.[i * outputs + o] ?? 0);
      for (let k = 0; k < inputs; k++) {
        sum += w[o * inputs + k]! * (minima[i]! + scales[i]! * codes[i * inputs + k]!);
      }
      y[i * outputs + o] = sum;
    }
  }
  return y;
}
