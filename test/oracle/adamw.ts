/** The hyperparameters of `torch.optim.AdamW`, with a limit of the gradient's norm. */
export interface AdamW {
  readonly maxNorm: number;
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** √Σ g². */
export function norm(gradient: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < gradient.length; i++) squares += gradient[i]! ** 2;
  return Math.sqrt(squares);
}

/** One step in float64; `weight`, `first` and `second` change in place. `step` counts from 1. */
export function adamW(
  weight: Float64Array,
  gradient: ArrayLike<number>,
  first: Float64Array,
  second: Float64Array,
  gradientNorm: number,
  { maxNorm, learningRate, beta1, beta2, epsilon, weightDecay }: AdamW,
  step: number,
): void {
  const clip = Math.min(1, maxNorm / (gradientNorm + 1e-6));
  for (let i = 0; i < weight.length; i++) {
    const g = gradient[i]! * clip;
    first[i] = beta1 * first[i]! + (1 - beta1) * g;
    second[i] = beta2 * second[i]! + (1 - beta2) * g * g;
    const mean = first[i]! / (1 - beta1 ** step);
    const deviation = Math.sqrt(second[i]! / (1 - beta2 ** step));
    weight[i] =
      weight[i]! * (1 - learningRate * weightDecay) - (learningRate * mean) / (deviation + epsilon);
  }
}
