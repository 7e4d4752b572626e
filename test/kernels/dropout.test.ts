import { describe, expect, it } from "vitest";
import { dropoutScratch } from "../../src/runtime/scratch.ts";
import { dot } from "../oracle/differences.ts";
import { type Bits, dropoutMask } from "../oracle/dropout.ts";
import {
  expectClose,
  expectSameBits,
  once,
  type Program,
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
  readonly cols: number;
  readonly bits: Bits;
}

const BITS: Bits = { rate: 0.1, seed: 42, step: 7, site: 3 };
const UNDROPPED: Bits = { ...BITS, rate: 0 };

const shape = (rows: number, cols: number, bits: Bits = BITS): Case => ({
  name: `[${rows}, ${cols}], p = ${bits.rate}, seed ${bits.seed}, step ${bits.step}, site ${bits.site}`,
  rows,
  cols,
  bits,
});

const CASES: readonly Case[] = [
  ...ROWS.map((rows) => shape(rows, 36)),
  ...[4, 12, 16, 20, 28, 32, 64, 68, 384].map((cols) => shape(3, cols)),
  ...[0, 1e-5, 0.25, 0.5, 0.9, 1].map((rate) => shape(5, 64, { ...BITS, rate })),
  shape(5, 64, { rate: 0.5, seed: 0xdeadbeef, step: 0x80000001, site: 0xffffffff }),
  shape(5, 64, { rate: 0.5, seed: 0, step: 0, site: 0 }),
];

type Kind = "plain" | "residual" | "in place" | "in place with residual";

const forward =
  ({ rows, cols, bits }: Case, kind: Kind, x = uniform(1, rows * cols)): Program<"y"> =>
  (m) => {
    const { rate, seed, step, site } = bits;
    const xs = m.input(x, rows, cols);
    const y = kind.startsWith("in place") ? xs : m.output(rows, cols);
    const residual = kind.endsWith("residual")
      ? m.input(uniform(2, rows * cols), rows, cols).ptr
      : 0;
    const scratch = m.scratch(dropoutScratch(m.ranks));
    // prettier-ignore
    m.k.dropoutForward(y.ptr, xs.ptr, residual, 0, rows, cols, rate, seed, step, site, scratch);
    return { y };
  };

const backward =
  ({ rows, cols, bits }: Case, inPlace: boolean): Program<"dx"> =>
  (m) => {
    const { rate, seed, step, site } = bits;
    const dy = m.input(uniform(3, rows * cols), rows, cols);
    const dx = inPlace ? dy : m.output(rows, cols);
    const scratch = m.scratch(dropoutScratch(m.ranks));
    m.k.dropoutBackward(dx.ptr, dy.ptr, 0, rows, cols, rate, seed, step, site, scratch);
    return { dx };
  };

const ORACLES = CASES.map((c) => ({
  c,
  name: c.name,
  mask: once(() => dropoutMask(c.rows, c.cols, c.bits)),
}));

/** mask · x; a dropped element is 0 even where p is 1 and its factor infinite. */
const masked = (mask: Float64Array, x: Float32Array): Float64Array =>
  mask.map((factor, i) => factor && factor * x[i]!);

const CLOSE = { absolute: 1e-7, relative: 2e-7 };

describe.each(TARGETS)("%s: dropout", (target) => {
  it.each(ORACLES)("drops by the bits of Philox, $name", ({ c, mask }) => {
    const count = c.rows * c.cols;
    const y = masked(mask(), uniform(1, count));
    const residual = uniform(2, count);
    const sum = y.map((value, i) => value + residual[i]!);
    expectClose(run(target, forward(c, "plain")), { y }, CLOSE);
    expectClose(run(target, forward(c, "in place")), { y }, CLOSE);
    expectClose(run(target, forward(c, "residual")), { y: sum }, CLOSE);
    expectClose(run(target, forward(c, "in place with residual")), { y: sum }, CLOSE);
  });

  it.each(ORACLES)("sends its gradient through the same bits, $name", ({ c, mask }) => {
    const dx = masked(mask(), uniform(3, c.rows * c.cols));
    expectClose(run(target, backward(c, false)), { dx }, CLOSE);
    expectClose(run(target, backward(c, true)), { dx }, CLOSE);
  });

  it("keeps every bit where p is 0", () => {
    const c = shape(5, 36, { ...BITS, rate: 0 });
    const y = { shape: [5, 36], values: uniform(1, 180) };
    expectSameBits(run(target, forward(c, "plain")), { y }, "p = 0");
  });

  it.each([0.1, 0.25, 0.5, 0.9])("keeps 1 - p ± 3 σ of the elements, p = %d", (rate) => {
    const c = shape(128, 1024, { ...BITS, rate });
    const count = c.rows * c.cols;
    const { y } = run(target, forward(c, "plain", new Float32Array(count).fill(1)));
    const kept = y.values.filter((value) => value !== 0).length / count;
    expect(Math.abs(kept - (1 - rate))).toBeLessThan(3 * Math.sqrt((rate * (1 - rate)) / count));
  });

  it.each(["seed", "step", "site"] as const)("draws independent bits for another %s", (name) => {
    const ones = new Float32Array(128 * 1024).fill(1);
    const signs = (bits: Bits): Float32Array => {
      const { y } = run(target, forward(shape(128, 1024, bits), "plain", ones));
      return Float32Array.from(y.values, (value) => (value ? 1 : -1));
    };
    const bits = { ...BITS, rate: 0.5 };
    const correlation = dot(signs(bits), signs({ ...bits, [name]: bits[name] + 1 })) / ones.length;
    expect(Math.abs(correlation)).toBeLessThan(3 / Math.sqrt(ones.length));
  });

  it("gives a row the same bits whatever rows and columns follow", () => {
    const x = new Float32Array(65 * 68).fill(1);
    const { y } = run(target, forward(shape(65, 68), "plain", x));
    const fewer = run(target, forward(shape(4, 68), "plain", x.slice(0, 4 * 68)));
    expectSameBits(fewer, { y: rowsOf(y, 0, 4) }, "4 rows of 65");
    const narrow = run(target, forward(shape(1, 36), "plain", x.slice(0, 36)));
    const cut = { shape: [1, 36], values: y.values.slice(0, 36) };
    expectSameBits(narrow, { y: cut }, "36 columns of 68");
  });
});

const LINES = [41, 0, 7, 64];

/** Rows that were picked out of the 65 of a matrix. */
const picked =
  (bits: Bits): Program<"y" | "dx"> =>
  (m) => {
    const { rate, seed, step, site } = bits;
    const [rows, cols] = [LINES.length, 68];
    const lines = m.ints(LINES).ptr;
    const ones = m.input(new Float32Array(rows * cols).fill(1), rows, cols).ptr;
    const y = m.output(rows, cols);
    const dx = m.output(rows, cols);
    const scratch = m.scratch(dropoutScratch(m.ranks));
    m.k.dropoutForward(y.ptr, ones, 0, lines, rows, cols, rate, seed, step, site, scratch);
    m.k.dropoutBackward(dx.ptr, ones, lines, rows, cols, rate, seed, step, site, scratch);
    return { y, dx };
  };

describe.each(TARGETS)("%s: dropout of picked rows", (target) => {
  it("draws the bits that they have in their matrix", () => {
    const c = shape(65, 68);
    const { y } = run(target, forward(c, "plain", new Float32Array(65 * 68).fill(1)));
    const rows = LINES.flatMap((line) => [...rowsOf(y, line, line + 1).values]);
    const expected = { shape: [LINES.length, 68], values: Float32Array.from(rows) };
    expectSameBits(run(target, picked(BITS)), { y: expected, dx: expected }, "picked rows");
  });
});

/** Rows [first, 65) of a matrix, as a chunk of a batch draws them. */
const chunk =
  (first: number): Program<"y" | "dx"> =>
  (m) => {
    const { rate, seed, step, site } = BITS;
    const [rows, cols] = [65 - first, 68];
    const ones = m.input(new Float32Array(rows * cols).fill(1), rows, cols).ptr;
    const y = m.output(rows, cols);
    const dx = m.output(rows, cols);
    const scratch = m.scratch(dropoutScratch(m.ranks));
    m.k.dropoutOrigin(first);
    m.k.dropoutForward(y.ptr, ones, 0, 0, rows, cols, rate, seed, step, site, scratch);
    m.k.dropoutBackward(dx.ptr, ones, 0, rows, cols, rate, seed, step, site, scratch);
    m.k.dropoutOrigin(0);
    return { y, dx };
  };

describe.each(TARGETS)("%s: dropoutOrigin", (target) => {
  it.each([0, 1, 40, 65])("draws the bits that rows have in their batch, from row %d", (first) => {
    const { y } = run(target, forward(shape(65, 68), "plain", new Float32Array(65 * 68).fill(1)));
    const expected = rowsOf(y, first, 65);
    expectSameBits(run(target, chunk(first)), { y: expected, dx: expected }, `from row ${first}`);
  });
});

describe("node: dropout by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = [0, 1, 2, 3, 64, 65].flatMap(
      (rows) =>
        [
          [`dropoutForward ${rows}`, forward(shape(rows, 36), "residual")],
          [`dropoutBackward ${rows}`, backward(shape(rows, 36), true)],
          [`dropoutForward ${rows}, p = 0`, forward(shape(rows, 36, UNDROPPED), "residual")],
          [`dropoutBackward ${rows}, p = 0`, backward(shape(rows, 36, UNDROPPED), false)],
        ] as const,
    );
    await expectTeamInvariance({
      ...Object.fromEntries(programs),
      picked: picked(BITS),
      chunk: chunk(40),
    });
  });
});
