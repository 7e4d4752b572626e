import { describe, expect, it } from "vitest";
import { centralDifferences, dot } from "../oracle/differences.ts";
import { type Mode, MODES, normalize, pooling } from "../oracle/pooling.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  offsetsOf,
  type Program,
  ROWS,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case {
  readonly name: string;
  readonly lengths: readonly number[];
  readonly hidden: number;
  readonly mode: Mode;
}

const shapes = (lengths: readonly number[], hidden: number, label = ""): readonly Case[] =>
  MODES.map((mode) => ({
    name: `${label || `lengths ${lengths.join(" ")}`} of ${hidden}, ${mode}`,
    lengths,
    hidden,
    mode,
  }));

/** The modes that training knows. */
const isTrained = ({ mode }: Case): boolean => mode === "first" || mode === "mean";

const CASES: readonly Case[] = [
  ...ROWS.flatMap((n) =>
    shapes(
      Array.from({ length: n }, (_, i) => 1 + (i % 4)),
      12,
      `${n} sequences`,
    ),
  ),
  ...[1, 2, 3, 64, 65, 400].flatMap((length) => shapes([length], 8)),
  ...[4, 20, 384].flatMap((hidden) => shapes([3, 1, 5], hidden)),
];

const tokensOf = ({ lengths }: Case): number => lengths.reduce((sum, n) => sum + n, 0);
const xOf = (c: Case): Float32Array => uniform(1, tokensOf(c) * c.hidden);
const dyOf = (c: Case): Float32Array => uniform(2, c.lengths.length * c.hidden);

const forward =
  (c: Case, x = xOf(c)): Program<"y"> =>
  (m) => {
    const { lengths, hidden, mode } = c;
    const y = m.output(lengths.length, hidden);
    const xs = m.input(x, tokensOf(c), hidden).ptr;
    const offsets = m.ints(offsetsOf(lengths)).ptr;
    m.k.poolingForward(y.ptr, xs, offsets, lengths.length, hidden, MODES.indexOf(mode));
    return { y };
  };

const backward =
  (c: Case): Program<"dx"> =>
  (m) => {
    const { lengths, hidden, mode } = c;
    const dx = m.output(tokensOf(c), hidden);
    const dy = m.input(dyOf(c), lengths.length, hidden).ptr;
    const offsets = m.ints(offsetsOf(lengths)).ptr;
    m.k.poolingBackward(dx.ptr, dy, offsets, lengths.length, hidden, MODES.indexOf(mode));
    return { dx };
  };

const normalizeForward =
  (rows: number, cols: number, x = uniform(3, rows * cols)): Program<"y" | "scales"> =>
  (m) => {
    const y = m.output(rows, cols);
    const scales = m.output(rows);
    m.k.normalizeForward(y.ptr, scales.ptr, m.input(x, rows, cols).ptr, rows, cols);
    return { y, scales };
  };

const averageForward =
  (rows: number): Program<"y"> =>
  (m) => {
    const [a, b] = [5, 6].map((seed) => m.input(uniform(seed, rows * 12), rows, 12).ptr);
    const y = m.output(rows, 12);
    m.k.averageForward(y.ptr, a!, b!, rows * 12);
    return { y };
  };

/** Puts [rows, 8] behind twelve columns of zeros, and takes the first four of the eight out again. */
const copyColumns =
  (rows: number): Program<"wide" | "narrow"> =>
  (m) => {
    const wide = m.input(new Float32Array(rows * 20), rows, 20);
    const narrow = m.output(rows, 4);
    m.k.copyColumns(wide.ptr + 4 * 12, m.input(uniform(7, rows * 8), rows, 8).ptr, rows, 8, 20, 8);
    m.k.copyColumns(narrow.ptr, wide.ptr + 4 * 12, rows, 4, 4, 20);
    return { wide, narrow };
  };

/** Adds half of the first four columns of [rows, 8] behind eight columns of ones. */
const addColumns =
  (rows: number): Program<"y"> =>
  (m) => {
    const y = m.input(new Float32Array(rows * 12).fill(1), rows, 12);
    m.k.addColumns(y.ptr + 4 * 8, m.input(uniform(7, rows * 8), rows, 8).ptr, rows, 4, 12, 8, 0.5);
    return { y };
  };

const NORMALIZED = [
  ...ROWS.map((rows) => ({ rows, cols: 12 })),
  ...[4, 8, 20, 384].map((cols) => ({ rows: 5, cols })),
];

describe.each(INFERENCE_TARGETS)("%s: pooling", (target) => {
  it.each(CASES)("poolingForward equals the float64 oracle, $name", (c) => {
    const y = pooling(xOf(c), c.lengths, c.hidden, c.mode);
    expectClose(run(target, forward(c)), { y }, { absolute: 2e-6 });
    expectSameBits(run(target, forward(c)), run("node", forward(c)), target);
  });

  it("pooling equal tokens gives the token, bit for bit, but for the sum over √n", () => {
    const token = uniform(4, 8).map((v) => Math.floor(8 * v) / 8); // sums of these are exact
    for (const c of shapes([4, 8, 2], 8).filter(({ mode }) => mode !== "meanSqrtLen")) {
      const x = Float32Array.from({ length: 14 * 8 }, (_, i) => token[i % 8]!);
      const y = { shape: [3, 8], values: Float32Array.from([...token, ...token, ...token]) };
      expectSameBits(run(target, forward(c, x)), { y }, c.name);
    }
  });

  it.each(ROWS)("averageForward equals the float64 oracle, %s rows", (rows) => {
    const [a, b] = [uniform(5, rows * 12), uniform(6, rows * 12)];
    const y = Float64Array.from(a, (value, i) => (value + b[i]!) / 2);
    expectClose(run(target, averageForward(rows)), { y }, { absolute: 1e-7 });
    expectSameBits(run(target, averageForward(rows)), run("node", averageForward(rows)), target);
  });

  it.each(ROWS)("copyColumns concatenates, and truncates again, %s rows", (rows) => {
    const x = uniform(7, rows * 8);
    const { wide, narrow } = run(target, copyColumns(rows));
    for (let row = 0; row < rows; row++) {
      const copied = Array.from(x.subarray(8 * row, 8 * row + 8));
      const zeros = Array.from({ length: 12 }, () => 0);
      expect(Array.from(wide.values.subarray(20 * row, 20 * row + 20))).toEqual([
        ...zeros,
        ...copied,
      ]);
      expect(Array.from(narrow.values.subarray(4 * row, 4 * row + 4))).toEqual(copied.slice(0, 4));
    }
  });

  it.each(NORMALIZED)(
    "normalizeForward equals the float64 oracle, [$rows, $cols]",
    ({ rows, cols }) => {
      const program = normalizeForward(rows, cols);
      const expected = normalize(uniform(3, rows * cols), rows, cols);
      expectClose(run(target, program), expected, { absolute: 2e-7, relative: 4e-7 });
      expectSameBits(run(target, program), run("node", program), target);
    },
  );

  it("normalizeForward leaves a zero row zero, with a finite scale", () => {
    const { y, scales } = run(target, normalizeForward(2, 8, new Float32Array(16)));
    expect([...y.values]).toEqual(Array.from({ length: 16 }, () => 0));
    expectClose({ scales }, { scales: [1e12, 1e12] }, { absolute: 0, relative: 1e-6 });
  });

  it("normalizeForward ignores the scale of a row", () => {
    const x = uniform(3, 5 * 20);
    const { y } = run(target, normalizeForward(5, 20, x));
    const scaled = run(
      target,
      normalizeForward(
        5,
        20,
        x.map((v) => 1000 * v),
      ),
    );
    expectClose({ y: scaled.y }, { y: y.values }, { absolute: 3e-7 });
  });
});

describe.each(TARGETS)("%s: addColumns", (target) => {
  it.each(ROWS)("adds a share of the columns it is given and touches no other, %s rows", (rows) => {
    const x = uniform(7, rows * 8);
    const y = Array.from({ length: rows * 12 }, (_, i) => {
      const [row, column] = [Math.floor(i / 12), (i % 12) - 8];
      return column < 0 ? 1 : 1 + x[8 * row + column]! / 2;
    });
    expectClose(run(target, addColumns(rows)), { y }, { absolute: 1e-7 });
    expectSameBits(run(target, addColumns(rows)), run("node", addColumns(rows)), target);
  });
});

describe.each(TARGETS)("%s: poolingBackward", (target) => {
  it.each(CASES.filter(isTrained))(
    "equals central differences of the oracle in every element, $name",
    (c) => {
      const x = Float64Array.from(xOf(c));
      const dy = dyOf(c);
      // A token touches only the vector of its own sequence, which keeps the differences affordable.
      const offsets = offsetsOf(c.lengths);
      const dx = c.lengths.flatMap((length, s) => {
        const part = x.slice(offsets[s]! * c.hidden, offsets[s + 1]! * c.hidden);
        const d = dy.slice(s * c.hidden, (s + 1) * c.hidden);
        return [
          ...centralDifferences(() => dot(pooling(part, [length], c.hidden, c.mode), d), part),
        ];
      });
      expectClose(run(target, backward(c)), { dx }, { absolute: 2e-7 });
    },
  );
});

describe("node: pooling by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = [[], [1], [3, 5], [2, 1, 9, 4, 1, 1, 7]].flatMap((lengths) => [
      ...shapes(lengths, 12).flatMap((c) => [
        [`poolingForward ${c.name}`, forward(c)] as const,
        ...(isTrained(c) ? [[`poolingBackward ${c.name}`, backward(c)] as const] : []),
      ]),
      [`normalizeForward ${lengths.length}`, normalizeForward(lengths.length, 12)] as const,
      [`averageForward ${lengths.length}`, averageForward(lengths.length)] as const,
      [`copyColumns ${lengths.length}`, copyColumns(lengths.length)] as const,
      [`addColumns ${lengths.length}`, addColumns(lengths.length)] as const,
    ]);
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
