import { describe, expect, it } from "vitest";
import { layerNormScratch } from "../../src/runtime/scratch.ts";
import { centralDifferences, dot, plus } from "../oracle/differences.ts";
import { layerNorm } from "../oracle/layernorm.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  once,
  type Program,
  ROWS,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly epsilon: number;
}

const shape = (rows: number, cols: number, epsilon = 1e-12): Case => ({
  name: `[${rows}, ${cols}], ε = ${epsilon}`,
  rows,
  cols,
  epsilon: Math.fround(epsilon),
});

const CASES: readonly Case[] = [
  ...ROWS.map((rows) => shape(rows, 12)),
  ...[4, 8, 20, 384, 768].map((cols) => shape(5, cols)),
  shape(5, 16, 1e-5),
  shape(5, 16, 0.1),
];

interface Values {
  readonly x: Float32Array;
  readonly gamma: Float32Array;
  readonly beta: Float32Array;
  readonly dy: Float32Array;
  readonly dGamma: Float32Array;
  readonly dBeta: Float32Array;
}

const valuesOf = ({ rows, cols }: Case): Values => ({
  x: uniform(1, rows * cols, -2, 3),
  gamma: uniform(2, cols, 0.5, 1.5),
  beta: uniform(3, cols),
  dy: uniform(4, rows * cols),
  dGamma: uniform(5, cols),
  dBeta: uniform(6, cols),
});

const forward =
  ({ rows, cols, epsilon }: Case, { x, gamma, beta }: Values): Program<"y" | "mean" | "rstd"> =>
  (m) => {
    const y = m.output(rows, cols);
    const mean = m.output(rows);
    const rstd = m.output(rows);
    const [xs, g, b] = [m.input(x, rows, cols), m.input(gamma, cols), m.input(beta, cols)];
    m.k.layerNormForward(y.ptr, mean.ptr, rstd.ptr, xs.ptr, g.ptr, b.ptr, rows, cols, epsilon);
    return { y, mean, rstd };
  };

const backward =
  (c: Case, v: Values, inPlace = false): Program<"dx" | "dGamma" | "dBeta"> =>
  (m) => {
    const { rows, cols } = c;
    const saved = layerNorm(v.x, v.gamma, v.beta, rows, cols, c.epsilon);
    const dGamma = m.input(v.dGamma, cols);
    const dBeta = m.input(v.dBeta, cols);
    const dys = m.input(v.dy, rows, cols);
    const dy = dys.ptr;
    const dx = inPlace ? dys : m.output(rows, cols);
    const x = m.input(v.x, rows, cols).ptr;
    const gamma = m.input(v.gamma, cols).ptr;
    const [mean, rstd] = [m.input(saved.mean, rows).ptr, m.input(saved.rstd, rows).ptr];
    const scratch = m.scratch(layerNormScratch(rows, cols));
    // prettier-ignore
    m.k.layerNormBackward(dx.ptr, dGamma.ptr, dBeta.ptr, dy, x, gamma, mean, rstd, rows, cols, scratch);
    return { dx, dGamma, dBeta };
  };

const ORACLES = CASES.map((c) => {
  const v = valuesOf(c);
  return {
    c,
    v,
    name: c.name,
    outputs: once(() => layerNorm(v.x, v.gamma, v.beta, c.rows, c.cols, c.epsilon)),
    gradients: once(() => {
      const { rows, cols, epsilon } = c;
      const x = Float64Array.from(v.x);
      const gamma = Float64Array.from(v.gamma);
      const beta = Float64Array.from(v.beta);
      const loss = (): number => dot(layerNorm(x, gamma, beta, rows, cols, epsilon).y, v.dy);
      // A row of x touches only its own row of y, which keeps the differences affordable.
      const dx = Array.from({ length: rows }, (_, i) => {
        const xi = x.slice(i * cols, (i + 1) * cols);
        const dyi = v.dy.slice(i * cols, (i + 1) * cols);
        return [
          ...centralDifferences(() => dot(layerNorm(xi, gamma, beta, 1, cols, epsilon).y, dyi), xi),
        ];
      });
      return {
        dx: dx.flat(),
        dGamma: plus(v.dGamma, centralDifferences(loss, gamma)),
        dBeta: plus(v.dBeta, centralDifferences(loss, beta)),
      };
    }),
  };
});

describe.each(INFERENCE_TARGETS)("%s: layerNormForward", (target) => {
  it.each(ORACLES)("equals the float64 oracle to 2e-6, $name", ({ c, v, outputs }) => {
    expectClose(run(target, forward(c, v)), outputs(), { absolute: 1e-6, relative: 1e-6 });
  });

  it("keeps no mean and no rstd where they are absent", () => {
    const c = shape(5, 16);
    const v = valuesOf(c);
    const bare: Program<"y"> = (m) => {
      const y = m.output(c.rows, c.cols);
      const x = m.input(v.x, c.rows, c.cols).ptr;
      const [gamma, beta] = [m.input(v.gamma, c.cols).ptr, m.input(v.beta, c.cols).ptr];
      m.k.layerNormForward(y.ptr, 0, 0, x, gamma, beta, c.rows, c.cols, c.epsilon);
      return { y };
    };
    const { y } = run(target, forward(c, v));
    expectSameBits(run(target, bare), { y }, "without mean and rstd");
  });

  it("ignores shift and scale of a row", () => {
    const c = shape(5, 384);
    const v = valuesOf(c);
    const { y } = run(target, forward(c, v));
    const moved = run(target, forward(c, { ...v, x: v.x.map((x) => 3 * x + 7) }));
    expectClose({ y: moved.y }, { y: y.values }, { absolute: 1e-5 });
  });

  it("maps a constant row to β", () => {
    const c = shape(2, 16, 1e-5);
    const v = { ...valuesOf(c), x: new Float32Array(32).fill(0.75) };
    const { y } = run(target, forward(c, v));
    expect([...y.values]).toEqual([...v.beta, ...v.beta]);
  });

  it.each(ORACLES)("has the bits of node, $name", ({ c, v }) => {
    expectSameBits(run(target, forward(c, v)), run("node", forward(c, v)), target);
  });
});

describe.each(TARGETS)("%s: layerNormBackward", (target) => {
  it.each(ORACLES)(
    "equals central differences of the oracle in every element, $name",
    ({ c, v, gradients }) => {
      expectClose(run(target, backward(c, v)), gradients(), { absolute: 1e-6, relative: 3e-6 });
    },
  );

  it("may overwrite dy", () => {
    const c = shape(5, 20);
    const v = valuesOf(c);
    const apart = run(target, backward(c, v));
    expectSameBits(run(target, backward(c, v, true)), apart, "in place");
  });

  it("sends nothing along x and along 1", () => {
    const c = shape(5, 384);
    const v = { ...valuesOf(c), gamma: new Float32Array(384).fill(1) };
    const { dx } = run(target, backward(c, v));
    for (let row = 0; row < c.rows; row++) {
      const d = dx.values.slice(row * c.cols, (row + 1) * c.cols);
      expect(Math.abs(dot(d, new Float32Array(c.cols).fill(1)))).toBeLessThan(1e-4);
      expect(Math.abs(dot(d, v.x.slice(row * c.cols, (row + 1) * c.cols)))).toBeLessThan(1e-4);
    }
  });
});

describe("node: layer normalization by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const shapes = [...[0, 1, 2, 3, 64, 65, 200].map((rows) => shape(rows, 20)), shape(7, 4)];
    const programs = shapes.flatMap((c) => [
      [`layerNormForward ${c.name}`, forward(c, valuesOf(c))],
      [`layerNormBackward ${c.name}`, backward(c, valuesOf(c))],
    ]);
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
