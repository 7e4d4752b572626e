import { describe, expect, it } from "vitest";
import { searchInt8Scratch } from "../../src/runtime/scratch.ts";
import { innerProducts, innerProductsInt8, signAgreements } from "../oracle/search.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  integers,
  type Program,
  ROWS,
  run,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const SHAPES = [
  ...ROWS.map((rows) => ({ rows, cols: 12 })),
  ...[4, 8, 20, 384, 768].map((cols) => ({ rows: 5, cols })),
];
const SHAPES_INT8 = [
  ...ROWS.map((rows) => ({ rows, cols: 16 })),
  ...[32, 48, 384, 768, 8192].map((cols) => ({ rows: 5, cols })),
];
const SHAPES_SIGNS = [
  ...ROWS.map((rows) => ({ rows, cols: 128 })),
  ...[1, 7, 8, 64, 127, 129, 384, 1000].map((cols) => ({ rows: 5, cols })),
];

const program =
  (rows: number, cols: number): Program<"scores"> =>
  (m) => {
    const scores = m.output(rows);
    const vectors = m.input(uniform(1, rows * cols), rows, cols).ptr;
    m.k.innerProducts(scores.ptr, vectors, m.input(uniform(2, cols), cols).ptr, rows, cols);
    return { scores };
  };

const codesOf = (rows: number, cols: number): Int32Array =>
  integers(3, rows * cols, 255).map((code) => code - 127);

const programInt8 =
  (rows: number, cols: number, codes = codesOf(rows, cols), query = uniform(2, cols)) =>
  (m: Parameters<Program<"scores">>[0]): ReturnType<Program<"scores">> => {
    const scores = m.output(rows);
    const scales = m.input(uniform(4, rows, 0.001, 0.1), rows).ptr;
    const scratch = m.scratch(searchInt8Scratch(cols));
    // prettier-ignore
    m.k.innerProductsInt8(scores.ptr, m.codes(codes, rows, cols).ptr, scales, m.input(query, cols).ptr, rows, cols, scratch);
    return { scores };
  };

const strideOf = (cols: number): number => Math.ceil(cols / 128) * 16;

/** Random bits, zero behind `cols`. */
function bitsOf(seed: number, rows: number, cols: number): Int32Array {
  const stride = strideOf(cols);
  return integers(seed, rows * stride, 256).map((byte, i) => {
    const left = cols - 8 * (i % stride);
    return left <= 0 ? 0 : left < 8 ? byte & ((1 << left) - 1) : byte;
  });
}

const programSigns =
  (rows: number, cols: number): Program<"scores"> =>
  (m) => {
    const scores = m.output(rows);
    const bits = m.codes(bitsOf(5, rows, cols), rows, strideOf(cols)).ptr;
    const query = m.codes(bitsOf(6, 1, cols), strideOf(cols)).ptr;
    m.k.signAgreements(scores.ptr, bits, query, rows, cols);
    return { scores };
  };

describe.each(INFERENCE_TARGETS)("%s: innerProducts", (target) => {
  it.each(SHAPES)("equals the float64 oracle, [$rows, $cols]", ({ rows, cols }) => {
    const scores = innerProducts(uniform(1, rows * cols), uniform(2, cols), rows, cols);
    expectClose(run(target, program(rows, cols)), { scores }, { absolute: 3e-8 * cols + 2e-7 });
  });
});

describe.each(INFERENCE_TARGETS)("%s: innerProductsInt8", (target) => {
  it.each(SHAPES_INT8)("equals the float64 oracle, [$rows, $cols]", ({ rows, cols }) => {
    const scales = uniform(4, rows, 0.001, 0.1);
    const scores = innerProductsInt8(codesOf(rows, cols), scales, uniform(2, cols), rows, cols);
    // A query component is off by up to half a step of 1 / 8191, uniformly, so the sum grows with the root of cols.
    const absolute = ((0.1 * 127 * 0.5) / 8191) * 3 * Math.sqrt(cols);
    expectClose(run(target, programInt8(rows, cols)), { scores }, { absolute, relative: 1e-6 });
  });

  it("does not overflow where codes and query are largest and agree", () => {
    const cols = 8192;
    const codes = new Int32Array(cols).fill(-127);
    const query = new Float32Array(cols).fill(-0.5);
    const scores = innerProductsInt8(codes, uniform(4, 1, 0.001, 0.1), query, 1, cols);
    expectClose(
      run(target, programInt8(1, cols, codes, query)),
      { scores },
      { absolute: 0, relative: 1e-6 },
    );
  });

  it("gives 0 for a query of zeros", () => {
    const { scores } = run(target, programInt8(5, 16, codesOf(5, 16), new Float32Array(16)));
    expect([...scores.values]).toEqual([0, 0, 0, 0, 0]);
  });

  it("has the bits of every other target", () => {
    expectSameBits(run(target, programInt8(65, 48)), run("node", programInt8(65, 48)), target);
  });
});

interface Codes {
  readonly codes: Int32Array;
  readonly scales: Float32Array;
  readonly query: Float32Array;
}

const programHopeful =
  ({ codes, scales, query }: Codes, least: number): Program<"found" | "scores" | "sums"> =>
  (m) => {
    const [rows, cols] = [scales.length, query.length];
    const found = m.ints(new Int32Array(1 + rows).fill(-1));
    const [scores, sums] = [m.output(rows), m.output(rows)];
    const c = m.codes(codes, rows, cols).ptr;
    const [s, q] = [m.input(scales, rows).ptr, m.input(query, cols).ptr];
    const scratch = m.scratch(searchInt8Scratch(cols));
    m.k.innerProductsInt8(scores.ptr, c, s, q, rows, cols, scratch);
    m.k.sumCodes(sums.ptr, c, rows, cols);
    m.k.hopefulInt8(found.ptr, c, s, sums.ptr, q, rows, cols, least, scratch);
    return { found, scores, sums };
  };

/**
 * Rows [rows, cols] and a query, random but for every fifth row, which is the query itself, and the scale of every seventh, below 0.
 * A file of another's may have codes of -128.
 */
function codesAndQuery(rows: number, cols: number): Codes {
  const codes = codesOf(rows, cols);
  const query = uniform(2, cols);
  for (let row = 0; row < rows; row += 5) {
    for (let j = 0; j < cols; j++)
      codes[row * cols + j] = query[j]! < -0.9 ? -128 : Math.round(127 * query[j]!);
  }
  const scales = uniform(4, rows, 0.001, 0.1).map((scale, row) => (row % 7 === 6 ? -scale : scale));
  return { codes, scales, query };
}

/** Most by which a bound of `hopefulInt8` is above a score of a row of that scale. */
const slackOf = (scale: number, query: Float32Array): number =>
  2 * (128 * 64 + 2) * query.length * Math.abs(scale) * (Math.max(...query.map(Math.abs)) / 8191);

describe.each(INFERENCE_TARGETS)("%s: hopefulInt8 and sumCodes", (target) => {
  it.each(SHAPES_INT8)("name every row that reaches a score, [$rows, $cols]", ({ rows, cols }) => {
    const given = codesAndQuery(rows, cols);
    const { scores: all, sums } = run(target, programHopeful(given, 0));
    const expected = Array.from({ length: rows }, (_, row) =>
      given.codes.subarray(row * cols, (row + 1) * cols).reduce((sum, code) => sum + code, 0),
    );
    expect([...sums.values]).toEqual(expected);
    for (const least of [...all.values, -1e9, 1e9]) {
      const { found, scores } = run(target, programHopeful(given, least));
      const [count, ...places] = found.values;
      const named = places.slice(0, count);
      expect(named).toEqual(named.toSorted((a, b) => a - b));
      const reach = [...scores.values.keys()].filter((row) => scores.values[row]! >= least);
      expect(named).toEqual(expect.arrayContaining(reach));
      if (target !== "node" && target !== "edge") continue; // which have a product of bytes
      for (const row of named) {
        const most = scores.values[row]! + slackOf(given.scales[row]!, given.query);
        expect(most).toBeGreaterThanOrEqual(least);
      }
    }
  });

  it("name a row whose codes and query are largest and agree, and one of zeros", () => {
    for (const sign of [1, -1]) {
      const codes = new Int32Array(2 * 8192).fill(127 * sign, 0, 8192);
      const query = new Float32Array(8192).fill(0.5 * sign);
      const given = { codes, scales: Float32Array.of(0.1, 0.1), query };
      const [least] = run(target, programHopeful(given, 0)).scores.values;
      const { found } = run(target, programHopeful(given, least!));
      expect([...found.values].slice(0, 2)).toEqual([
        target === "node" || target === "edge" ? 1 : 2,
        0,
      ]);
      const zeros = { ...given, query: new Float32Array(8192) };
      expect([...run(target, programHopeful(zeros, 0)).found.values]).toEqual([2, 0, 1]);
    }
  });
});

describe.each(INFERENCE_TARGETS)("%s: signAgreements", (target) => {
  it.each(SHAPES_SIGNS)("equals the float64 oracle, [$rows, $cols]", ({ rows, cols }) => {
    // prettier-ignore
    const scores = signAgreements(bitsOf(5, rows, cols), bitsOf(6, 1, cols), rows, cols, strideOf(cols));
    expectClose(run(target, programSigns(rows, cols)), { scores }, { absolute: 3e-7 });
  });

  it("has the bits of every other target", () => {
    expectSameBits(run(target, programSigns(65, 384)), run("node", programSigns(65, 384)), target);
  });
});

const programSelect =
  (scores: Float32Array, least: number): Program<"found"> =>
  (m) => {
    const rows = scores.length;
    const found = m.ints(new Int32Array(1 + rows).fill(-1));
    m.k.selectScores(found.ptr, m.input(scores, rows).ptr, rows, least);
    return { found };
  };

describe.each(INFERENCE_TARGETS)("%s: selectScores", (target) => {
  it.each(
    [...ROWS, 15, 16, 17, 1000].flatMap((rows) => [-1, 0.9, 2].map((least) => ({ rows, least }))),
  )("finds the rows of at least $least among $rows, in order", ({ rows, least }) => {
    const scores = uniform(7, rows);
    scores[rows >> 1] = Math.fround(least);
    const expected = [...scores.keys()].filter((row) => scores[row]! >= Math.fround(least));
    const { found } = run(target, programSelect(scores, least));
    const left = Array.from({ length: rows - expected.length }, () => -1);
    expect([...found.values]).toEqual([expected.length, ...expected, ...left]);
  });

  it("finds no row whose score is no number", () => {
    const { found } = run(target, programSelect(new Float32Array(20).fill(NaN), -Infinity));
    expect(found.values[0]).toBe(0);
  });
});

describe("node: search by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = ROWS.flatMap((rows) => [
      [`innerProducts ${rows}`, program(rows, 12)] as const,
      [`innerProductsInt8 ${rows}`, programInt8(rows, 48)] as const,
      [`hopefulInt8 ${rows}`, programHopeful(codesAndQuery(rows, 48), 0.5)] as const,
      [`signAgreements ${rows}`, programSigns(rows, 384)] as const,
      [`selectScores ${rows}`, programSelect(uniform(7, rows), 0.5)] as const,
    ]);
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
