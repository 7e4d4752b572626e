import { describe, expect, it } from "vitest";
import { gelu, tanhGelu } from "../oracle/activation.ts";
import { centralDifferences, plus } from "../oracle/differences.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  type Program,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const COUNTS = [0, 4, 8, 12, 60, 64, 68, 1000];
const inputs = (count: number): Float32Array => uniform(1, count, -6, 6);

type Forward = "geluForward" | "geluExactForward" | "tanhForward";
type Backward = "geluBackward" | "tanhBackward";

const forward =
  (kernel: Forward, x: Float32Array, inPlace = false, form = 0): Program<"y"> =>
  (m) => {
    const xs = m.input(x, x.length);
    const y = inPlace ? xs : m.output(x.length);
    m.k[kernel](y.ptr, xs.ptr, x.length, form);
    return { y };
  };

/** `saved` is x for GELU and y for tanh. */
const backward =
  (kernel: Backward, saved: Float32Array, inPlace = false, form = 0): Program<"dx"> =>
  (m) => {
    const count = saved.length;
    const dy = m.input(uniform(2, count), count);
    const dx = inPlace ? dy : m.output(count);
    m.k[kernel](dx.ptr, dy.ptr, m.input(saved, count).ptr, count, form);
    return { dx };
  };

const add =
  (count: number, inPlace = false): Program<"y"> =>
  (m) => {
    const a = m.input(uniform(1, count), count);
    const y = inPlace ? a : m.output(count);
    m.k.addForward(y.ptr, a.ptr, m.input(uniform(2, count), count).ptr, count);
    return { y };
  };

const zero =
  (offset: number, bytes: number): Program<"all"> =>
  (m) => {
    const all = m.input(uniform(1, 100), 100);
    m.k.zero(all.ptr + offset, bytes);
    return { all };
  };

/** dy · f'(x), by differences of f at every element. */
function slopeTimes(f: (x: number) => number, x: Float32Array): Float64Array {
  const dy = uniform(2, x.length);
  return Float64Array.from(x, (value, i) => {
    const at = Float64Array.of(value);
    return dy[i]! * centralDifferences(() => f(at[0]!), at)[0]!;
  });
}

/** GELU's bounds are of the factor of x. */
const FUNCTIONS = [
  { kernel: "geluForward", form: 0, f: gelu, absolute: 3e-7, relative: 3e-7 },
  { kernel: "geluForward", form: 1, f: tanhGelu, absolute: 2e-7, relative: 2e-7 },
  { kernel: "geluExactForward", form: 0, f: gelu, absolute: 3e-7, relative: 3e-7 },
  { kernel: "geluExactForward", form: 1, f: tanhGelu, absolute: 2e-7, relative: 2e-7 },
  { kernel: "tanhForward", form: 0, f: Math.tanh, absolute: 4e-7, relative: 0 },
] as const;

describe.each(INFERENCE_TARGETS)("%s: activations", (target) => {
  // Edge fuses it into the product before.
  const functions = FUNCTIONS.filter(
    ({ kernel }) => target !== "edge" || kernel !== "geluExactForward",
  );

  describe.each(functions)("$kernel, form $form", ({ kernel, form, f, absolute, relative }) => {
    it.each(COUNTS)("equals the float64 oracle, count %d", (count) => {
      const x = inputs(count);
      const scale = kernel === "tanhForward" ? 1 : 6;
      const y = Float64Array.from(x, f);
      const found = run(target, forward(kernel, x, false, form));
      expectClose(found, { y }, { absolute: absolute * scale, relative });
    });

    it("may overwrite its input", () => {
      const x = inputs(60);
      const apart = run(target, forward(kernel, x, false, form));
      expectSameBits(run(target, forward(kernel, x, true, form)), apart, "in place");
    });
  });

  it.each(functions.filter(({ kernel }) => kernel !== "geluForward"))(
    "$kernel, form $form, has the bits of node",
    ({ kernel, form }) => {
      const program = forward(kernel, inputs(4096), false, form);
      expectSameBits(run(target, program), run("node", program), target);
    },
  );

  it.each([0, 1])("gelu(x) - gelu(-x) = x, form %d", (form) => {
    const x = inputs(1000);
    const minus = x.map((v) => -v);
    const { y } = run(target, forward("geluForward", x, false, form));
    const mirrored = run(target, forward("geluForward", minus, false, form)).y;
    const values = y.values.map((v, i) => v - mirrored.values[i]!);
    expectClose({ x: { shape: y.shape, values } }, { x }, { absolute: 1e-6 });
  });

  it.each([0, 1])(
    "gelu stays within 3e-7 |x| of 0 for large negative x, and of x for large positive x, form %d",
    (form) => {
      const x = Float32Array.of(-1e30, -1000, -100, -6, 6, 100, 1000, 1e30);
      const { y } = run(target, forward("geluForward", x, false, form));
      y.values.forEach((value, i) => {
        expect(Math.abs(value - Math.max(0, x[i]!)) / Math.abs(x[i]!)).toBeLessThan(3e-7);
      });
    },
  );

  it.each([0, 1])("gelu of what is no number, of either sign, is none, form %d", (form) => {
    const x = new Float32Array(Uint32Array.of(0x7fc00000, 0xffc00000, 0, 0).buffer);
    const { y } = run(target, forward("geluForward", x, false, form));
    expect([...y.values]).toEqual([NaN, NaN, 0, 0]);
  });

  it("tanh is odd, bit for bit", () => {
    const x = inputs(1000);
    const { y } = run(target, forward("tanhForward", x));
    const mirrored = run(
      target,
      forward(
        "tanhForward",
        x.map((v) => -v),
      ),
    );
    const negated = { shape: y.shape, values: y.values.map((v) => -v) };
    expectSameBits(mirrored, { y: negated }, "tanh(-x)");
  });
});

const SLOPE = { absolute: 5e-7 };

describe.each(TARGETS)("%s: gradients of activations", (target) => {
  describe.each([
    { form: 0, f: gelu },
    { form: 1, f: tanhGelu },
  ])("geluBackward, form $form", ({ form, f }) => {
    it.each(COUNTS)("equals central differences of the oracle, count %d", (count) => {
      const x = inputs(count);
      const dx = slopeTimes(f, x);
      expectClose(run(target, backward("geluBackward", x, false, form)), { dx }, SLOPE);
    });

    it("is no number where the input is none, of either sign", () => {
      const x = new Float32Array(Uint32Array.of(0x7fc00000, 0xffc00000, 0, 0).buffer);
      const { dx } = run(target, backward("geluBackward", x, false, form));
      expect([...dx.values].map(Number.isNaN)).toEqual([true, true, false, false]);
    });

    it("is 0 or dy for inputs far out", () => {
      const x = Float32Array.of(-1e30, -1000, -100, -20, 20, 100, 1000, 1e30);
      const dx = uniform(2, 8).map((d, i) => (x[i]! > 0 ? d : 0));
      expectClose(run(target, backward("geluBackward", x, false, form)), { dx }, SLOPE);
    });
  });

  it.each(COUNTS)("tanhBackward equals central differences of the oracle, count %d", (count) => {
    const x = inputs(count);
    const dx = slopeTimes(Math.tanh, x);
    const y = x.map(Math.tanh);
    expectClose(run(target, backward("tanhBackward", y)), { dx }, { absolute: 3e-7 });
  });

  it.each(["geluBackward", "tanhBackward"] as const)("%s may overwrite dy", (kernel) => {
    const saved = uniform(1, 60);
    const apart = run(target, backward(kernel, saved));
    expectSameBits(run(target, backward(kernel, saved, true)), apart, "in place");
  });

  it.each(COUNTS)("addForward is the float32 sum, count %d", (count) => {
    const sum = plus(uniform(1, count), uniform(2, count)).map(Math.fround);
    expectClose(run(target, add(count)), { y: sum }, { absolute: 0 });
    expectClose(run(target, add(count, true)), { y: sum }, { absolute: 0 });
  });

  it.each([
    [0, 0],
    [0, 400],
    [0, 4],
    [4, 60],
    [4, 64],
    [4, 68],
    [36, 200],
  ])("zero clears its bytes and no other, from byte %d %d of them", (offset, bytes) => {
    const all = uniform(1, 100).fill(0, offset / 4, (offset + bytes) / 4);
    expectClose(run(target, zero(offset, bytes)), { all }, { absolute: 0 });
  });
});

describe("node: activations by a team", () => {
  it("of two or three have the bits of one rank", async () => {
    const programs = [0, 4, 8, 60, 1000].flatMap(
      (count) =>
        [
          [`geluForward ${count}`, forward("geluForward", inputs(count))],
          [`geluForward, tanh ${count}`, forward("geluForward", inputs(count), false, 1)],
          [`geluBackward, tanh ${count}`, backward("geluBackward", inputs(count), true, 1)],
          [`geluExactForward ${count}`, forward("geluExactForward", inputs(count))],
          [`tanhForward ${count}`, forward("tanhForward", inputs(count))],
          [`addForward ${count}`, add(count)],
          [`geluBackward ${count}`, backward("geluBackward", inputs(count), true)],
          [`tanhBackward ${count}`, backward("tanhBackward", uniform(1, count))],
          [`zero ${count}`, zero(4, Math.min(count, 392))],
        ] as const,
    );
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
