import { describe, expect, it } from "vitest";
import { infoNceScratch } from "../../src/runtime/scratch.ts";
import { centralDifferences, dot } from "../oracle/differences.ts";
import { infoNce, type InfoNce } from "../oracle/infonce.ts";
import { normalize } from "../oracle/pooling.ts";
import {
  expectClose,
  integers,
  once,
  type Program,
  ROWS,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case extends InfoNce {
  readonly name: string;
  readonly ids: boolean;
}

const shape = (
  rows: number,
  dimension: number,
  options: {
    hard?: boolean;
    weight?: number;
    ids?: boolean;
    temperature?: number;
    symmetric?: boolean;
    dot?: boolean;
  } = {},
): Case => {
  const { hard = false, weight = 0, ids = false, temperature = 0.05 } = options;
  const { symmetric = false, dot: inner = false } = options;
  const cols = hard ? 2 * rows : rows;
  return {
    name:
      `[${rows}, ${dimension}] against ${cols}, τ = ${temperature}` +
      `${hard ? `, hard negatives of weight ${weight}` : ""}${ids ? ", with ids" : ""}${symmetric ? ", symmetric" : ""}${inner ? ", inner product" : ""}`,
    symmetric,
    dot: inner,
    rows,
    cols,
    dimension,
    temperature,
    hardNegativeWeight: weight,
    ids,
    // Few different ids, so that many keys are false negatives.
    anchorIds: ids ? integers(5, rows, Math.ceil(rows / 2)) : undefined,
    keyIds: ids ? integers(6, cols, Math.ceil(rows / 2)) : undefined,
  };
};

const CASES: readonly Case[] = [
  ...ROWS.filter((rows) => rows > 0).flatMap((rows) => [
    shape(rows, 8),
    shape(rows, 4, { hard: true, weight: 0.5, ids: true, temperature: 0.1 }),
  ]),
  ...[4, 12, 20, 384].map((dimension) => shape(6, dimension, { temperature: 1 })),
  shape(7, 12, { ids: true }),
  shape(6, 12, { hard: true }),
  shape(6, 12, { hard: true, weight: -2 }),
  ...[1, 2, 5, 8, 13].map((rows) => shape(rows, 8, { symmetric: true, temperature: 0.1 })),
  shape(7, 12, { symmetric: true, hard: true, weight: 0.5, ids: true, temperature: 0.2 }),
  shape(6, 12, { dot: true, temperature: 2 }),
  shape(5, 8, { dot: true, symmetric: true, hard: true, temperature: 2 }),
];

const anchorsOf = (c: Case): Float32Array => uniform(1, c.rows * c.dimension, -2, 2);
const keysOf = (c: Case): Float32Array => uniform(2, c.cols * c.dimension, -1, 1.5);

type Outputs = "loss" | "logits" | "logSumExp";

const forward =
  (c: Case, anchors = anchorsOf(c), keys = keysOf(c)): Program<Outputs> =>
  (m) => {
    const { rows, cols, dimension } = c;
    const loss = m.output(1);
    const logits = m.output(rows, cols);
    const logSumExp = m.output(rows);
    const columnLogSumExp = c.symmetric ? m.output(rows) : undefined;
    const [anchorUnits, keyUnits] = [m.output(rows, dimension), m.output(cols, dimension)];
    const [anchorScales, keyScales] = [m.output(rows), m.output(cols)];
    m.k.infoNceForward(
      loss.ptr,
      logits.ptr,
      logSumExp.ptr,
      columnLogSumExp?.ptr ?? 0,
      anchorUnits.ptr,
      keyUnits.ptr,
      anchorScales.ptr,
      keyScales.ptr,
      m.input(anchors, rows, dimension).ptr,
      m.input(keys, cols, dimension).ptr,
      c.anchorIds ? m.ints(c.anchorIds).ptr : 0,
      c.keyIds ? m.ints(c.keyIds).ptr : 0,
      rows,
      cols,
      dimension,
      c.temperature,
      c.hardNegativeWeight,
      c.dot ? 0 : 1,
      m.scratch(infoNceScratch(rows, cols, dimension, m.ranks)),
    );
    return { loss, logits, logSumExp };
  };

/** The backward pass on what the oracle's forward pass keeps. */
const backward =
  (c: Case, anchors = anchorsOf(c), keys = keysOf(c)): Program<"dAnchors" | "dKeys"> =>
  (m) => {
    const { rows, cols, dimension } = c;
    const { logits, logSumExp, columnLogSumExp } = infoNce(anchors, keys, c);
    const a = normalize(anchors, rows, dimension);
    const k = normalize(keys, cols, dimension);
    const columns = c.symmetric ? m.input(columnLogSumExp, rows).ptr : 0;
    const dAnchors = m.output(rows, dimension);
    const dKeys = m.output(cols, dimension);
    m.k.infoNceBackward(
      dAnchors.ptr,
      dKeys.ptr,
      m.input(logits, rows, cols).ptr,
      m.input(logSumExp, rows).ptr,
      columns,
      m.input(c.dot ? anchors : a.y, rows, dimension).ptr,
      m.input(c.dot ? keys : k.y, cols, dimension).ptr,
      m.input(a.scales, rows).ptr,
      m.input(k.scales, cols).ptr,
      rows,
      cols,
      dimension,
      c.temperature,
      c.dot ? 0 : 1,
      m.scratch(infoNceScratch(rows, cols, dimension, m.ranks)),
    );
    return { dAnchors, dKeys };
  };

const ORACLES = CASES.map((c) => ({
  c,
  name: c.name,
  outputs: once(() => infoNce(anchorsOf(c), keysOf(c), c)),
  gradients: once(() => {
    const anchors = Float64Array.from(anchorsOf(c));
    const keys = Float64Array.from(keysOf(c));
    const loss = (): number => infoNce(anchors, keys, c).loss[0]!;
    return {
      dAnchors: centralDifferences(loss, anchors),
      dKeys: centralDifferences(loss, keys),
    };
  }),
}));

describe.each(TARGETS)("%s: infoNceForward", (target) => {
  it.each(ORACLES)("equals the float64 oracle, $name", ({ c, outputs }) => {
    const found = run(target, forward(c));
    // A rounding of the cosine is multiplied by 1 / τ; a masked logit is the same constant in both.
    const absolute = 2e-7 + 3e-7 / c.temperature;
    expectClose(found, outputs(), { absolute, relative: 3e-7 });
  });

  it.each([1, 2, 5, 64])("of identical embeddings is log B, B = %d", (rows) => {
    const c = shape(rows, 8);
    const same = Float32Array.from({ length: rows * 8 }, (_, i) => Math.cos(i % 8));
    const { loss } = run(target, forward(c, same, same));
    expectClose({ loss }, { loss: [Math.log(rows)] }, { absolute: 3e-6 });
  });

  it("ignores the scale of every vector", () => {
    const c = shape(5, 12);
    const { loss } = run(target, forward(c));
    const scaled = anchorsOf(c).map((v) => 100 * v);
    const again = run(target, forward(c, scaled));
    expectClose({ loss: again.loss }, { loss: loss.values }, { absolute: 1e-5 });
  });

  it("of zero vectors is log B, with finite gradients", () => {
    const c = shape(4, 8, { temperature: 1 });
    const zeros = new Float32Array(32);
    const { loss, logits } = run(target, forward(c, zeros, keysOf(c)));
    expectClose({ loss }, { loss: [Math.log(4)] }, { absolute: 1e-6 });
    expect(logits.values.every((value) => value === 0)).toBe(true);
    const { dAnchors, dKeys } = run(target, backward(c, zeros, zeros));
    expect([...dAnchors.values, ...dKeys.values].every(Number.isFinite)).toBe(true);
  });

  it("leaves no negative where all ids are equal: the loss is 0, and so are the gradients", () => {
    const c = { ...shape(5, 8, { hard: true }), anchorIds: [7, 7, 7, 7, 7] };
    const all = { ...c, keyIds: [7, 7, 7, 7, 7, 7, 7, 7, 7, 7] };
    const { loss } = run(target, forward(all));
    expectClose({ loss }, { loss: [0] }, { absolute: 1e-6 });
    const { dAnchors, dKeys } = run(target, backward(all));
    const zeros = { dAnchors: new Float64Array(40), dKeys: new Float64Array(80) };
    expectClose({ dAnchors, dKeys }, zeros, { absolute: 1e-5 });
  });
});

describe.each(TARGETS)("%s: infoNceBackward", (target) => {
  it.each(ORACLES)(
    "equals central differences of the oracle in every element, $name",
    ({ c, gradients }) => {
      const found = run(target, backward(c));
      expectClose(found, gradients(), {
        absolute: 2e-6,
        relative: 2e-6,
      });
    },
  );

  it("sends nothing along a vector, since only its direction counts", () => {
    const c = shape(7, 12);
    const { dAnchors } = run(target, backward(c));
    const anchors = anchorsOf(c);
    for (let i = 0; i < 7; i++) {
      const [d, x] = [dAnchors.values, anchors].map((v) => v.slice(12 * i, 12 * i + 12));
      expect(Math.abs(dot(d!, x!))).toBeLessThan(1e-5);
    }
  });
});

describe.each(TARGETS)("%s: InfoNCE at temperature 0.001", (target) => {
  const cold = [
    shape(9, 12, { temperature: 1e-3 }),
    shape(9, 12, { temperature: 1e-3, hard: true, weight: 1, symmetric: true }),
  ];

  it.each(cold)("equals the oracle as closely as float32 cosines can, $name", (c) => {
    const { loss, logits, logSumExp } = infoNce(anchorsOf(c), keysOf(c), c);
    const found = run(target, forward(c));
    expect(Math.max(...logits.map(Math.abs))).toBeGreaterThan(500); // exp of it is no float32
    expectClose(
      { loss: found.loss, logSumExp: found.logSumExp },
      { loss, logSumExp },
      { absolute: 3e-4, relative: 3e-7 },
    );
  });

  it.each(cold)("has the gradient of the oracle to 1e-3 of its largest element, $name", (c) => {
    const anchors = Float64Array.from(anchorsOf(c));
    const keys = Float64Array.from(keysOf(c));
    const loss = (): number => infoNce(anchors, keys, c).loss[0]!;
    const dAnchors = centralDifferences(loss, anchors);
    const dKeys = centralDifferences(loss, keys);
    const largest = Math.max(...dAnchors.map(Math.abs), ...dKeys.map(Math.abs));
    expectClose(run(target, backward(c)), { dAnchors, dKeys }, { absolute: 1e-3 * largest });
  });

  it("has loss 0 and no gradient for pairs that agree, and stays finite for pairs that oppose", () => {
    const c = cold[0]!;
    const anchors = anchorsOf(c);
    const agreeing = run(target, forward(c, anchors, anchors));
    expectClose({ loss: agreeing.loss }, { loss: [0] }, { absolute: 1e-6 });
    const none = run(target, backward(c, anchors, anchors));
    for (const { values } of Object.values(none)) {
      expect(Math.max(...values.map(Math.abs))).toBeLessThan(1e-3);
    }
    const opposite = anchors.map((v) => -v);
    const { loss } = infoNce(anchors, opposite, c);
    const found = run(target, forward(c, anchors, opposite));
    expectClose({ loss: found.loss }, { loss }, { absolute: 1e-3 });
    const { dAnchors, dKeys } = run(target, backward(c, anchors, opposite));
    expect([...dAnchors.values, ...dKeys.values].every(Number.isFinite)).toBe(true);
  });
});

describe("node: InfoNCE by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const cases = [
      ...[1, 2, 3, 5, 17, 65].map((rows) => shape(rows, 12)),
      shape(7, 20, { hard: true, weight: 1, ids: true }),
      shape(64, 384, { hard: true, weight: 1 }),
    ];
    const programs = cases.flatMap(
      (c) =>
        [
          [`infoNceForward ${c.name}`, forward(c)],
          [`infoNceBackward ${c.name}`, backward(c)],
        ] as const,
    );
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
