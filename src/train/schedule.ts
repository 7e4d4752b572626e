/** Learning rate of a step counted from 1: linear warm-up, then linear decay to 0 after the last step. */
export function learningRateAt(
  step: number,
  totalSteps: number,
  peak: number,
  warmupSteps: number,
): number {
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  return (peak * (totalSteps - (step - 1))) / Math.max(1, totalSteps - warmupSteps);
}
