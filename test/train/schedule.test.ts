import { describe, expect, it } from "vitest";
import { learningRateAt, type Schedule, SCHEDULES } from "../../src/train/schedule.ts";

function curve(schedule: Schedule, steps = 100, warmup = 10): number[] {
  return Array.from({ length: steps }, (_, i) => learningRateAt(i + 1, steps, 1, warmup, schedule));
}

describe("the learning rate", () => {
  it.each(SCHEDULES)("of a %s schedule rises in a line to its peak", (schedule) => {
    const rates = curve(schedule);
    for (let step = 1; step <= 10; step++) expect(rates[step - 1]).toBeCloseTo(step / 10, 12);
    expect(rates[10]).toBeCloseTo(1, 12);
    expect(Math.max(...rates)).toBe(1);
  });

  it("falls in a line to the step after the last (linear)", () => {
    const rates = curve("linear");
    for (let step = 11; step <= 100; step++) {
      expect(rates[step - 1]).toBeCloseTo((101 - step) / 90, 12);
    }
  });

  it("falls along half a wave (cosine): slowly, at half way by half, slowly", () => {
    const rates = curve("cosine");
    expect(rates[55]).toBeCloseTo(0.5, 12);
    for (let i = 11; i < 100; i++) expect(rates[i]).toBeLessThan(rates[i - 1]!);
    expect(rates[99]).toBeCloseTo(0.0003, 4);
  });

  it("stays (constant)", () => {
    expect(new Set(curve("constant").slice(10))).toEqual(new Set([1]));
  });

  it("is finite where the whole run is warm-up, or one step", () => {
    for (const schedule of SCHEDULES) {
      expect(curve(schedule, 5, 5).at(-1)).toBe(1);
      expect(curve(schedule, 1, 0)).toEqual([1]);
    }
  });
});
