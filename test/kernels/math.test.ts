import { describe, expect, it } from "vitest";
import { attentionForwardScratch, infoNceScratch } from "../../src/runtime/scratch.ts";
import { erf, geluSlope, tanhGelu, tanhGeluSlope } from "../oracle/activation.ts";
import { expectClose, expectSameBits, type Program, run, TARGETS, uniform } from "./harness.ts";

/**
 * The elementary functions are no exports, so their bounds are measured through kernels that apply little else: exp
 * through the gradient of InfoNCE's logits, 2ˣ through attention, log through their log Σ exp, erf through GELU, tanh through itself.
 */

const POINTS = 1 << 16;

/** Evenly spaced points, rounded to float32. */
const sweep = (low: number, high: number, count: number = POINTS): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

/** With 1 / (rows · τ) = 1 and log Σ exp = 0, the gradient of a logit off the diagonal is its exponential. */
const exponentials =
  (x: Float32Array): Program<"exp"> =>
  (m) => {
    const [rows, cols, dimension] = [64, 128, 4];
    const exp = m.input(x, rows, cols);
    const units = (n: number): number => m.input(uniform(1, n * dimension), n, dimension).ptr;
    const zeros = (n: number): number => m.input(new Float32Array(n), n).ptr;
    m.k.infoNceBackward(
      m.output(rows, dimension).ptr,
      m.output(cols, dimension).ptr,
      exp.ptr,
      zeros(rows),
      0,
      units(rows),
      units(cols),
      zeros(rows),
      zeros(cols),
      rows,
      cols,
      dimension,
      1 / rows,
      1,
      m.scratch(infoNceScratch(rows, cols, dimension, 1)),
    );
    return { exp };
  };

/** Whether element i of [64, 128] is off the diagonal. */
const offDiagonal = (_: number, i: number): boolean => i % 129 !== 0;

/** Anchors and keys without direction have equal logits; the weight w of the hard negative makes log(1 + exp w). */
const logOnePlusExp =
  (weights: Float32Array): Program<"log"> =>
  (m) => {
    const log = m.output(weights.length);
    const out = (n: number): number => m.output(n).ptr;
    const [loss, logits, anchorUnits, keyUnits] = [out(1), out(2), out(4), out(8)];
    const [anchorScales, keyScales] = [out(1), out(2)];
    const [anchors, keys] = [4, 8].map((n) => m.input(new Float32Array(n), n).ptr);
    const scratch = m.scratch(infoNceScratch(1, 2, 4, 1));
    weights.forEach((w, i) => {
      m.k.infoNceForward(
        loss,
        logits,
        log.ptr + 4 * i,
        0,
        anchorUnits,
        keyUnits,
        anchorScales,
        keyScales,
        anchors!,
        keys!,
        0,
        0,
        1,
        2,
        4,
        1,
        w,
        1,
        scratch,
      );
    });
    return { log };
  };

/** What attention multiplies keys by for a head of 4: 1 / √4, in units of ln 2. */
const KEY_SCALE = Math.fround(0.5 * Math.fround(Math.LOG2E));

/** Pairs of tokens, the first of which has the logits 0 and x: its context is 1 / (1 + 2ˣ) and 2ˣ / (1 + 2ˣ). */
const powers =
  (keys: Float32Array): Program<"context"> =>
  (m) => {
    const pairs = keys.length;
    const qkv = new Float32Array(pairs * 24);
    keys.forEach((key, i) => {
      qkv.set([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 24 * i);
      qkv.set([0, 0, 0, 0, key, 0, 0, 0, 0, 1, 0, 0], 24 * i + 12);
    });
    const context = m.output(2 * pairs, 4);
    const offsets = m.ints(Int32Array.from({ length: pairs + 1 }, (_, i) => 2 * i)).ptr;
    const scratch = m.scratch(attentionForwardScratch(2, 4, 1));
    // prettier-ignore
    m.k.attentionForward(context.ptr, 0, 0, m.input(qkv, pairs * 2, 12).ptr, offsets, pairs, 2, 1, 4, 0, 0, 0, 0, scratch);
    return { context };
  };

const pointwise =
  (
    kernel: "geluForward" | "geluExactForward" | "tanhForward",
    x: Float32Array,
    form = 0,
  ): Program<"y"> =>
  (m) => {
    const y = m.output(x.length);
    m.k[kernel](y.ptr, m.input(x, x.length).ptr, x.length, form);
    return { y };
  };

const slopes =
  (x: Float32Array, form = 0): Program<"dx"> =>
  (m) => {
    const dx = m.output(x.length);
    const ones = m.input(new Float32Array(x.length).fill(1), x.length);
    m.k.geluBackward(dx.ptr, ones.ptr, m.input(x, x.length).ptr, x.length, form);
    return { dx };
  };

const FUNCTIONS: readonly { name: string; program: Program<string> }[] = [
  { name: "exp", program: exponentials(sweep(-20, 20, 64 * 128)) },
  { name: "log", program: logOnePlusExp(sweep(-30, 30, 2000)) },
  { name: "erf", program: pointwise("geluExactForward", sweep(-8, 8)) },
  { name: "tanh GELU", program: pointwise("geluExactForward", sweep(-12, 12), 1) },
  { name: "tanh", program: pointwise("tanhForward", sweep(-9, 9)) },
];

describe.each(TARGETS)("%s", (target) => {
  it.each([
    [-87, 88],
    [-20, 20],
    [-1, 1],
    [-1e-3, 1e-3],
  ])("exp has relative error below 3e-7 on [%d, %d]", (low, high) => {
    const x = sweep(low, high, 64 * 128);
    const { exp: found } = run(target, exponentials(x));
    const values = found.values.filter(offDiagonal) as Float32Array;
    const expected = x.filter(offDiagonal);
    expectClose(
      { exp: { shape: [values.length], values } },
      { exp: Float64Array.from(expected, Math.exp) },
      { absolute: 0, relative: 3e-7 },
    );
  });

  it("exp of what is masked is as small as that of -87, and no less", () => {
    const x = new Float32Array(64 * 128);
    x.set([-1e30, -1000, -88, -87], 1);
    const { exp: found } = run(target, exponentials(x));
    expectClose(
      { exp: { shape: [4], values: found.values.slice(1, 5) } },
      { exp: [-87, -87, -87, -87].map(Math.exp) },
      { absolute: 0, relative: 3e-7 },
    );
  });

  it.each([-120, -1])("2 to the power of x has relative error below 3e-7 on [%d, 0]", (low) => {
    const keys = sweep(low, 0, 4096).map((x) => x / KEY_SCALE);
    const { context } = run(target, powers(keys));
    const found = Float32Array.from(
      keys,
      (_, i) => context.values[8 * i + 1]! / context.values[8 * i]!,
    );
    const expected = Float64Array.from(keys, (key) => 2 ** Math.fround(key * KEY_SCALE));
    expectClose(
      { power: { shape: [keys.length], values: found } },
      { power: expected },
      { absolute: 0, relative: 3e-7 },
    );
  });

  it("log(1 + exp w) has error below 2e-7 + 2e-7 |w| on [-30, 30]", () => {
    const weights = sweep(-30, 30, 2000);
    const { log } = run(target, logOnePlusExp(weights));
    const expected = Float64Array.from(weights, (w) => Math.log1p(Math.exp(w)));
    expectClose({ log }, { log: expected }, { absolute: 2e-7, relative: 2e-7 });
  });

  it("erf has absolute error below 4e-7, and GELU no more than 2e-7 on top of it", () => {
    const x = sweep(-8, 8).filter((v) => Math.abs(v) > 1e-3);
    const { y } = run(target, pointwise("geluForward", x));
    const found = { shape: y.shape, values: y.values.map((v, i) => (2 * v) / x[i]! - 1) };
    const expected = Float64Array.from(x, (v) => erf(v / Math.SQRT2));
    expectClose({ erf: found }, { erf: expected }, { absolute: 6e-7 });
  });

  it("the slope of GELU has absolute error below 4e-7", () => {
    const x = sweep(-12, 12);
    const expected = Float64Array.from(x, geluSlope);
    expectClose(run(target, slopes(x)), { dx: expected }, { absolute: 4e-7 });
  });

  it("the tanh form of GELU has absolute error below 2e-7 |x|, and its slope below 4e-7", () => {
    const x = sweep(-12, 12);
    const { y } = run(target, pointwise("geluForward", x, 1));
    const factor = { shape: y.shape, values: y.values.map((v, i) => v / x[i]!) };
    const expected = Float64Array.from(x, (v) => tanhGelu(v) / v);
    expectClose({ factor }, { factor: expected }, { absolute: 2e-7 });
    const dx = Float64Array.from(x, tanhGeluSlope);
    expectClose(run(target, slopes(x, 1)), { dx }, { absolute: 4e-7 });
  });

  it("tanh has absolute error below 4e-7, and relative error below 4e-7 on [-1, 1]", () => {
    const wide = sweep(-12, 12);
    const y = Float64Array.from(wide, Math.tanh);
    expectClose(run(target, pointwise("tanhForward", wide)), { y }, { absolute: 4e-7 });
    const narrow = sweep(-1, 1);
    expectClose(
      run(target, pointwise("tanhForward", narrow)),
      { y: Float64Array.from(narrow, Math.tanh) },
      { absolute: 0, relative: 4e-7 },
    );
  });

  it("tanh saturates at ±1", () => {
    const x = Float32Array.of(-Infinity, -1e30, -20, 20, 1e30, Infinity, 0, 0);
    const { y } = run(target, pointwise("tanhForward", x));
    expect([...y.values]).toEqual([-1, -1, -1, 1, 1, 1, 0, 0]);
  });

  it.each(FUNCTIONS)("$name has the bits of node: nothing in it fuses", ({ program }) => {
    expectSameBits(run(target, program), run("node", program), target);
  });
});
