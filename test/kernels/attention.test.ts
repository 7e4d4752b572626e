import { describe, expect, it } from "vitest";
import { attentionBackwardScratch, attentionForwardScratch } from "../../src/runtime/scratch.ts";
import {
  attention,
  attentionBackward,
  attentionMask,
  type AttentionShape,
} from "../oracle/attention.ts";
import { centralDifferences, dot } from "../oracle/differences.ts";
import type { Bits } from "../oracle/dropout.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  type Machine,
  offsetsOf,
  once,
  type Program,
  rowsOf,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case extends AttentionShape {
  readonly name: string;
  readonly bits: Bits;
  readonly maxLength: number;
}

const NO_DROPOUT: Bits = { rate: 0, seed: 0, step: 0, site: 0 };
const DROPOUT: Bits = { rate: 0.25, seed: 42, step: 7, site: 3 };

const shape = (
  lengths: readonly number[],
  heads: number,
  headDim: number,
  bits: Bits = NO_DROPOUT,
  maxLength = Math.max(0, ...lengths),
): Case => {
  const batch = lengths.length > 8 ? `${lengths.length} sequences` : `lengths ${lengths.join(" ")}`;
  const name = `${batch}, ${heads} × ${headDim}${bits.rate ? `, dropout ${bits.rate}` : ""}`;
  return { name, lengths, heads, headDim, bits, maxLength };
};

/** Small enough for a difference in every element. */
const SMALL: readonly Case[] = [
  shape([1], 1, 4),
  shape([3], 1, 4),
  shape([1, 4, 2, 5], 2, 4),
  shape([3, 7], 1, 12, DROPOUT),
  shape([6, 1, 9], 3, 4, { ...DROPOUT, rate: 0.5 }),
];

const CASES: readonly Case[] = [
  ...SMALL,
  shape([], 2, 8),
  shape([1, 1, 1], 2, 8),
  shape([2, 0, 3], 2, 8),
  ...[3, 4, 5, 7, 8, 9, 31, 33, 63, 64, 65].map((length) => shape([length], 1, 8, DROPOUT)),
  ...[8, 12, 20, 32, 64, 68].map((headDim) => shape([5, 12], 2, headDim)),
  shape([129, 3, 64], 2, 12),
  shape([129, 3, 64], 2, 12, DROPOUT),
  shape([2, 97, 1], 12, 4, DROPOUT, 128),
  shape([400], 1, 4, DROPOUT),
];

const tokensOf = ({ lengths }: Case): number => lengths.reduce((sum, n) => sum + n, 0);
const qkvOf = (c: Case): Float32Array => uniform(1, tokensOf(c) * 3 * c.heads * c.headDim, -2, 2);
const dContextOf = (c: Case): Float32Array => uniform(2, tokensOf(c) * c.heads * c.headDim);
const forwardScratch = (m: Machine, c: Case): number =>
  m.scratch(attentionForwardScratch(c.maxLength, c.headDim, m.ranks));

const forward =
  (c: Case, qkv: Float32Array = qkvOf(c)): Program<"context" | "logSumExp"> =>
  (m) => {
    const { lengths, heads, headDim, maxLength } = c;
    const { rate, seed, step, site } = c.bits;
    const tokens = tokensOf(c);
    const context = m.output(tokens, heads * headDim);
    const logSumExp = m.output(heads, tokens);
    m.k.attentionForward(
      context.ptr,
      logSumExp.ptr,
      0,
      m.input(qkv, tokens, 3 * heads * headDim).ptr,
      m.ints(offsetsOf(lengths)).ptr,
      lengths.length,
      maxLength,
      heads,
      headDim,
      rate,
      seed,
      step,
      site,
      forwardScratch(m, c),
    );
    return { context, logSumExp };
  };

const exactForward =
  (c: Case, qkv: Float32Array = qkvOf(c)): Program<"context"> =>
  (m) => {
    const { lengths, heads, headDim, maxLength } = c;
    const tokens = tokensOf(c);
    const context = m.output(tokens, heads * headDim);
    m.k.attentionExactForward(
      context.ptr,
      0,
      m.input(qkv, tokens, 3 * heads * headDim).ptr,
      m.ints(offsetsOf(lengths)).ptr,
      lengths.length,
      maxLength,
      heads,
      headDim,
      forwardScratch(m, c),
    );
    return { context };
  };

/** The backward pass on what the oracle's forward pass keeps. */
const backward =
  (c: Case, saved: { context: Float64Array; logSumExp: Float64Array }): Program<"dqkv"> =>
  (m) => {
    const { lengths, heads, headDim, maxLength } = c;
    const { rate, seed, step, site } = c.bits;
    const tokens = tokensOf(c);
    const hidden = heads * headDim;
    const dqkv = m.output(tokens, 3 * hidden);
    m.k.attentionBackward(
      0,
      dqkv.ptr,
      m.input(dContextOf(c), tokens, hidden).ptr,
      0,
      m.input(qkvOf(c), tokens, 3 * hidden).ptr,
      m.input(saved.context, tokens, hidden).ptr,
      m.input(saved.logSumExp, heads, tokens).ptr,
      m.ints(offsetsOf(lengths)).ptr,
      lengths.length,
      maxLength,
      heads,
      headDim,
      rate,
      seed,
      step,
      site,
      m.scratch(attentionBackwardScratch(maxLength, headDim, m.ranks)),
    );
    return { dqkv };
  };

/** Columns [from, to) of the first token of each sequence, or of every token. */
function columns(
  c: Case,
  values: ArrayLike<number>,
  from: number,
  to: number,
  first = false,
): Float32Array {
  const width = values.length / tokensOf(c);
  const offsets = offsetsOf(c.lengths);
  const tokens = first
    ? c.lengths.map((_, s) => offsets[s]!)
    : Array.from({ length: tokensOf(c) }, (_, t) => t);
  return Float32Array.from(
    tokens.flatMap((t) => Array.from(values).slice(t * width + from, t * width + to)),
  );
}

/** Attention of first tokens alone: their queries apart, keys and values of all tokens. */
const firsts =
  (c: Case): Program<"context" | "logSumExp" | "exact" | "dQueries" | "dkv"> =>
  (m) => {
    const { lengths, heads, headDim, maxLength } = c;
    const { rate, seed, step, site } = c.bits;
    const [sequences, hidden] = [lengths.length, heads * headDim];
    const queries = m.input(columns(c, qkvOf(c), 0, hidden, true), sequences, hidden).ptr;
    const kv = m.input(columns(c, qkvOf(c), hidden, 3 * hidden), tokensOf(c), 2 * hidden).ptr;
    const dContext = m.input(columns(c, dContextOf(c), 0, hidden, true), sequences, hidden).ptr;
    const offsets = m.ints(offsetsOf(lengths)).ptr;
    const [context, exact, dQueries] = [0, 1, 2].map(() => m.output(sequences, hidden));
    const logSumExp = m.output(heads, sequences);
    const dkv = m.output(tokensOf(c), 2 * hidden);
    const scratch = forwardScratch(m, c);
    const backwardScratch = m.scratch(attentionBackwardScratch(maxLength, headDim, m.ranks));
    // prettier-ignore
    {
      m.k.attentionExactForward(exact!.ptr, queries, kv, offsets, sequences, maxLength, heads, headDim, scratch);
      m.k.attentionForward(context!.ptr, logSumExp.ptr, queries, kv, offsets, sequences, maxLength, heads, headDim, rate, seed, step, site, scratch);
      m.k.attentionBackward(dQueries!.ptr, dkv.ptr, dContext, queries, kv, context!.ptr, logSumExp.ptr, offsets, sequences, maxLength, heads, headDim, rate, seed, step, site, backwardScratch);
    }
    return { context: context!, logSumExp, exact: exact!, dQueries: dQueries!, dkv };
  };

const ORACLES = CASES.map((c) => {
  const masks = once(() => (c.bits.rate ? attentionMask(c, c.bits) : undefined));
  return {
    c,
    name: c.name,
    masks,
    outputs: once(() => attention(qkvOf(c), c, masks())),
    undropped: once(() => attention(qkvOf(c), c)),
    gradient: once(() => attentionBackward(dContextOf(c), qkvOf(c), c, masks())),
  };
});

const CLOSE = { absolute: 2e-6, relative: 2e-6 };

describe.each(INFERENCE_TARGETS)("%s: attentionForward", (target) => {
  it.each(ORACLES)("equals the float64 oracle to 2e-6, $name", ({ c, outputs }) => {
    expectClose(run(target, forward(c)), outputs(), CLOSE);
  });

  it("has softmax rows that sum to 1", () => {
    const c = shape([65, 3, 130], 2, 8);
    const qkv = qkvOf(c).map((value, i) => (i % 48 < 32 ? value : 1));
    const { context } = run(target, forward(c, qkv));
    const ones = new Float32Array(context.values.length).fill(1);
    expectClose({ context }, { context: ones }, { absolute: 1e-6 });
  });

  it("ignores a constant shift of the logits", () => {
    const c = shape([33, 5], 1, 8);
    const qkv = qkvOf(c);
    const shifted = qkv.map((value, i) => (i % 24 >= 8 && i % 24 < 16 ? value + 1 : value));
    const { context } = run(target, forward(c, shifted));
    expectClose({ context }, { context: attention(qkv, c).context }, { absolute: 3e-6 });
  });

  it("stays finite and right for logits of ±80", () => {
    const c = shape([9, 2], 1, 4);
    const qkv = uniform(3, 11 * 12, -9, 9);
    expectClose(run(target, forward(c, qkv)), attention(qkv, c), {
      absolute: 3e-5,
      relative: 1e-5,
    });
  });

  it("returns the value of a lone token as it is", () => {
    const c = shape([1, 1], 2, 8);
    const qkv = qkvOf(c);
    const { context } = run(target, forward(c, qkv));
    expect([...context.values]).toEqual([...qkv.slice(32, 48), ...qkv.slice(80, 96)]);
  });

  it("has log n with relative error below 3e-7 for n equal logits, n to 200", () => {
    const c = shape(
      Array.from({ length: 200 }, (_, i) => i + 1),
      1,
      4,
    );
    const { logSumExp } = run(target, forward(c, new Float32Array(12 * tokensOf(c))));
    const expected = c.lengths.flatMap((n) => Array.from({ length: n }, () => Math.log(n)));
    expectClose({ logSumExp }, { logSumExp: expected }, { absolute: 1e-12, relative: 3e-7 });
  });
});

describe.each(INFERENCE_TARGETS)("%s: attentionExactForward", (target) => {
  it.each(ORACLES)("equals the float64 oracle to 2e-6, $name", ({ c, undropped }) => {
    expectClose(run(target, exactForward(c)), { context: undropped().context }, CLOSE);
  });

  it.each(ORACLES)("has the bits of node, $name", ({ c }) => {
    expectSameBits(run(target, exactForward(c)), run("node", exactForward(c)), target);
  });
});

describe.each(INFERENCE_TARGETS)("%s: the batch of a sequence", (target) => {
  const all = shape([5, 65, 1, 130, 7, 12], 3, 20);
  const qkv = qkvOf(all);
  const width = 3 * 3 * 20;
  const offsets = offsetsOf(all.lengths);
  const { lengths } = all;

  it.each([
    { name: "attentionForward", program: forward },
    { name: "attentionExactForward", program: exactForward },
  ])("never changes its bits, $name", ({ program }) => {
    const { context } = run(target, program(all, qkv));
    for (const [first, last] of [
      [0, 1],
      [1, 2],
      [2, 4],
      [3, 4],
      [5, 6],
      [1, 6],
    ] as const) {
      const [from, to] = [offsets[first]!, offsets[last]!];
      const part = shape(lengths.slice(first, last), 3, 20);
      const found = run(target, program(part, qkv.slice(from * width, to * width)));
      const expected = { context: rowsOf(context, from, to) };
      expectSameBits({ context: found.context }, expected, `sequences ${first} to ${last} alone`);
    }
  });
});

describe("the oracle of attention's gradient", () => {
  it.each(ORACLES.slice(0, SMALL.length))(
    "equals central differences in every element, $name",
    ({ c, masks, gradient }) => {
      const x = Float64Array.from(qkvOf(c));
      const dContext = dContextOf(c);
      const differences = centralDifferences(
        () => dot(attention(x, c, masks()).context, dContext),
        x,
      );
      gradient().forEach((d, i) => expect(Math.abs(d - differences[i]!)).toBeLessThan(1e-8));
    },
  );
});

describe.each(TARGETS)("%s: attentionBackward", (target) => {
  it.each(ORACLES)(
    "equals the gradient of the oracle in every element, $name",
    ({ c, outputs, gradient }) => {
      expectClose(
        run(target, backward(c, outputs())),
        { dqkv: gradient() },
        { absolute: 2e-6, relative: 2e-6 },
      );
    },
  );

  it("sends nothing along a constant shift of the keys", () => {
    const c = shape([65, 9], 2, 8);
    const { dqkv } = run(target, backward(c, attention(qkvOf(c), c)));
    for (let column = 16; column < 32; column++) {
      for (const [from, to] of [
        [0, 65],
        [65, 74],
      ] as const) {
        let sum = 0;
        for (let token = from; token < to; token++) sum += dqkv.values[token * 48 + column]!;
        expect(Math.abs(sum), `key column ${column}`).toBeLessThan(1e-5);
      }
    }
  });
});

describe.each(TARGETS)("%s: attention of first tokens", (target) => {
  const cases = ORACLES.filter(({ c }) => !c.lengths.includes(0));

  it.each(cases)("has the rows that it has among all tokens, bit for bit, $name", ({ c }) => {
    const hidden = c.heads * c.headDim;
    const { context, logSumExp, exact } = run(target, firsts(c));
    const all = run(target, forward(c));
    const rows = (values: ArrayLike<number>): { shape: number[]; values: Float32Array } => ({
      shape: [c.lengths.length, hidden],
      values: columns(c, values, 0, hidden, true),
    });
    const tokens = tokensOf(c);
    const offsets = offsetsOf(c.lengths);
    const lse = Float32Array.from({ length: c.heads * c.lengths.length }, (_, i) => {
      const [head, s] = [Math.floor(i / c.lengths.length), i % c.lengths.length];
      return all.logSumExp.values[head * tokens + offsets[s]!]!;
    });
    expectSameBits(
      { context, logSumExp, exact },
      {
        context: rows(all.context.values),
        logSumExp: { shape: logSumExp.shape, values: lse },
        exact: rows(run(target, exactForward(c)).context.values),
      },
      target,
    );
  });

  it.each(cases)("has the gradient of the oracle where other tokens get none, $name", (oracle) => {
    const { c, masks } = oracle;
    const hidden = c.heads * c.headDim;
    const starts = new Set(offsetsOf(c.lengths));
    const dContext = dContextOf(c).map((d, i) => (starts.has(Math.floor(i / hidden)) ? d : 0));
    const dqkv = attentionBackward(dContext, qkvOf(c), c, masks());
    const { dQueries, dkv } = run(target, firsts(c));
    const expected = {
      dQueries: columns(c, dqkv, 0, hidden, true),
      dkv: columns(c, dqkv, hidden, 3 * hidden),
    };
    expectClose({ dQueries, dkv }, expected, CLOSE);
  });
});

describe("node: attention by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const shapes = [
      shape([], 2, 8),
      shape([1], 1, 4),
      shape([5], 1, 8, DROPOUT),
      shape([5, 1, 70], 2, 12, DROPOUT),
      shape([3, 0, 129, 12], 3, 20, DROPOUT),
    ];
    const programs = shapes.flatMap((c) => {
      const masks = c.bits.rate ? attentionMask(c, c.bits) : undefined;
      return [
        [`attentionForward ${c.name}`, forward(c)],
        [`attentionExactForward ${c.name}`, exactForward(c)],
        [`attentionBackward ${c.name}`, backward(c, attention(qkvOf(c), c, masks))],
        ...(c.lengths.includes(0) ? [] : [[`of first tokens ${c.name}`, firsts(c)] as const]),
      ] as const;
    });
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
