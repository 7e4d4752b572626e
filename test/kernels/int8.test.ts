import { describe, expect, it } from "vitest";
import { quantizedWeight } from "../../src/runtime/scratch.ts";
import { quantizeInt8 } from "../oracle/int8.ts";
import {
  expectClose,
  expectSameBits,
  type Program,
  type Result,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const SHAPES: readonly (readonly [outputs: number, inputs: number])[] = [
  ...[4, 8, 12, 16, 52].map((outputs) => [outputs, 16] as const),
  ...[4, 8, 12, 380, 384, 1540].map((inputs) => [12, inputs] as const),
];

/** Of these all four weights of a lane are large somewhere, so that scales grow. */
const flat = (outputs: number, inputs: number): Float32Array => uniform(2, outputs * inputs);
/** Of these, as of the weights of models, hardly anywhere. */
const peaked = (outputs: number, inputs: number): Float32Array =>
  flat(outputs, inputs).map((w) => w ** 3);

const pack =
  (outputs: number, inputs: number, weight: Float32Array): Program<"codes" | "scales" | "sums"> =>
  (m) => {
    const sizes = quantizedWeight(8, outputs, inputs);
    const codes = m.bytes(sizes.codes);
    const scales = m.output(sizes.scales);
    const sums = m.output(outputs);
    const w = m.input(weight, outputs, inputs).ptr;
    m.k.packInt8(codes.ptr, scales.ptr, sums.ptr, w, outputs, inputs);
    return { codes, scales, sums };
  };

const unpack =
  (outputs: number, inputs: number, weight: Float32Array): Program<"weight"> =>
  (m) => {
    const { codes, scales } = pack(outputs, inputs, weight)(m);
    const found = m.output(outputs, inputs);
    m.k.dequantizeInt8(found.ptr, codes.ptr, scales.ptr, outputs, inputs);
    return { weight: found };
  };

/** Where the code of an output and an input lies among the packed ones. */
const at = (o: number, k: number, inputs: number): number =>
  (o >> 3) * 8 * inputs + (k >> 2) * 32 + (o & 7) * 4 + (k & 3);

describe.each(TARGETS)("%s: packInt8", (target) => {
  describe.each([
    ["uniform", flat],
    ["peaked", peaked],
  ] as const)("of %s weights", (_, make) => {
    it.each(SHAPES)("equals the oracle, code for code, [%d, %d]", (outputs, inputs) => {
      const weight = make(outputs, inputs);
      const oracle = quantizeInt8(weight, outputs, inputs);
      const found = run(target, pack(outputs, inputs, weight));
      // Behind the last output of the last panel all is zero.
      const codes = new Int8Array(found.codes.values.length);
      const scales = new Float64Array(found.scales.values.length);
      const sums = new Float64Array(outputs);
      oracle.codes.forEach((q, i) => {
        const o = Math.floor(i / inputs);
        codes[at(o, i % inputs, inputs)] = q;
        sums[o]! += oracle.scales[o]! * q;
      });
      scales.set(oracle.scales);
      expectClose({ codes: found.codes }, { codes }, { absolute: 0 });
      expectClose({ scales: found.scales }, { scales }, { absolute: 0, relative: 1e-6 });
      expectClose({ sums: found.sums }, { sums }, { absolute: 1e-6, relative: 1e-6 });
      expectSameBits(found, run("node", pack(outputs, inputs, weight)), target);
    });
  });

  it.each(SHAPES)("is undone but for rounding by dequantizeInt8, [%d, %d]", (outputs, inputs) => {
    const weight = flat(outputs, inputs);
    const { codes, scales } = run(target, pack(outputs, inputs, weight));
    const found = run(target, unpack(outputs, inputs, weight));
    const expected = Float32Array.from(weight, (_, i) => {
      const o = Math.floor(i / inputs);
      return scales.values[o]! * codes.values[at(o, i % inputs, inputs)]!;
    });
    expectClose(found, { weight: expected }, { absolute: 0 });
    weight.forEach((w, i) => {
      expect(Math.abs(expected[i]! - w)).toBeLessThan(
        0.5001 * scales.values[Math.floor(i / inputs)]!,
      );
    });
  });

  it("gives what dequantizeInt8 made the codes it had, of outputs whose scale had not grown", () => {
    const [outputs, inputs] = [52, 384];
    const weight = peaked(outputs, inputs).map((w) => w ** 5);
    const { codes } = run(target, pack(outputs, inputs, weight));
    const unpacked = run(target, unpack(outputs, inputs, weight)).weight.values;
    const again = run(target, pack(outputs, inputs, Float32Array.from(unpacked)));
    const rowOf = (packed: Result, o: number): number[] =>
      Array.from({ length: inputs }, (_, k) => packed.values[at(o, k, inputs)]!);
    let whole = 0;
    for (let o = 0; o < outputs; o++) {
      const row = rowOf(codes, o);
      if (!row.some((q) => Math.abs(q) === 127)) continue;
      whole++;
      expect(rowOf(again.codes, o)).toEqual(row);
    }
    expect(whole).toBeGreaterThan(outputs / 2);
  });

  it("keeps the largest weight of an output at ±127 where no lane is near its limit", () => {
    const weight = Float32Array.of(0.5, 0, 0, -1, 0, 0.1, 0, 0);
    const { codes, scales } = run(
      target,
      pack(
        1 * 4,
        8,
        new Float32Array(32).map((_, i) => weight[i % 8]!),
      ),
    );
    expect([0, 3, 5].map((k) => codes.values[at(2, k, 8)])).toEqual([64, -127, 13]);
    expect(scales.values[2]).toBeCloseTo(1 / 127, 9);
  });

  it("lets codes of one sign in a lane sum to 258 at most, as 127 · 258 < 2¹⁵", () => {
    const [outputs, inputs] = [8, 64];
    for (const weight of [flat(outputs, inputs), new Float32Array(outputs * inputs).fill(-3)]) {
      const { codes } = run(target, pack(outputs, inputs, weight));
      for (let o = 0; o < outputs; o++) {
        for (let k = 0; k < inputs; k += 8) {
          for (const lane of [k, k + 2]) {
            const q = [0, 1, 4, 5].map((i) => codes.values[at(o, lane + i, inputs)]!);
            for (const sign of [1, -1]) {
              const sum = q.reduce((total, code) => total + Math.max(0, sign * code), 0);
              expect(sum).toBeLessThanOrEqual(258);
            }
          }
        }
      }
    }
  });

  it("gives an output of zeros, or of weights too small for a scale, codes of 0", () => {
    const weight = new Float32Array(32).fill(1e-42, 8);
    const { codes, sums } = run(target, pack(4, 8, weight));
    expect(codes.values.every((q) => q === 0)).toBe(true);
    expect([...sums.values]).toEqual([0, 0, 0, 0]);
  });
});

describe("node: packInt8 by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    await expectTeamInvariance(
      Object.fromEntries(
        SHAPES.flatMap(([o, i]) => [
          [`[${o}, ${i}]`, pack(o, i, flat(o, i))],
          [`dequantizeInt8 [${o}, ${i}]`, unpack(o, i, flat(o, i))],
        ]),
      ),
    );
  });
});
