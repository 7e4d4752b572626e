import { describe, expect, it } from "vitest";
import { Health } from "../../src/train/health.ts";

function report(step: number, loss: number) {
  const rest = { totalSteps: 1000, gradientNorm: 1, learningRate: 1, tokens: 1 };
  return { step, loss, contrastive: loss, rows: 64, columns: 3 as const, ...rest };
}

function warnings(loss: (step: number) => number): (string | undefined)[] {
  const health = new Health();
  return Array.from({ length: 600 }, (_, i) => health.step(report(i + 1, loss(i + 1)))).filter(
    (warning) => warning !== undefined,
  );
}

describe("health", () => {
  it("warns once of a loss that stays at ln of the candidates", () => {
    const found = warnings((step) => Math.log(128) + 0.05 * Math.sin(step));
    expect(found.length).toBe(1);
    expect(found[0]).toMatch(
      /^step 200: .*guessing among 128 gives 4\.85: nothing is learned.*raise/,
    );
  });

  it("says nothing of a loss that begins there and falls, or of one near 0", () => {
    expect(warnings((step) => Math.log(128) * 0.995 ** step)).toEqual([]);
    expect(warnings(() => 1e-3)).toEqual([]);
  });

  it("judges the comparison, whatever masked tokens add, and nothing where none is made", () => {
    const health = (contrastive?: number) => {
      const own = new Health();
      const all = Array.from({ length: 300 }, (_, i) => {
        const both = { ...report(i + 1, 9), mlm: 9 };
        if (contrastive !== undefined) return own.step({ ...both, contrastive });
        const { contrastive: none, ...alone } = both;
        expect(none).toBe(9);
        return own.step(alone);
      });
      return all.filter((warning) => warning !== undefined).length;
    };
    expect(health(Math.log(128))).toBe(1);
    expect(health(0.1)).toBe(0);
    expect(health()).toBe(0);
  });

  it("warns once of vectors that are all the same", () => {
    const health = new Health();
    const evaluation = (uniformity: number) =>
      health.evaluation({ step: 250, spearman: 1, alignment: 0, uniformity });
    expect(evaluation(-2)).toBeUndefined();
    expect(evaluation(-0.01)).toMatch(/^step 250: uniformity -0\.010, near 0: .*collapse.*Lower/);
    expect(evaluation(-0.001)).toBeUndefined();
  });
});
