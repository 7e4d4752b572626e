import { describe, expect, it } from "vitest";
import { gradientNormScratch, MISSED_STEPS } from "../../src/runtime/scratch.ts";
import { adamW, type AdamW, norm } from "../oracle/adamw.ts";
import {
  expectClose,
  expectSameBits,
  integers,
  type Program,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const COUNTS = [0, 4, 60, 64, 68, 4092, 4096, 4100, 12292];

const OPTIONS: AdamW = {
  maxNorm: Infinity,
  learningRate: 1e-2,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
};

interface Case extends AdamW {
  readonly name: string;
  readonly count: number;
  readonly step: number;
  readonly gradientScale: number;
}

const shape = (
  name: string,
  count: number,
  changes: Partial<AdamW> = {},
  step = 1,
  gradientScale = 1,
): Case => ({
  name: `${name}, count ${count}`,
  count,
  step,
  gradientScale,
  ...OPTIONS,
  ...changes,
});

const CASES: readonly Case[] = [
  ...COUNTS.map((count) => shape("first step", count)),
  shape("step 2", 60, {}, 2),
  shape("step 1000", 60, {}, 1000),
  shape("step 1000000", 60, {}, 1_000_000),
  shape("no weight decay", 60, { weightDecay: 0 }),
  shape("clipped", 60, { maxNorm: 1 }),
  shape("clipped with a norm as small as the 1e-6 beside it", 60, { maxNorm: 1e-7 }, 1, 1e-7),
  shape("below the limit of the norm", 60, { maxNorm: 1e6 }),
  shape("other moments", 60, { beta1: 0.5, beta2: 0.98, epsilon: 1e-6 }, 3),
  shape("frozen", 60, { learningRate: 0 }),
];

interface Values {
  readonly weight: Float32Array;
  readonly gradient: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
}

const valuesOf = ({ count, step, gradientScale }: Case): Values => {
  const moments = step === 1 ? 0 : 1; // both are zero before the first step
  return {
    weight: uniform(1, count),
    gradient: uniform(2, count).map((v) => gradientScale * v),
    first: uniform(3, count).map((v) => moments * v),
    second: uniform(4, count, 0, 1).map((v) => moments * v),
  };
};

/** The norm, then the step that reads it. */
const program =
  (c: Case, v: Values = valuesOf(c)): Program<"norm" | "weight" | "first" | "second"> =>
  (m) => {
    const { count } = c;
    const norms = m.output(1);
    const weight = m.input(v.weight, count);
    const first = m.input(v.first, count);
    const second = m.input(v.second, count);
    const gradient = m.input(v.gradient, count).ptr;
    m.k.gradientNorm(
      norms.ptr,
      gradient,
      count,
      0,
      0,
      0,
      4,
      m.scratch(gradientNormScratch(count, 0)),
    );
    m.k.adamWStep(
      weight.ptr,
      gradient,
      first.ptr,
      second.ptr,
      norms.ptr,
      count,
      c.maxNorm,
      c.learningRate,
      c.beta1,
      c.beta2,
      c.epsilon,
      c.weightDecay,
      c.step,
    );
    return { norm: norms, weight, first, second };
  };

/** What the oracle makes of the same values. */
function expected(c: Case, v: Values = valuesOf(c)): Record<keyof Values | "norm", Float64Array> {
  const weight = Float64Array.from(v.weight);
  const gradient = Float64Array.from(v.gradient);
  const first = Float64Array.from(v.first);
  const second = Float64Array.from(v.second);
  const length = norm(gradient);
  adamW(weight, gradient, first, second, length, c, c.step);
  return { norm: Float64Array.of(length), weight, gradient, first, second };
}

describe.each(TARGETS)("%s: adamWStep", (target) => {
  it.each(CASES)("equals the float64 oracle after gradientNorm, $name", (c) => {
    expectClose(run(target, program(c)), expected(c), { absolute: 2e-7, relative: 1e-6 });
  });

  it("follows the float64 oracle for fifty clipped steps, to 2e-6", () => {
    const count = 64;
    const options = shape("", count, { maxNorm: 2, learningRate: 1e-3 });
    let found: Values = { ...valuesOf(options), gradient: uniform(0, count) };
    const weight = Float64Array.from(found.weight);
    const [first, second] = [new Float64Array(count), new Float64Array(count)];
    for (let step = 1; step <= 50; step++) {
      const gradient = uniform(step, count);
      adamW(weight, gradient, first, second, norm(gradient), options, step);
      const results = run(target, program({ ...options, step }, { ...found, gradient }));
      found = {
        gradient,
        weight: results.weight.values as Float32Array,
        first: results.first.values as Float32Array,
        second: results.second.values as Float32Array,
      };
    }
    const result = { weight: { shape: [count], values: found.weight } };
    expectClose(result, { weight }, { absolute: 2e-6 });
  });

  it("moves a weight by the learning rate against its gradient's sign at the first step", () => {
    const c = shape("", 4, { weightDecay: 0 });
    const zeros = new Float32Array(4);
    const gradient = Float32Array.of(1e-3, -1e-3, 5, -5);
    const start = { weight: zeros, gradient, first: zeros, second: zeros };
    const { weight } = run(target, program(c, start));
    expectClose(
      { weight },
      { weight: [-0.01, 0.01, -0.01, 0.01] },
      { absolute: 0, relative: 2e-5 },
    );
  });

  it("changes nothing without gradient, moments and decay", () => {
    const c = shape("", 8, { weightDecay: 0 });
    const zeros = new Float32Array(8);
    const start = { weight: uniform(1, 8), gradient: zeros, first: zeros, second: zeros };
    const { weight } = run(target, program(c, start));
    expect([...weight.values]).toEqual([...start.weight]);
  });
});

describe.each(TARGETS)("%s: gradientNorm", (target) => {
  it("is exact where every sum of squares fits 24 bits", () => {
    const gradient = new Float32Array(4100).fill(3, 0, 4096).fill(8, 4096);
    const c = shape("", 4100, { learningRate: 0 });
    const { norm: found } = run(target, program(c, { ...valuesOf(c), gradient }));
    expect([...found.values]).toEqual([Math.fround(Math.sqrt(9 * 4096 + 4 * 64))]);
  });

  it("is 0 for no gradient at all", () => {
    const c = shape("", 0);
    expect([...run(target, program(c)).norm.values]).toEqual([0]);
  });
});

const TABLE_ROWS = 9;

/** The rows of a table that each of `steps` batches touches: different ones, some never. */
const touchedRows = (steps: number): Int32Array[] =>
  Array.from({ length: steps }, (_, step) =>
    Int32Array.from(new Set(integers(step + 1, 3, TABLE_ROWS - 1))).toSorted(),
  );

/** Steps of a table whose rows wait until they are needed, or, in `sweeps`, of all its rows each time. */
const tableProgram =
  (
    cols: number,
    steps: number,
    sweeps: boolean,
    from = 1,
  ): Program<"weight" | "first" | "second"> =>
  (m) => {
    const count = TABLE_ROWS * cols;
    const [weight, first, second] = [1, 0, 0].map((seed) =>
      m.input(seed ? uniform(seed, count) : new Float32Array(count), TABLE_ROWS, cols),
    ) as [ReturnType<typeof m.input>, ReturnType<typeof m.input>, ReturnType<typeof m.input>];
    const last = m.ints(new Int32Array(TABLE_ROWS).fill(from - 1)).ptr;
    const factors = m.output(MISSED_STEPS, 4).ptr;
    const [length, partials] = [m.output(1).ptr, m.scratch(gradientNormScratch(0, TABLE_ROWS))];
    const { maxNorm, beta1, beta2, epsilon, weightDecay } = { ...OPTIONS, maxNorm: 1 };
    touchedRows(steps).forEach((rows, i) => {
      const step = from + i;
      const rate = OPTIONS.learningRate / (i + 1);
      const dense = new Float32Array(count);
      for (const row of rows) dense.set(uniform(100 + i + row, cols), row * cols);
      const gradient = m.input(dense, TABLE_ROWS, cols).ptr;
      const touched = m.ints(rows).ptr;
      m.k.gradientNorm(length, gradient, 0, gradient, touched, rows.length, cols, partials);
      if (sweeps) {
        // prettier-ignore
        m.k.adamWStep(weight.ptr, gradient, first.ptr, second.ptr, length, count, maxNorm, rate, beta1, beta2, epsilon, weightDecay, step);
        return;
      }
      m.k.adamWFactors(factors, rate, beta1, beta2, weightDecay, step);
      // prettier-ignore
      m.k.adamWRows(weight.ptr, 0, first.ptr, second.ptr, last, touched, rows.length, cols, length, factors, maxNorm, beta1, beta2, epsilon, step - 1);
      // prettier-ignore
      m.k.adamWRows(weight.ptr, gradient, first.ptr, second.ptr, last, touched, rows.length, cols, length, factors, maxNorm, beta1, beta2, epsilon, step);
    });
    // prettier-ignore
    if (!sweeps) m.k.adamWRows(weight.ptr, 0, first.ptr, second.ptr, last, 0, TABLE_ROWS, cols, length, factors, maxNorm, beta1, beta2, epsilon, from + steps - 1);
    return { weight, first, second };
  };

describe.each(TARGETS)("%s: adamWRows", (target) => {
  it.each([4, 20, 64])("leaves the bits of sweeps over all rows, rows of %d", (cols) => {
    const sweeps = run(target, tableProgram(cols, 40, true));
    expectSameBits(run(target, tableProgram(cols, 40, false)), sweeps, "rows that waited");
  });

  it("leaves them where the ring of factors comes round", () => {
    const from = MISSED_STEPS - 5;
    const sweeps = run(target, tableProgram(8, 20, true, from));
    expectSameBits(run(target, tableProgram(8, 20, false, from)), sweeps, "steps past the ring");
  });
});

const cleared: Program<"table"> = (m) => {
  const table = m.input(uniform(1, 60), 5, 12);
  m.k.zeroRows(table.ptr, m.ints([1, 4]).ptr, 2, 12);
  return { table };
};

const moved =
  (count: number): Program<"average"> =>
  (m) => {
    const average = m.input(uniform(1, count), count);
    m.k.moveAverage(average.ptr, m.input(uniform(2, count), count).ptr, count, 0.125);
    return { average };
  };

describe.each(TARGETS)("%s: zeroRows, moveAverage", (target) => {
  it("clears the touched rows alone", () => {
    const want = uniform(1, 60).map((v, i) => ([1, 4].includes(Math.floor(i / 12)) ? 0 : v));
    expect([...run(target, cleared).table.values]).toEqual([...want]);
  });

  it.each(COUNTS)("moves the average by its share, count %d", (count) => {
    const [old, weight] = [uniform(1, count), uniform(2, count)];
    const average = Float64Array.from(old, (v, i) => v + (weight[i]! - v) * 0.125);
    expectClose(run(target, moved(count)), { average }, { absolute: 2e-7 });
  });
});

describe("node: AdamW by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const cases = COUNTS.map((count) => shape("", count, { maxNorm: 1 }));
    const programs = cases.map((c) => [`adamWStep${c.name}`, program(c)] as const);
    await expectTeamInvariance({
      ...Object.fromEntries(programs),
      ...Object.fromEntries(COUNTS.map((count) => [`moveAverage ${count}`, moved(count)])),
      rows: tableProgram(20, 12, false),
      cleared,
    });
  });
});
