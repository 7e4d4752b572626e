/**
 * Logistic regression in float64, written from its formula: softmax cross-entropy, λ in the gradient, Adam or RMSprop of
 * torch.optim. Order and initial weights are drawn as in src/evaluate/classifier.ts.
 */
import { permutation, RandomStream, STREAM } from "../../src/train/random.ts";

/** Weights and biases [classes][dimension + 1] after so many epochs, the bias last. */
export function trainClassifier(
  rows: readonly (readonly number[])[],
  labels: readonly number[],
  classes: number,
  {
    l2,
    epochs,
    batchSize,
    optimizer,
  }: { l2: number; epochs: number; batchSize: number; optimizer: "adam" | "rmsprop" },
): number[][] {
  const dimension = rows[0]!.length;
  const random = new RandomStream(1111, STREAM.weights);
  const draws = new RandomStream(1111, STREAM.order);
  const zeros = (): number[][] =>
    Array.from({ length: classes }, () => Array.from({ length: dimension + 1 }, () => 0));
  const bound = 1 / Math.sqrt(dimension);
  const w = zeros().map((row) => row.map(() => bound * (2 * random.uniform() - 1)));
  const m = zeros();
  const v = zeros();
  let step = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = permutation(rows.length, draws);
    for (let at = 0; at < order.length; at += batchSize) {
      const batch = order.subarray(at, at + batchSize);
      step++;
      const gradient = w.map((row) => row.map((value) => l2 * value));
      for (const i of batch) {
        const x = [...rows[i]!, 1];
        const exps = w.map((row) =>
          Math.exp(row.reduce((sum, value, j) => sum + value * x[j]!, 0)),
        );
        const total = exps.reduce((sum, value) => sum + value);
        exps.forEach((value, c) => {
          const error = (value / total - (c === labels[i] ? 1 : 0)) / batch.length;
          x.forEach((input, j) => (gradient[c]![j]! += error * input));
        });
      }
      for (let c = 0; c < classes; c++) {
        for (let j = 0; j <= dimension; j++) {
          const g = gradient[c]![j]!;
          if (optimizer === "rmsprop") {
            v[c]![j] = 0.99 * v[c]![j]! + 0.01 * g * g;
            w[c]![j]! -= (0.01 * g) / (Math.sqrt(v[c]![j]!) + 1e-8);
          } else {
            m[c]![j] = 0.9 * m[c]![j]! + 0.1 * g;
            v[c]![j] = 0.999 * v[c]![j]! + 0.001 * g * g;
            const mean = m[c]![j]! / (1 - 0.9 ** step);
            w[c]![j]! -= (0.001 * mean) / (Math.sqrt(v[c]![j]! / (1 - 0.999 ** step)) + 1e-8);
          }
        }
      }
    }
  }
  return w;
}
