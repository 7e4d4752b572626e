import { describe, expect, it } from "vitest";
import { quantizedActivations } from "../../src/runtime/scratch.ts";
import { quantizeActivations, quantizeRows } from "../oracle/quantize.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  type Program,
  type Result,
  ROWS,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const SHAPES: readonly (readonly [number, number])[] = [
  ...ROWS.map((rows) => [rows, 12] as const),
  ...[4, 8, 16, 20, 28, 384].map((cols) => [5, cols] as const),
];

const table =
  (rows: number, cols: number, x: Float32Array): Program<"codes" | "scales"> =>
  (m) => {
    const codes = m.bytes(rows, cols);
    const scales = m.output(rows);
    m.k.quantizeRowsInt8(codes.ptr, scales.ptr, m.input(x, rows, cols).ptr, rows, cols);
    return { codes, scales };
  };

const tableAgain =
  (rows: number, cols: number, x: Float32Array): Program<"x"> =>
  (m) => {
    const { codes, scales } = table(rows, cols, x)(m);
    const found = m.output(rows, cols);
    m.k.dequantizeRowsInt8(found.ptr, codes.ptr, scales.ptr, rows, cols);
    return { x: found };
  };

const activations =
  (rows: number, cols: number, x: Float32Array): Program<"quantized"> =>
  (m) => {
    const quantized = m.bytes(quantizedActivations(rows, cols));
    m.k.quantizeActivations(quantized.ptr, m.input(x, rows, cols).ptr, rows, cols);
    return { quantized };
  };

/** Codes, scales and minima, from where the head of `quantize.ts` says they lie. */
function parts(quantized: Result, rows: number, cols: number): Record<string, Result> {
  const { buffer } = quantized.values;
  return {
    codes: { shape: [rows, cols], values: new Int8Array(buffer, 0, rows * cols) },
    scales: { shape: [rows], values: new Float32Array(buffer, rows * cols, rows) },
    minima: { shape: [rows], values: new Float32Array(buffer, rows * (cols + 4), rows) },
  };
}

const SCALES = { absolute: 0, relative: 1e-7 };

describe.each(INFERENCE_TARGETS)("%s: quantizeRowsInt8", (target) => {
  it.each(SHAPES)("equals the oracle, code for code, [%d, %d]", (rows, cols) => {
    const x = uniform(1, rows * cols, -3, 2);
    const { codes, scales } = quantizeRows(x, rows, cols);
    const found = run(target, table(rows, cols, x));
    expectClose({ codes: found.codes }, { codes }, { absolute: 0 });
    expectClose({ scales: found.scales }, { scales }, SCALES);
    expectSameBits(found, run("node", table(rows, cols, x)), target);
  });

  it("is off by half a scale at most", () => {
    const x = uniform(1, 7 * 64, -3, 2);
    const { codes, scales } = run(target, table(7, 64, x));
    codes.values.forEach((code, i) => {
      const scale = scales.values[Math.floor(i / 64)]!;
      expect(Math.abs(code * scale - x[i]!)).toBeLessThan(0.5001 * scale);
    });
  });

  it("rounds ties to even and keeps the extremes at ±127", () => {
    const x = Float32Array.of(127, -127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5);
    const { codes } = run(target, table(1, 8, x));
    expect([...codes.values]).toEqual([127, -127, 0, 2, 2, 0, -2, -2]);
  });

  it("gives rows of zeros, and of numbers too small for a scale, codes of 0", () => {
    const { codes } = run(target, table(2, 4, Float32Array.of(0, 0, 0, 0, 1e-42, -1e-42, 0, 0)));
    expect([...codes.values]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });
});

describe.each(TARGETS)("%s: dequantizeRowsInt8", (target) => {
  it.each(SHAPES)(
    "is code times scale, and quantised gives the codes again, [%d, %d]",
    (rows, cols) => {
      const x = uniform(1, rows * cols, -3, 2);
      const { codes, scales } = run(target, table(rows, cols, x));
      const found = run(target, tableAgain(rows, cols, x));
      const expected = Float32Array.from(
        codes.values,
        (code, i) => code * scales.values[Math.floor(i / cols)]!,
      );
      expectClose(found, { x: expected }, { absolute: 0 });
      expect(run(target, table(rows, cols, expected)).codes.values).toEqual(codes.values);
    },
  );
});

describe.each(INFERENCE_TARGETS)("%s: quantizeActivations", (target) => {
  it.each(SHAPES)("equals the oracle, code for code, [%d, %d]", (rows, cols) => {
    const x = uniform(1, rows * cols, -3, 2);
    const found = run(target, activations(rows, cols, x));
    const { codes, scales, minima } = parts(found.quantized, rows, cols);
    const expected = quantizeActivations(x, rows, cols);
    expectClose({ codes: codes! }, expected, { absolute: 0 });
    expectClose({ scales: scales!, minima: minima! }, expected, SCALES);
    expectSameBits(found, run("node", activations(rows, cols, x)), target);
  });

  it("is off by half a scale at most, with codes in 0 … 127", () => {
    const x = uniform(1, 7 * 64, -3, 2);
    const { codes, scales, minima } = parts(run(target, activations(7, 64, x)).quantized, 7, 64);
    codes!.values.forEach((code, i) => {
      const row = Math.floor(i / 64);
      const [t, minimum] = [scales!.values[row]!, minima!.values[row]!];
      expect(code).toBeGreaterThanOrEqual(0);
      expect(Math.abs(minimum + code * t - x[i]!)).toBeLessThan(0.5001 * t);
    });
  });

  it("puts a constant row into its minimum, whole", () => {
    const { quantized } = run(target, activations(2, 16, new Float32Array(32).fill(-0.75)));
    const { codes, scales, minima } = parts(quantized, 2, 16);
    expect(codes!.values.every((code) => code === 0)).toBe(true);
    expect([...scales!.values, ...minima!.values]).toEqual([0, 0, -0.75, -0.75]);
  });

  it("gives a row the same bits in every batch", () => {
    const [rows, cols] = [9, 52];
    const x = uniform(1, rows * cols, -3, 2);
    const all = parts(run(target, activations(rows, cols, x)).quantized, rows, cols);
    for (let row = 0; row < rows; row++) {
      const alone = x.slice(row * cols, (row + 1) * cols);
      const found = parts(run(target, activations(1, cols, alone)).quantized, 1, cols);
      expect(found["codes"]!.values).toEqual(
        all["codes"]!.values.slice(row * cols, (row + 1) * cols),
      );
      expect(found["scales"]!.values[0]).toBe(all["scales"]!.values[row]);
      expect(found["minima"]!.values[0]).toBe(all["minima"]!.values[row]);
    }
  });
});

describe("node: quantisation by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = [0, 1, 2, 4, 5, 65].flatMap((rows) => {
      const x = uniform(1, rows * 20, -3, 2);
      return [
        [`quantizeRowsInt8 ${rows}`, table(rows, 20, x)] as const,
        [`dequantizeRowsInt8 ${rows}`, tableAgain(rows, 20, x)] as const,
        [`quantizeActivations ${rows}`, activations(rows, 20, x)] as const,
      ];
    });
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
