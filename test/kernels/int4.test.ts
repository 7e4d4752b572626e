import { describe, expect, it } from "vitest";
import { quantizedWeight } from "../../src/runtime/scratch.ts";
import { quantizeInt4 } from "../oracle/int4.ts";
import { weightOf } from "../oracle/linear-quantized.ts";
import { expectClose, expectSameBits, type Program, run, TARGETS, uniform } from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const SHAPES: readonly (readonly [outputs: number, inputs: number])[] = [
  ...[4, 8, 12, 16, 52].map((outputs) => [outputs, 16] as const),
  ...[4, 8, 28, 32, 36, 64, 380, 1540].map((inputs) => [12, inputs] as const),
];

const weightsOf = (outputs: number, inputs: number): Float32Array =>
  uniform(2, outputs * inputs).map((w) => w ** 3);

const pack =
  (outputs: number, inputs: number, weight: Float32Array): Program<"codes" | "scales" | "sums"> =>
  (m) => {
    const sizes = quantizedWeight(4, outputs, inputs);
    const codes = m.bytes(sizes.codes);
    const scales = m.output(sizes.scales);
    const sums = m.output(outputs);
    const w = m.input(weight, outputs, inputs).ptr;
    m.k.packInt4(codes.ptr, scales.ptr, sums.ptr, w, outputs, inputs);
    return { codes, scales, sums };
  };

const unpack =
  (outputs: number, inputs: number, weight: Float32Array): Program<"weight"> =>
  (m) => {
    const { codes, scales } = pack(outputs, inputs, weight)(m);
    const found = m.output(outputs, inputs);
    m.k.dequantizeInt4(found.ptr, codes.ptr, scales.ptr, outputs, inputs);
    return { weight: found };
  };

/** The code of an output and an input: the low or the high bits of a byte, plus 8. */
function codeAt(codes: ArrayLike<number>, o: number, k: number, inputs: number): number {
  const byte = codes[(o >> 3) * 4 * inputs + (k >> 2) * 16 + (o & 3) * 4 + (k & 3)]! & 255;
  return ((o & 7) < 4 ? byte & 15 : byte >> 4) - 8;
}

describe.each(TARGETS)("%s: packInt4", (target) => {
  it.each(SHAPES)("equals the oracle, code for code, [%d, %d]", (outputs, inputs) => {
    const weight = weightsOf(outputs, inputs);
    const oracle = quantizeInt4(weight, outputs, inputs);
    const found = run(target, pack(outputs, inputs, weight));
    const [panels, groups] = [Math.ceil(outputs / 8), Math.ceil(inputs / 32)];
    const shape = [8 * panels, inputs];
    // Behind the last output of the last panel all is zero.
    const expected = new Int32Array(8 * panels * inputs);
    expected.set(oracle.codes);
    const values = expected.map((_, i) =>
      codeAt(found.codes.values, Math.floor(i / inputs), i % inputs, inputs),
    );
    expectClose({ codes: { shape, values } }, { codes: expected }, { absolute: 0 });
    const scales = Float64Array.from({ length: found.scales.values.length }, (_, i) => {
      const [panel, group, j] = [Math.floor(i / (8 * groups)), Math.floor(i / 8) % groups, i % 8];
      return oracle.scales[(8 * panel + j) * groups + group] ?? 0;
    });
    expectClose({ scales: found.scales }, { scales }, { absolute: 0, relative: 1e-6 });
    const rows = weightOf(oracle, outputs, inputs);
    const sums = Float64Array.from({ length: outputs }, (_, o) =>
      rows.slice(o * inputs, (o + 1) * inputs).reduce((total, w) => total + w, 0),
    );
    expectClose({ sums: found.sums }, { sums }, { absolute: 1e-6, relative: 1e-6 });
    expectSameBits(found, run("node", pack(outputs, inputs, weight)), target);
  });

  it.each(SHAPES)("is undone but for rounding by dequantizeInt4, [%d, %d]", (outputs, inputs) => {
    const weight = weightsOf(outputs, inputs);
    const { codes, scales } = run(target, pack(outputs, inputs, weight));
    const found = run(target, unpack(outputs, inputs, weight));
    const groups = Math.ceil(inputs / 32);
    const expected = Float32Array.from(weight, (_, i) => {
      const [o, k] = [Math.floor(i / inputs), i % inputs];
      const scale = scales.values[8 * ((o >> 3) * groups + Math.floor(k / 32)) + (o & 7)]!;
      return scale * codeAt(codes.values, o, k, inputs);
    });
    expectClose(found, { weight: expected }, { absolute: 0 });
    const oracle = weightOf(quantizeInt4(weight, outputs, inputs), outputs, inputs);
    expectClose(found, { weight: oracle }, { absolute: 1e-6, relative: 1e-6 });
  });

  it("makes of what dequantizeInt4 made the same weights again", () => {
    const [outputs, inputs] = [52, 384];
    const once = run(target, unpack(outputs, inputs, weightsOf(outputs, inputs))).weight.values;
    const twice = run(target, unpack(outputs, inputs, Float32Array.from(once)));
    expectClose(twice, { weight: once }, { absolute: 0, relative: 1e-6 });
  });

  it("leaves less error than the scale of the largest weight alone, w / -8", () => {
    const [outputs, inputs] = [8, 256];
    const weight = weightsOf(outputs, inputs);
    const { codes, scales } = run(target, pack(outputs, inputs, weight));
    let error = 0;
    let plain = 0;
    for (let o = 0; o < outputs; o++) {
      for (let g = 0; g < inputs; g += 32) {
        const group = weight.slice(o * inputs + g, o * inputs + g + 32);
        const extreme = group.reduce((most, w) => (Math.abs(w) > Math.abs(most) ? w : most), 0);
        group.forEach((w, i) => {
          error += (w - scales.values[g / 4 + o]! * codeAt(codes.values, o, g + i, inputs)) ** 2;
          plain +=
            (w - (extreme / -8) * Math.max(-8, Math.min(7, Math.round((w * -8) / extreme)))) ** 2;
        });
      }
    }
    expect(error / plain).toBeLessThan(0.9);
  });

  it("keeps each weight of a group that is a multiple of one scale in -8 … 7", () => {
    const weight = Float32Array.from({ length: 4 * 32 }, (_, i) => ((i % 16) - 8) / 4);
    const { codes, scales } = run(target, pack(4, 32, weight));
    weight.forEach((w, i) => {
      const o = Math.floor(i / 32);
      expect(scales.values[o]! * codeAt(codes.values, o, i % 32, 32)).toBeCloseTo(w, 6);
    });
  });

  it("gives a group of zeros the scale 0, and one of the least numbers a finite one", () => {
    const weight = new Float32Array(4 * 64).fill(1e-44, 32, 64);
    const { scales, sums } = run(target, pack(4, 64, weight));
    expect(scales.values[0]).toBe(0);
    expect([...scales.values, ...sums.values].every(Number.isFinite)).toBe(true);
  });
});

describe("node: packInt4 by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    await expectTeamInvariance(
      Object.fromEntries(
        SHAPES.flatMap(([o, i]) => [
          [`[${o}, ${i}]`, pack(o, i, weightsOf(o, i))],
          [`dequantizeInt4 [${o}, ${i}]`, unpack(o, i, weightsOf(o, i))],
        ]),
      ),
    );
  });
});
