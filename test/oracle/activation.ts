/** erf x by its series of positive terms, 2 / √π · exp(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n + 1)!!, to the rounding of float64. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** x · Φ(x). */
export function gelu(x: number): number {
  return (x * (1 + erf(x / Math.SQRT2))) / 2;
}

/** Φ(x) + x · φ(x). */
export function geluSlope(x: number): number {
  return (1 + erf(x / Math.SQRT2)) / 2 + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}

/** x · (1 + tanh u) / 2 with u = √(2/π) (x + 0.044715 x³). */
export function tanhGelu(x: number): number {
  return (x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))) / 2;
}

/** Its slope. */
export function tanhGeluSlope(x: number): number {
  const tanh = Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));
  const inner = Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x ** 2);
  return (1 + tanh) / 2 + (x * (1 - tanh ** 2) * inner) / 2;
}
