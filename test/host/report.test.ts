import { describe, expect, it } from "vitest";
import { histogram, lineChart, scatterPaths } from "../../src/report/svg.ts";
import { trainingReport } from "../../src/report/training.ts";

const options = { title: "A & B", description: "What <it> says.", x: "step", y: "value" };

function places(svg: string): number[][] {
  const points = /<polyline points="([^"]*)"/.exec(svg)![1]!;
  return points.split(" ").map((point) => point.split(",").map(Number));
}

describe("a chart", () => {
  it("spans its axes from the least to the most value", () => {
    const points = [
      { x: 1, y: 2 },
      { x: 3, y: 10 },
      { x: 2, y: 6 },
    ];
    expect(places(lineChart([{ name: "a", points }], options))).toEqual([
      [64, 236],
      [624, 32],
      [344, 134],
    ]);
  });

  it("says what it shows, with text escaped", () => {
    for (const svg of [
      lineChart([{ name: "a", points: [{ x: 1, y: 1 }] }], options),
      scatterPaths([{ name: "<it>", points: [{ x: 1, y: 1, label: "<1>" }] }], options),
      histogram([1, 2], options),
    ]) {
      expect(svg).toContain('role="img"');
      expect(svg).toContain("<title>A &#38; B</title><desc>What &#60;it&#62; says.</desc>");
      expect(svg).not.toMatch(/NaN|Infinity|undefined|<it>|<1>/);
    }
  });

  it("of nothing, of one value, and of values that are not finite has no broken number", () => {
    for (const ys of [[], [3], [3, 3], [NaN, 1, Infinity]]) {
      const svg = lineChart([{ name: "a", points: ys.map((y, x) => ({ x, y })) }], options);
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    }
  });

  it("of a million points stays small, and keeps its course", () => {
    const points = Array.from({ length: 1_000_000 }, (_, i) => ({ x: i, y: i }));
    const found = places(lineChart([{ name: "a", points }], options));
    expect(found.length).toBeLessThanOrEqual(1200);
    for (const [x, y] of found) expect(y).toBeCloseTo(236 - ((x! - 64) / 560) * 204, 0);
  });
});

describe("the report of a run", () => {
  const bare = Array.from({ length: 30 }, (_, i) => ({
    step: i + 1,
    totalSteps: 40,
    loss: 4 / (i + 1),
    gradientNorm: 1,
    learningRate: 1e-3,
    tokens: 100,
    rows: 64,
    columns: 3 as const,
  }));
  const steps = bare.map((step) => ({ ...step, contrastive: step.loss }));
  const evaluations = [10, 20, 30].map((step) => ({
    step,
    spearman: 50 + (step % 20),
    alignment: 0.2,
    uniformity: -step / 10,
  }));
  const run = {
    name: "a<b",
    settings: { model: "x", shares: [0.7, 0.3] },
    steps,
    lengths: [0, 1, 5],
    spectra: [
      { name: "before", spectrum: [1, 0.2, 0.1] },
      { name: "after", spectrum: [1, 0.8, 0.7] },
    ],
  };

  it("has every curve, the best score and the settings, and asks nothing of the network", () => {
    const html = trainingReport({ ...run, evaluations });
    // prettier-ignore
    for (const title of ["Loss", "Dev score", "Alignment and uniformity", "Singular values", "Learning rate"]) {
      expect(html).toContain(`<title>${title}</title>`);
    }
    expect(html).toMatch(/>before<[\s\S]*>after</);
    expect(html).toContain("30 of 40 steps; last loss 0.1333. Best dev Spearman 60.00 at step 10.");
    expect(html).toContain("chance, ln 128");
    expect(html).toContain("<td>[0.7,0.3]</td>");
    expect(html).toContain("<h1>a&#60;b</h1>");
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(
      /https?:|<script|@import/,
    );
  });

  it("of a run that guesses masked tokens shows how many, and chance only where it compares", () => {
    const guessing = bare.map((step) => ({ ...step, mlm: 5, accuracy: step.step / 100 }));
    const alone = trainingReport({ ...run, steps: guessing, evaluations });
    expect(alone).toContain("<title>Masked tokens guessed</title>");
    expect(alone).not.toContain("chance, ln");
    const both = guessing.map((step) => ({ ...step, contrastive: 1 }));
    expect(trainingReport({ ...run, steps: both, evaluations })).toContain("chance, ln 128");
    expect(trainingReport({ ...run, evaluations })).not.toContain("Masked");
  });

  it("of a run without evaluations, an end, or steps, leaves those curves out", () => {
    expect(trainingReport({ ...run, spectra: [], evaluations })).not.toContain("Singular");
    expect(trainingReport({ ...run, evaluations: [] })).not.toContain("Dev score");
    expect(trainingReport({ ...run, steps: [], evaluations: [] })).toContain("No step yet.");
  });
});
