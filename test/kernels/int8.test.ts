import { describe, expect, it } from "vitest";
import { linearInt8Scratch, packedInt8Bytes } from "../../src/runtime/scratch.ts";
import { linearInt8, quantizeActivations, quantizeRows } from "../oracle/int8.ts";
import { linear } from "../oracle/linear.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  type Program,
  type Results,
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

const shape = (rows: number, inputs: number, outputs: number): Case => ({
  name: `[${rows}, ${inputs}] · [${outputs}, ${inputs}]ᵀ`,
  rows,
  inputs,
  outputs,
});

const CASES: readonly Case[] = [
  ...ROWS.map((rows) => shape(rows, 16, 20)),
  ...[4, 8, 12, 16, 52].map((outputs) => shape(5, 16, outputs)),
  ...[4, 8, 12, 380, 384, 388, 1540].map((inputs) => shape(5, inputs, 12)),
  shape(66, 388, 52),
];

interface Values {
  readonly x: Float32Array;
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

const valuesOf = ({ rows, inputs, outputs }: Case): Values => ({
  x: uniform(1, rows * inputs, -1, 3),
  weight: uniform(2, outputs * inputs),
  bias: uniform(3, outputs),
});

type Packed = Results<"packed" | "scales" | "sums">;

const pack =
  ({ inputs, outputs }: Case, { weight }: Values): Program<"packed" | "scales" | "sums"> =>
  (m) => {
    const packed = m.bytes(packedInt8Bytes(outputs, inputs));
    const scales = m.output(outputs);
    const sums = m.output(outputs);
    const w = m.input(weight, outputs, inputs).ptr;
    m.k.packInt8(packed.ptr, scales.ptr, sums.ptr, w, outputs, inputs);
    return { packed, scales, sums };
  };

/** The product with a weight that node packed: edge only loads packed weights. */
const forward =
  ({ rows, inputs, outputs }: Case, { x, bias }: Values, p: Packed, biased = true): Program<"y"> =>
  (m) => {
    const y = m.output(rows, outputs);
    const packed = m.codes(p.packed.values, p.packed.values.length).ptr;
    const [scales, sums] = [p.scales, p.sums].map((t) => m.input(t.values, outputs).ptr);
    const b = biased ? m.input(bias, outputs).ptr : 0;
    const xs = m.input(x, rows, inputs).ptr;
    const scratch = m.scratch(linearInt8Scratch(rows, inputs));
    m.k.linearInt8Forward(y.ptr, xs, packed, scales!, sums!, b, rows, inputs, outputs, scratch);
    return { y };
  };

const packAndForward =
  (c: Case, v: Values): Program<"y"> =>
  (m) => {
    const { packed, scales, sums } = pack(c, v)(m);
    const y = m.output(c.rows, c.outputs);
    m.k.linearInt8Forward(
      y.ptr,
      m.input(v.x, c.rows, c.inputs).ptr,
      packed.ptr,
      scales.ptr,
      sums.ptr,
      m.input(v.bias, c.outputs).ptr,
      c.rows,
      c.inputs,
      c.outputs,
      m.scratch(linearInt8Scratch(c.rows, c.inputs)),
    );
    return { y };
  };

const quantize =
  (rows: number, cols: number, x: Float32Array): Program<"codes" | "scales"> =>
  (m) => {
    const codes = m.bytes(rows, cols);
    const scales = m.output(rows);
    m.k.quantizeRowsInt8(codes.ptr, scales.ptr, m.input(x, rows, cols).ptr, rows, cols);
    return { codes, scales };
  };

const CLOSE = { absolute: 3e-6, relative: 2e-6 };

describe.each(TARGETS)("%s: packInt8", (target) => {
  it.each(CASES)("keeps the scales and sums of the oracle's codes, $name", (c) => {
    const v = valuesOf(c);
    const { codes, scales } = quantizeRows(v.weight, c.outputs, c.inputs);
    const sums = Float64Array.from({ length: c.outputs }, (_, o) =>
      codes.slice(o * c.inputs, (o + 1) * c.inputs).reduce((sum, q) => sum + q, 0),
    );
    const found = run(target, pack(c, v));
    expectClose({ sums: found.sums }, { sums }, { absolute: 0 });
    expectClose({ scales: found.scales }, { scales }, { absolute: 0, relative: 1e-7 });
    expectSameBits(found, run("node", pack(c, v)), target);
  });

  it("packs each code once, and zeros where the last panel has no output", () => {
    const c = shape(0, 20, 12);
    const { packed } = run(target, pack(c, valuesOf(c)));
    const { codes } = quantizeRows(valuesOf(c).weight, 12, 20);
    const expected = new Int8Array(16 * 20); // sixteen outputs make two panels
    expected.set(codes);
    expect(packed.values.toSorted()).toEqual(expected.toSorted());
  });

  it("gives a zero row the scale 0", () => {
    const c = shape(1, 8, 4);
    const v = { ...valuesOf(c), weight: new Float32Array(32) };
    const { scales, sums } = run(target, pack(c, v));
    expect([...scales.values, ...sums.values]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });
});

describe.each(TARGETS)("%s: quantizeRowsInt8", (target) => {
  it.each([...ROWS.map((rows) => [rows, 12]), [5, 4], [5, 384]] as [number, number][])(
    "equals the oracle, code for code, [%d, %d]",
    (rows, cols) => {
      const x = uniform(1, rows * cols, -3, 2);
      const { codes, scales } = quantizeRows(x, rows, cols);
      const found = run(target, quantize(rows, cols, x));
      expectClose({ codes: found.codes }, { codes }, { absolute: 0 });
      expectClose({ scales: found.scales }, { scales }, { absolute: 0, relative: 1e-7 });
    },
  );

  it("is off by half a scale at most", () => {
    const x = uniform(1, 7 * 64, -3, 2);
    const { codes, scales } = run(target, quantize(7, 64, x));
    codes.values.forEach((code, i) => {
      const scale = scales.values[Math.floor(i / 64)]!;
      expect(Math.abs(code * scale - x[i]!)).toBeLessThan(0.5001 * scale);
    });
  });

  it("rounds ties to even and keeps the extremes at ±127", () => {
    const x = Float32Array.of(127, -127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5);
    const { codes } = run(target, quantize(1, 8, x));
    expect([...codes.values]).toEqual([127, -127, 0, 2, 2, 0, -2, -2]);
  });
});

describe.each(INFERENCE_TARGETS)("%s: linearInt8Forward", (target) => {
  it.each(CASES)("equals the oracle on its codes, and has the bits of node, $name", (c) => {
    const v = valuesOf(c);
    const packed = run("node", pack(c, v));
    const y = linearInt8(v.x, v.weight, v.bias, c.rows, c.inputs, c.outputs);
    const found = run(target, forward(c, v, packed));
    expectClose(found, { y }, CLOSE);
    expectSameBits(found, run("node", forward(c, v, packed)), target);
    const unbiased = linearInt8(v.x, v.weight, undefined, c.rows, c.inputs, c.outputs);
    expectClose(run(target, forward(c, v, packed, false)), { y: unbiased }, CLOSE);
  });

  it.each([shape(66, 388, 52), shape(5, 1540, 12)])(
    "is within 0.25 % of |x| |w| of the float product, $name",
    (c) => {
      const v = valuesOf(c);
      const { y } = run(target, forward(c, v, run("node", pack(c, v))));
      const product = linear(v.x, v.weight, v.bias, c.rows, c.inputs, c.outputs);
      // |x| ≈ √(inputs · 7 / 3) and |w| ≈ √(inputs / 3) for these values.
      expectClose({ y }, { y: product }, { absolute: 0.0025 * c.inputs * Math.sqrt(7 / 9) });
    },
  );

  it("is exact for the longest sums of the largest codes: the dot never saturates", () => {
    const c = shape(1, 4096, 8);
    const x = new Float32Array(4096).fill(127).fill(0, 0, 1); // minimum 0, codes 127
    const weight = Float32Array.from({ length: 8 * 4096 }, (_, i) => (i < 4 * 4096 ? 127 : -127));
    const v = { x, weight, bias: new Float32Array(8) };
    const { y } = run(target, forward(c, v, run("node", pack(c, v))));
    const sum = 127 * 127 * 4095;
    expectClose({ y }, { y: [sum, sum, sum, sum, -sum, -sum, -sum, -sum] }, { absolute: 4 });
  });

  it("maps a constant row exactly: all of it is in the minimum", () => {
    const c = shape(3, 16, 8);
    const v = { ...valuesOf(c), x: new Float32Array(48).fill(-0.75) };
    const packed = run("node", pack(c, v));
    const { y } = run(target, forward(c, v, packed));
    const expected = linearInt8(v.x, v.weight, v.bias, 3, 16, 8);
    const { codes } = quantizeActivations(v.x, 3, 16);
    expect(codes.every((code) => code === 0)).toBe(true);
    expectClose({ y }, { y: expected }, CLOSE);
  });

  it("gives a row the same bits in every batch", () => {
    const all = shape(66, 388, 52);
    const v = valuesOf(all);
    const packed = run("node", pack(all, v));
    const { y } = run(target, forward(all, v, packed));
    for (const [first, last] of [
      [0, 1],
      [65, 66],
      [3, 10],
      [2, 66],
    ] as const) {
      const part = shape(last - first, all.inputs, all.outputs);
      const x = v.x.slice(first * all.inputs, last * all.inputs);
      const found = run(target, forward(part, { ...v, x }, packed));
      expectSameBits(found, { y: rowsOf(y, first, last) }, `rows ${first} to ${last} alone`);
    }
  });
});

describe("node: int8 by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const cases = [0, 1, 2, 4, 5, 8, 9, 12, 13, 65].map((rows) => shape(rows, 20, 52));
    const programs = [...cases, shape(1, 8, 4), shape(3, 1540, 12)].flatMap((c) => [
      [`linearInt8Forward ${c.name}`, packAndForward(c, valuesOf(c))] as const,
      [`packInt8 ${c.name}`, pack(c, valuesOf(c))] as const,
      [`quantizeRowsInt8 ${c.name}`, quantize(c.rows, c.inputs, valuesOf(c).x)] as const,
    ]);
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
