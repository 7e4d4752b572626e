import { describe, it } from "vitest";
import { linearPackedScratch, linearScratch, packedBytes } from "../../src/runtime/scratch.ts";
import { gelu, tanhGelu } from "../oracle/activation.ts";
import { centralDifferences, dot, plus } from "../oracle/differences.ts";
import { linear, linearBackward } from "../oracle/linear.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  type Machine,
  once,
  type Program,
  type Result,
  ROWS,
  rowsOf,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case {
  readonly name: string;
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

const shape = (name: string, rows: number, inputs: number, outputs: number): Case => ({
  name: `${name}: [${rows}, ${inputs}] · [${outputs}, ${inputs}]ᵀ`,
  rows,
  inputs,
  outputs,
});

/** Rows of a batch that are also computed alone. */
const PARTS = [
  [0, 1],
  [100, 101],
  [3, 10],
  [41, 46],
  [17, 81],
  [0, 100],
] as const;

const CASES: readonly Case[] = [
  ...ROWS.map((rows) => shape(`rows ${rows}`, rows, 12, 20)),
  ...[95, 96, 97, 100, 193].map((rows) => shape(`rows ${rows} about a block of 96`, rows, 8, 12)),
  ...[4, 8, 12, 52, 100].map((outputs) => shape(`outputs ${outputs}`, 7, 16, outputs)),
  ...[4, 252, 256, 260, 380, 384, 388, 768, 772, 1156].map((inputs) =>
    shape(`inputs ${inputs}`, 7, inputs, 12),
  ),
  ...[380, 383, 384, 385, 386, 768, 771].map((rows) =>
    shape(`a sum over ${rows} rows`, rows, 12, 12),
  ),
  shape("all edges at once", 101, 388, 52),
  shape("outputs longer than a block", 5, 12, 772),
];

/** Multiples of 1/8 in [-1, 1]: no sum of these cases needs more than 24 bits, so every order of summation is exact. */
const eighths = (seed: number, count: number): Float32Array =>
  uniform(seed, count).map((v) => Math.round(8 * v) / 8);

interface Values {
  readonly x: Float32Array;
  readonly weight: Float32Array;
  readonly bias: Float32Array;
  readonly dy: Float32Array;
  readonly dx: Float32Array;
  readonly dWeight: Float32Array;
  readonly dBias: Float32Array;
}

/** All operands of a case, and what its gradients hold before they accumulate. */
const valuesOf = ({ rows, inputs, outputs }: Case, make = eighths): Values => ({
  x: make(1, rows * inputs),
  weight: make(2, outputs * inputs),
  bias: make(3, outputs),
  dy: make(4, rows * outputs),
  dx: make(5, rows * inputs),
  dWeight: make(6, outputs * inputs),
  dBias: make(7, outputs),
});

const scratchOf = (m: Machine, { rows, inputs, outputs }: Case): number =>
  m.scratch(linearScratch(rows, inputs, outputs, m.ranks));

const forward =
  (c: Case, { x, weight, bias }: Values, biased = true): Program<"y"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const y = m.output(rows, outputs);
    const b = biased ? m.input(bias, outputs).ptr : 0;
    const w = m.input(weight, outputs, inputs).ptr;
    const xs = m.input(x, rows, inputs).ptr;
    m.k.linearForward(y.ptr, 0, xs, w, b, 0, rows, inputs, outputs, 0, scratchOf(m, c));
    return { y };
  };

const packedForward =
  (c: Case, { x, weight, bias }: Values): Program<"y"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const y = m.output(rows, outputs);
    const b = m.input(bias, outputs).ptr;
    const w = m.input(weight, outputs, inputs).ptr;
    const xs = m.input(x, rows, inputs).ptr;
    const packed = m.scratch(packedBytes(inputs, outputs));
    m.k.packLinear(packed, w, inputs, outputs);
    const scratch = m.scratch(linearPackedScratch(m.ranks));
    m.k.linearPackedForward(y.ptr, 0, xs, packed, b, 0, rows, inputs, outputs, 0, scratch);
    return { y };
  };

/** The forms of GELU by the numbers that kernels know them by. */
const FORMS = [gelu, tanhGelu];

/** y with a residual, and GELU(y): y apart from the residual or on it, GELU apart from y or on it. */
const fusedForward =
  (c: Case, { x, weight, bias, dy: residual }: Values, form: number): Program<"y" | "active"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const y = m.output(rows, outputs);
    const active = m.input(residual, rows, outputs);
    const on = active.ptr;
    const b = m.input(bias, outputs).ptr;
    const w = m.input(weight, outputs, inputs).ptr;
    const xs = m.input(x, rows, inputs).ptr;
    const packed = m.scratch(packedBytes(inputs, outputs));
    m.k.packLinear(packed, w, inputs, outputs);
    const scratch = m.scratch(linearPackedScratch(m.ranks));
    m.k.linearPackedForward(y.ptr, 0, xs, packed, b, on, rows, inputs, outputs, 0, scratch);
    m.k.linearForward(on, on, xs, w, b, on, rows, inputs, outputs, form, scratchOf(m, c));
    return { y, active };
  };

/** What training keeps: y and GELU(y). */
const activatedForward =
  (c: Case, { x, weight, bias }: Values, form: number): Program<"y" | "active"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const [y, active] = [m.output(rows, outputs), m.output(rows, outputs)];
    const b = m.input(bias, outputs).ptr;
    const w = m.input(weight, outputs, inputs).ptr;
    const xs = m.input(x, rows, inputs).ptr;
    const scratch = scratchOf(m, c);
    m.k.linearForward(y.ptr, active.ptr, xs, w, b, 0, rows, inputs, outputs, form, scratch);
    return { y, active };
  };

const geluForward =
  ({ values }: Result, form: number): Program<"active"> =>
  (m) => {
    const x = m.input(values, values.length);
    m.k.geluForward(x.ptr, x.ptr, values.length, form);
    return { active: x };
  };

const backwardInput =
  (c: Case, v: Values, accumulate: boolean): Program<"dx"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const dx = accumulate ? m.input(v.dx, rows, inputs) : m.output(rows, inputs);
    const dy = m.input(v.dy, rows, outputs).ptr;
    const w = m.input(v.weight, outputs, inputs).ptr;
    const scratch = scratchOf(m, c);
    m.k.linearBackwardInput(dx.ptr, dy, w, rows, inputs, outputs, accumulate ? 1 : 0, scratch);
    return { dx };
  };

const backwardWeight =
  (c: Case, v: Values, biased = true): Program<"dWeight" | "dBias"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const dWeight = m.input(v.dWeight, outputs, inputs);
    const dBias = m.input(v.dBias, outputs);
    const dy = m.input(v.dy, rows, outputs).ptr;
    const x = m.input(v.x, rows, inputs).ptr;
    const to = biased ? dBias.ptr : 0;
    const scratch = scratchOf(m, c);
    m.k.linearBackwardWeight(dWeight.ptr, to, dy, x, rows, inputs, outputs, scratch);
    return { dWeight, dBias };
  };

const ORACLES = CASES.map((c) => {
  const v = valuesOf(c);
  return {
    c,
    v,
    name: c.name,
    y: once(() => linear(v.x, v.weight, v.bias, c.rows, c.inputs, c.outputs)),
    gradients: once(() => linearBackward(v.dy, v.x, v.weight, c.rows, c.inputs, c.outputs)),
  };
});
const EXACT = { absolute: 0 };

describe.each(INFERENCE_TARGETS)("%s: linearForward", (target) => {
  it.each(ORACLES)("equals the oracle exactly where 24 bits suffice, $name", ({ c, v, y }) => {
    expectClose(run(target, forward(c, v)), { y: y() }, EXACT);
  });

  it.each([4, 48, 388, 772, 1540])("has errors below 1e-7 a term in sums of %d", (inputs) => {
    const c = shape("", 13, inputs, 20);
    const v = valuesOf(c, uniform);
    const y = linear(v.x, v.weight, v.bias, c.rows, inputs, c.outputs);
    expectClose(run(target, forward(c, v)), { y }, { absolute: 1e-7 * (inputs + 1) });
  });

  it.each(ORACLES.filter(({ c }) => c.rows <= 7))("works without a bias, $name", ({ c, v }) => {
    const y = linear(v.x, v.weight, undefined, c.rows, c.inputs, c.outputs);
    expectClose(run(target, forward(c, v, false)), { y }, EXACT);
  });

  it.each([
    { inputs: 12, outputs: 20 },
    { inputs: 388, outputs: 12 },
    { inputs: 772, outputs: 52 },
  ])("gives a row the same bits in every batch, [$outputs, $inputs]", ({ inputs, outputs }) => {
    const all = shape("", 101, inputs, outputs);
    const v = valuesOf(all, uniform);
    const { y } = run(target, forward(all, v));
    for (const [first, last] of PARTS) {
      const part = shape("", last - first, inputs, outputs);
      const found = run(
        target,
        forward(part, { ...v, x: v.x.slice(first * inputs, last * inputs) }),
      );
      expectSameBits(found, { y: rowsOf(y, first, last) }, `rows ${first} to ${last} alone`);
    }
  });

  it.each(ORACLES)("has the same bits with weights packed beforehand, $name", ({ c }) => {
    const v = valuesOf(c, uniform);
    expectSameBits(run(target, packedForward(c, v)), run(target, forward(c, v)), "packed");
  });

  it.each(ORACLES)("adds a residual and applies GELU in one pass, $name", ({ c, v, y }) => {
    const sum = plus(y(), v.dy);
    FORMS.forEach((f, form) => {
      const found = run(target, fusedForward(c, v, form));
      expectClose({ y: found.y }, { y: sum }, EXACT);
      const active = Float64Array.from(sum, f);
      const largest = Math.max(1, ...sum.map(Math.abs));
      expectClose({ active: found.active }, { active }, { absolute: 4e-7 * largest });
    });
  });

  it.each(ORACLES)("keeps y and applies the GELU of geluForward, bit for bit, $name", ({ c }) => {
    const v = valuesOf(c, uniform);
    for (const form of FORMS.keys()) {
      const { y, active } = run(target, activatedForward(c, v, form));
      expectSameBits({ y }, run(target, forward(c, v)), "y");
      const alone = run(target, geluForward(y, form)).active;
      expectSameBits({ active }, { active: alone }, "GELU(y)");
    }
  });

  it("is homogeneous: twice the input gives twice the output, bit for bit", () => {
    const c = shape("", 13, 388, 20);
    const v = valuesOf(c, uniform);
    const { y } = run(target, forward(c, v, false));
    const doubled = run(target, forward(c, { ...v, x: v.x.map((x) => 2 * x) }, false));
    const twice = { y: { shape: y.shape, values: y.values.map((value) => 2 * value) } };
    expectSameBits(doubled, twice, "twice x");
  });
});

describe.each(TARGETS)("%s: linearBackward", (target) => {
  it.each([shape("tiny", 3, 4, 8), shape("small", 7, 12, 4), shape("one row", 1, 8, 12)])(
    "equals central differences of the oracle in every element, $name",
    (c) => {
      const v = valuesOf(c, uniform);
      const [x, w, b] = [v.x, v.weight, v.bias].map((values) => Float64Array.from(values));
      const loss = (): number => dot(linear(x!, w!, b, c.rows, c.inputs, c.outputs), v.dy);
      const dx = centralDifferences(loss, x!);
      expectClose(run(target, backwardInput(c, v, false)), { dx }, { absolute: 1e-6 });
      const sums = {
        dWeight: plus(v.dWeight, centralDifferences(loss, w!)),
        dBias: plus(v.dBias, centralDifferences(loss, b!)),
      };
      expectClose(run(target, backwardWeight(c, v)), sums, { absolute: 1e-6 });
    },
  );

  it.each(ORACLES)("equals the oracle exactly where 24 bits suffice, $name", (oracle) => {
    const { c, v } = oracle;
    const { dx, dWeight, dBias } = oracle.gradients();
    expectClose(run(target, backwardInput(c, v, false)), { dx }, EXACT);
    expectClose(run(target, backwardInput(c, v, true)), { dx: plus(v.dx, dx) }, EXACT);
    const sums = { dWeight: plus(v.dWeight, dWeight), dBias: plus(v.dBias, dBias) };
    expectClose(run(target, backwardWeight(c, v)), sums, EXACT);
  });

  it("leaves the bias gradient alone where there is no bias", () => {
    const c = shape("", 6, 8, 12);
    const v = valuesOf(c);
    const { dWeight } = run(target, backwardWeight(c, v));
    const unbiased = run(target, backwardWeight(c, v, false));
    expectSameBits({ dWeight: unbiased.dWeight }, { dWeight }, "without bias");
    expectClose({ dBias: unbiased.dBias }, v, EXACT);
  });
});

describe("node: linear products by a team", () => {
  const shapes = [
    ...[0, 1, 2, 3, 5, 17, 18, 19, 65, 101].map((rows) => shape("", rows, 388, 52)),
    shape("", 1, 4, 4),
    shape("", 7, 772, 12),
    shape("", 390, 8, 4),
  ];

  it("of two or three have the bits of one rank", async () => {
    const programs = shapes.flatMap((c) => {
      const v = valuesOf(c, uniform);
      return [
        [`linearForward${c.name}`, forward(c, v)],
        [`linearPackedForward${c.name}`, packedForward(c, v)],
        [`linearBackwardInput${c.name}`, backwardInput(c, v, true)],
        [`linearBackwardWeight${c.name}`, backwardWeight(c, v)],
      ] as const;
    });
    await expectTeamInvariance(Object.fromEntries(programs));
  });

  it("with a residual and GELU have them too", async () => {
    const programs = shapes.flatMap((c) => {
      const v = valuesOf(c, uniform);
      return [
        [`a residual and GELU${c.name}`, fusedForward(c, v, 0)],
        [`y and GELU${c.name}`, activatedForward(c, v, 1)],
      ] as const;
    });
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
