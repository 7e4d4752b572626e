import { describe, expect, it } from "vitest";
import {
  type Bits,
  linearQuantizedScratch,
  quantizedActivations,
  quantizedWeight,
} from "../../src/runtime/scratch.ts";
import { gelu, tanhGelu } from "../oracle/activation.ts";
import { quantizeInt4 } from "../oracle/int4.ts";
import { quantizeInt8 } from "../oracle/int8.ts";
import { linear } from "../oracle/linear.ts";
import { linearQuantized } from "../oracle/linear-quantized.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  type Machine,
  once,
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
  readonly bits: Bits;
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

const shape = (bits: Bits, rows: number, inputs: number, outputs: number): Case => ({
  name: `int${bits} [${rows}, ${inputs}] · [${outputs}, ${inputs}]ᵀ`,
  bits,
  rows,
  inputs,
  outputs,
});

const CASES: readonly Case[] = ([8, 4] as const).flatMap((bits) => [
  ...[...ROWS, 31, 32, 33].map((rows) => shape(bits, rows, 16, 20)),
  ...[4, 8, 12, 16, 52].map((outputs) => shape(bits, 5, 16, outputs)),
  ...[4, 8, 12, 28, 32, 36, 380, 384, 388, 1540].map((inputs) => shape(bits, 5, inputs, 12)),
  shape(bits, 66, 388, 52),
]);

interface Values {
  readonly x: Float32Array;
  readonly weight: Float32Array;
  readonly bias: Float32Array;
  readonly residual: Float32Array;
}

const valuesOf = ({ rows, inputs, outputs }: Case): Values => ({
  x: uniform(1, rows * inputs, -1, 3),
  weight: uniform(2, outputs * inputs),
  bias: uniform(3, outputs),
  residual: uniform(4, rows * outputs),
});

type Packed = Results<"codes" | "scales" | "sums">;

const pack =
  ({ bits, inputs, outputs }: Case, { weight }: Values): Program<"codes" | "scales" | "sums"> =>
  (m) => {
    const sizes = quantizedWeight(bits, outputs, inputs);
    const codes = m.bytes(sizes.codes);
    const scales = m.output(sizes.scales);
    const sums = m.output(outputs);
    const w = m.input(weight, outputs, inputs).ptr;
    m.k[`packInt${bits}`](codes.ptr, scales.ptr, sums.ptr, w, outputs, inputs);
    return { codes, scales, sums };
  };

/** What else a product does. */
interface Epilogue {
  readonly biased?: boolean;
  readonly residual?: "apart" | "in place";
}

/** Addresses of quantised x, of a weight that node packed (edge only loads such), and of scratch. */
function operands(
  m: Machine,
  { bits, rows, inputs, outputs }: Case,
  { x }: Values,
  { codes, scales, sums }: Packed,
): { input: number; weight: readonly [number, number, number]; bits: Bits; scratch: number } {
  const input = m.bytes(quantizedActivations(rows, inputs)).ptr;
  m.k.quantizeActivations(input, m.input(x, rows, inputs).ptr, rows, inputs);
  const placed = [scales, sums].map(({ values }) => m.input(values, values.length).ptr);
  const weight = [m.codes(codes.values, codes.values.length).ptr, ...placed] as const;
  return {
    input,
    weight: weight as unknown as readonly [number, number, number],
    bits,
    scratch: m.scratch(linearQuantizedScratch(inputs, outputs, m.ranks)),
  };
}

const forward =
  (c: Case, v: Values, packed: Packed, { biased = true, residual }: Epilogue = {}): Program<"y"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const { input, weight, bits, scratch } = operands(m, c, v, packed);
    const bias = biased ? m.input(v.bias, outputs).ptr : 0;
    const added = residual ? m.input(v.residual, rows, outputs) : undefined;
    const y = added && residual === "in place" ? added : m.output(rows, outputs);
    // prettier-ignore
    m.k.linearQuantizedForward(y.ptr, 0, input, ...weight, bias, added?.ptr ?? 0, rows, inputs, outputs, 0, bits, scratch);
    return { y };
  };

const fused =
  (c: Case, v: Values, packed: Packed, form: number): Program<"active"> =>
  (m) => {
    const { rows, inputs, outputs } = c;
    const { input, weight, bits, scratch } = operands(m, c, v, packed);
    const bias = m.input(v.bias, outputs).ptr;
    const active = m.bytes(quantizedActivations(rows, outputs));
    // prettier-ignore
    m.k.linearQuantizedForward(0, active.ptr, input, ...weight, bias, 0, rows, inputs, outputs, form, bits, scratch);
    return { active };
  };

/** The same in three calls. */
const apart =
  (c: Case, v: Values, packed: Packed, form: number): Program<"active"> =>
  (m) => {
    const { y } = forward(c, v, packed)(m);
    const active = m.bytes(quantizedActivations(c.rows, c.outputs));
    m.k.geluExactForward(y.ptr, y.ptr, c.rows * c.outputs, form);
    m.k.quantizeActivations(active.ptr, y.ptr, c.rows, c.outputs);
    return { active };
  };

/** The values of a case, its weight packed by node, and what the oracle makes of it. */
const PREPARED = CASES.map((c) => {
  const v = valuesOf(c);
  const weight = once(() => {
    const quantizeWeight = c.bits === 8 ? quantizeInt8 : quantizeInt4;
    return quantizeWeight(v.weight, c.outputs, c.inputs);
  });
  return {
    ...c,
    v,
    packed: once(() => run("node", pack(c, v))),
    oracle: (bias?: Float32Array, residual?: Float32Array): Float64Array =>
      linearQuantized(v.x, weight(), bias, residual, c.rows, c.inputs, c.outputs),
  };
});

/** Sums of the sizes of `valuesOf`, added in float32. */
const close = ({ inputs }: Case): { absolute: number; relative: number } => ({
  absolute: 3e-7 * (8 + inputs / 4),
  relative: 2e-6,
});

describe.each(INFERENCE_TARGETS)("%s: linearQuantizedForward", (target) => {
  it.each(PREPARED)("equals the oracle on its codes, and has the bits of node, $name", (c) => {
    const { v, oracle } = c;
    const packed = c.packed();
    const expectOracle = (epilogue: Epilogue, y: Float64Array): void => {
      const found = run(target, forward(c, v, packed, epilogue));
      expectClose(found, { y }, close(c));
      expectSameBits(found, run("node", forward(c, v, packed, epilogue)), target);
    };
    expectOracle({}, oracle(v.bias));
    expectOracle({ biased: false }, oracle());
    expectOracle({ residual: "apart" }, oracle(v.bias, v.residual));
    expectOracle({ residual: "in place" }, oracle(v.bias, v.residual));
  });

  it.each(PREPARED)("quantises GELU as node does, $name", (c) => {
    for (const form of [0, 1]) {
      const program = fused(c, c.v, c.packed(), form);
      expectSameBits(run(target, program), run("node", program), target);
    }
  });

  it.each(PREPARED)("quantises GELU to half a scale, $name", (c) => {
    const { rows, outputs, v } = c;
    for (const [form, f] of [gelu, tanhGelu].entries()) {
      const { active } = run(target, fused(c, v, c.packed(), form));
      const { buffer } = active.values;
      const codes = new Int8Array(buffer, 0, rows * outputs);
      const scales = new Float32Array(buffer, rows * outputs, rows);
      const minima = new Float32Array(buffer, rows * (outputs + 4), rows);
      const y = c.oracle(v.bias).map(f);
      y.forEach((value, i) => {
        const [t, minimum] = [scales[Math.floor(i / outputs)]!, minima[Math.floor(i / outputs)]!];
        const error = Math.abs(minimum + t * codes[i]! - value);
        expect(error).toBeLessThan(0.5001 * t + 1e-5 * (1 + Math.abs(value)));
      });
    }
  });

  it.each([
    [8, 0.0025],
    [4, 0.025],
  ] as const)("of %d bits is within %d of |x| |w| of the float product", (bits, bound) => {
    for (const c of [shape(bits, 66, 388, 52), shape(bits, 5, 1540, 12)]) {
      const v = valuesOf(c);
      const { y } = run(target, forward(c, v, run("node", pack(c, v))));
      const product = linear(v.x, v.weight, v.bias, c.rows, c.inputs, c.outputs);
      // |x| ≈ √(inputs · 7 / 3) and |w| ≈ √(inputs / 3) for these values.
      expectClose({ y }, { y: product }, { absolute: bound * c.inputs * Math.sqrt(7 / 9) });
    }
  });

  it("adds the longest sums of the largest codes without overflow", () => {
    const x = new Float32Array(4096).fill(127).fill(0, 0, 1); // minimum 0, codes 127
    // Of eight inputs two make a lane of 127 + 127 + 4 + 0, the limit.
    const largest = [127, 127, 127, 127, 4, 0, 4, 0];
    for (const sign of [1, -1]) {
      const c = shape(8, 1, 4096, 8);
      const weight = Float32Array.from({ length: 8 * 4096 }, (_, i) => sign * largest[i % 8]!);
      const v = { ...valuesOf(c), x, weight, bias: new Float32Array(8) };
      const { y } = run(target, forward(c, v, run("node", pack(c, v))));
      const sum = sign * 127 * (512 * 516 - 127);
      expectClose({ y }, { y: Array.from({ length: 8 }, () => sum) }, { absolute: 8 });
    }
    const c = shape(4, 1, 4096, 8);
    const v = {
      ...valuesOf(c),
      x,
      weight: new Float32Array(8 * 4096).fill(1),
      bias: new Float32Array(8),
    };
    const { y } = run(target, forward(c, v, run("node", pack(c, v))));
    expectClose({ y }, { y: Array.from({ length: 8 }, () => 127 * 4095) }, { absolute: 1 });
  });

  it.each([8, 4] as const)("gives a row the same bits in every batch, of %d bits", (bits) => {
    const all = shape(bits, 66, 388, 52);
    const v = valuesOf(all);
    const packed = run("node", pack(all, v));
    const { y } = run(target, forward(all, v, packed, { residual: "apart" }));
    for (const [first, last] of [
      [0, 1],
      [65, 66],
      [3, 10],
      [2, 66],
    ] as const) {
      const part = shape(bits, last - first, all.inputs, all.outputs);
      const x = v.x.slice(first * all.inputs, last * all.inputs);
      const residual = v.residual.slice(first * all.outputs, last * all.outputs);
      const found = run(
        target,
        forward(part, { ...v, x, residual }, packed, { residual: "apart" }),
      );
      expectSameBits(found, { y: rowsOf(y, first, last) }, `rows ${first} to ${last} alone`);
    }
  });
});

describe.each(TARGETS)("%s: the fused GELU", (target) => {
  it.each(PREPARED)("has the bits of product, GELU and quantisation apart, $name", (c) => {
    for (const form of [0, 1]) {
      const expected = run(target, apart(c, c.v, c.packed(), form));
      expectSameBits(run(target, fused(c, c.v, c.packed(), form)), expected, `form ${form}`);
    }
  });
});

describe("node: quantised products by a team", () => {
  it("of two or three have the bits of one rank", async () => {
    const cases = ([8, 4] as const).flatMap((bits) => [
      ...[0, 1, 2, 4, 5, 8, 9, 12, 13, 65, 130].map((rows) => shape(bits, rows, 20, 52)),
      shape(bits, 1, 8, 4),
      shape(bits, 3, 1540, 12),
    ]);
    const programs = cases.flatMap((c) => {
      const v = valuesOf(c);
      const packed = run("node", pack(c, v));
      return [
        [`y ${c.name}`, forward(c, v, packed, { residual: "in place" })] as const,
        [`active ${c.name}`, fused(c, v, packed, 0)] as const,
      ];
    });
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
