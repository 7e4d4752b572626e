/** How the learning rate goes from its peak to the end of the run. */
export const SCHEDULES = ["linear", "cosine", "constant"] as const;
export type Schedule = (typeof SCHEDULES)[number];

/**
 * Learning rate of a step counted from 1: it rises linearly to the peak, which the last step of the warm-up reaches; then it
 * stays (constant), falls in a line to 0 (linear), or along half a wave (cosine). The step after the last would have 0.
 */
export function learningRateAt(
  step: number,
  totalSteps: number,
  peak: number,
  warmupSteps: number,
  schedule: Schedule,
): number {
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  const left = totalSteps - (step - 1);
  const falling = Math.max(1, totalSteps - warmupSteps);
  if (schedule === "linear") return (peak * left) / falling;
  if (schedule === "cosine") return (peak * (1 - Math.cos((Math.PI * left) / falling))) / 2;
  return peak;
}
