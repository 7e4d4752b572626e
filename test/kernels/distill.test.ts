import { describe, expect, it } from "vitest";
import { infoNceScratch } from "../../src/runtime/scratch.ts";
import { centralDifferences } from "../oracle/differences.ts";
import { distance, type Distill, distill } from "../oracle/distill.ts";
import { normalize } from "../oracle/pooling.ts";
import { expectClose, integers, once, type Program, run, TARGETS, uniform } from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case extends Distill {
  readonly name: string;
}

/** `kinds` different sentences, so that some keys are the anchor's own sentence. */
const shape = (
  rows: number,
  dimension: number,
  {
    hard = false,
    teacherDimension = 12,
    temperature = 0.05,
    kinds = 4 * rows,
  }: { hard?: boolean; teacherDimension?: number; temperature?: number; kinds?: number } = {},
): Case => {
  const cols = hard ? 2 * rows : rows;
  return {
    name: `[${rows}, ${dimension}] against ${cols}, teacher of ${teacherDimension}, τ = ${temperature}, ${kinds} sentences`,
    rows,
    cols,
    dimension,
    teacherDimension,
    temperature,
    anchorIds: integers(5, rows, kinds),
    keyIds: integers(6, cols, kinds),
  };
};

const CASES: readonly Case[] = [
  ...[2, 3, 4, 5, 6, 7, 8, 63, 65].map((rows) => shape(rows, 8)),
  ...[4, 12, 20, 384].map((dimension) => shape(6, dimension, { temperature: 1 })),
  ...[4, 8, 20].map((teacherDimension) => shape(5, 8, { teacherDimension, temperature: 0.2 })),
  shape(7, 12, { hard: true }),
  shape(9, 8, { hard: true, kinds: 4, temperature: 0.1 }),
  shape(1, 4, { hard: true }),
];

const inputs = (c: Case) => {
  const { rows, cols, dimension, teacherDimension } = c;
  const units = (seed: number, n: number): Float32Array =>
    Float32Array.from(normalize(uniform(seed, n * teacherDimension), n, teacherDimension).y);
  return {
    anchors: uniform(1, rows * dimension, -2, 2),
    keys: uniform(2, cols * dimension, -1, 1.5),
    anchorTeachers: units(3, rows),
    keyTeachers: units(4, cols),
  };
};

const oracle = (c: Case, changes: Partial<Record<"anchors" | "keys", ArrayLike<number>>> = {}) => {
  const { anchors, keys, anchorTeachers, keyTeachers } = { ...inputs(c), ...changes };
  return distill(anchors, keys, anchorTeachers, keyTeachers, c);
};

const forward =
  (
    c: Case,
    changes: Partial<ReturnType<typeof inputs>> = {},
  ): Program<"loss" | "p" | "s" | "logSumExp"> =>
  (m) => {
    const { rows, cols, dimension, teacherDimension } = c;
    const x = { ...inputs(c), ...changes };
    const [loss, p, s] = [m.output(1), m.output(rows, cols), m.output(rows, cols)];
    const logSumExp = m.output(rows);
    const largest = Math.max(dimension, teacherDimension);
    // prettier-ignore
    m.k.distillForward(loss.ptr, p.ptr, s.ptr, logSumExp.ptr, m.output(rows).ptr, m.output(rows, dimension).ptr, m.output(cols, dimension).ptr, m.output(rows).ptr, m.output(cols).ptr,
      m.input(x.anchors, rows, dimension).ptr, m.input(x.keys, cols, dimension).ptr, m.input(x.anchorTeachers, rows, teacherDimension).ptr, m.input(x.keyTeachers, cols, teacherDimension).ptr,
      m.ints(c.anchorIds).ptr, m.ints(c.keyIds).ptr, rows, cols, dimension, teacherDimension, c.temperature, m.scratch(infoNceScratch(rows, cols, largest, m.ranks)));
    return { loss, p, s, logSumExp };
  };

/** The backward pass on what the oracle's forward pass keeps. */
const backward =
  (c: Case): Program<"dAnchors" | "dKeys"> =>
  (m) => {
    const { rows, cols, dimension } = c;
    const { anchors, keys } = inputs(c);
    const { p, s, logSumExp } = oracle(c);
    const [a, k] = [normalize(anchors, rows, dimension), normalize(keys, cols, dimension)];
    const [dAnchors, dKeys] = [m.output(rows, dimension), m.output(cols, dimension)];
    // prettier-ignore
    m.k.distillBackward(dAnchors.ptr, dKeys.ptr, m.input(s, rows, cols).ptr, m.input(p, rows, cols).ptr, m.input(logSumExp, rows).ptr, m.input(a.y, rows, dimension).ptr, m.input(k.y, cols, dimension).ptr,
      m.input(a.scales, rows).ptr, m.input(k.scales, cols).ptr, rows, cols, dimension, c.temperature, m.scratch(infoNceScratch(rows, cols, dimension, m.ranks)));
    return { dAnchors, dKeys };
  };

const ORACLES = CASES.map((c) => ({
  c,
  name: c.name,
  outputs: once(() => oracle(c)),
  gradients: once(() => {
    const given = inputs(c);
    const [anchors, keys] = [Float64Array.from(given.anchors), Float64Array.from(given.keys)];
    const loss = (): number => oracle(c, { anchors, keys }).loss[0]!;
    return { dAnchors: centralDifferences(loss, anchors), dKeys: centralDifferences(loss, keys) };
  }),
}));

describe.each(TARGETS)("%s: distillation of similarities", (target) => {
  it.each(ORACLES)("equals the float64 oracle, $name", ({ c, outputs }) => {
    const absolute = 2e-6 + 4e-7 / c.temperature;
    expectClose(run(target, forward(c)), outputs(), { absolute, relative: 4e-7 });
  });

  it.each(ORACLES.filter(({ c }) => c.rows < 63))(
    "has the gradients of central differences in every element, $name",
    ({ c, gradients }) => {
      expectClose(run(target, backward(c)), gradients(), { absolute: 2e-6, relative: 2e-6 });
    },
  );

  it("of a student that equals its teacher is 0, whatever the length of its vectors", () => {
    const c = shape(7, 12);
    const { anchorTeachers, keyTeachers } = inputs(c);
    const [anchors, keys] = [anchorTeachers.map((x) => 3 * x), keyTeachers.map((x) => x / 7)];
    const { loss } = run(target, forward(c, { anchors, keys }));
    expectClose({ loss }, { loss: [0] }, { absolute: 1e-6 });
  });

  it("of one sentence alone, which has nothing to be compared with, is 0 and moves nothing", () => {
    const c = shape(5, 8, { kinds: 1 });
    const { loss } = run(target, forward(c));
    expectClose({ loss }, { loss: [0] }, { absolute: 0 });
    const { dAnchors, dKeys } = run(target, backward(c));
    const zeros = { dAnchors: new Float64Array(40), dKeys: new Float64Array(40) };
    expectClose({ dAnchors, dKeys }, zeros, { absolute: 1e-5 });
  });
});

const SHAPES = [
  ...[1, 2, 5, 64].map((rows) => [rows, 8] as const),
  ...[4, 12, 384].map((dimension) => [3, dimension] as const),
];

const distances =
  (rows: number, dimension: number): Program<"loss" | "dx"> =>
  (m) => {
    const teachers = m.input(
      normalize(uniform(7, rows * dimension), rows, dimension).y,
      rows,
      dimension,
    ).ptr;
    const x = m.input(uniform(8, rows * dimension, -3, 3), rows, dimension).ptr;
    const [loss, dx] = [m.output(1), m.output(rows, dimension)];
    const [units, scales] = [m.output(rows, dimension).ptr, m.output(rows).ptr];
    m.k.distanceForward(loss.ptr, m.output(rows).ptr, units, scales, x, teachers, rows, dimension);
    m.k.distanceBackward(dx.ptr, units, scales, teachers, rows, dimension);
    return { loss, dx };
  };

describe.each(TARGETS)("%s: distances from a teacher's vectors", (target) => {
  it.each(SHAPES)(
    "equal the float64 oracle and its central differences, [%d, %d]",
    (rows, dimension) => {
      const teachers = normalize(uniform(7, rows * dimension), rows, dimension).y;
      const x = Float64Array.from(uniform(8, rows * dimension, -3, 3));
      const loss = (): number => distance(x, teachers, rows, dimension);
      const want = { loss: [loss()], dx: centralDifferences(loss, x) };
      expectClose(run(target, distances(rows, dimension)), want, {
        absolute: 1e-6,
        relative: 1e-6,
      });
    },
  );

  it("of a vector to itself are 0", () => {
    const teachers = Float32Array.of(0.6, 0.8, 0, 0);
    const { loss } = run(target, (m) => {
      const [out, x] = [m.output(1), m.input([3, 4, 0, 0], 1, 4).ptr];
      // prettier-ignore
      m.k.distanceForward(out.ptr, m.output(1).ptr, m.output(1, 4).ptr, m.output(1).ptr, x, m.input(teachers, 1, 4).ptr, 1, 4);
      return { loss: out };
    });
    expect(loss.values[0]).toBeLessThan(1e-12);
  });
});

describe("node: distillation by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = [...CASES, shape(64, 384, { hard: true, teacherDimension: 512 })].flatMap(
      (c) =>
        [
          [`distillForward ${c.name}`, forward(c)],
          [`distillBackward ${c.name}`, backward(c)],
        ] as const,
    );
    const more = SHAPES.map(([n, d]) => [`distance ${n} ${d}`, distances(n, d)] as const);
    await expectTeamInvariance(Object.fromEntries([...programs, ...more]));
  });
});
