import { describe, it } from "vitest";
import { crossEntropyScratch } from "../../src/runtime/scratch.ts";
import { centralDifferences } from "../oracle/differences.ts";
import { crossEntropy } from "../oracle/mlm.ts";
import { expectClose, integers, once, type Program, run, TARGETS, uniform } from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

interface Case {
  readonly rows: number;
  readonly hidden: number;
  readonly vocab: number;
}

/** Rows at the edges of tiles; vocabularies at those of vectors, panels and blocks of 1024. */
const CASES: readonly Case[] = [
  ...[1, 3, 4, 5, 6, 7, 65].map((rows) => ({ rows, hidden: 8, vocab: 37 })),
  ...[1, 2, 4, 7, 8, 9].map((vocab) => ({ rows: 5, hidden: 4, vocab })),
  ...[4, 12, 20].map((hidden) => ({ rows: 4, hidden, vocab: 30 })),
];
const BLOCKS: readonly Case[] = [1023, 1024, 1025, 2051].map((vocab) => ({
  rows: 3,
  hidden: 4,
  vocab,
}));

const inputs = ({ rows, hidden, vocab }: Case) => ({
  x: uniform(1, rows * hidden, -2, 2),
  words: uniform(2, vocab * hidden, -2, 2),
  bias: uniform(3, vocab, -2, 2),
  labels: integers(4, rows, vocab),
});

const forward =
  (c: Case, changes: Partial<ReturnType<typeof inputs>> = {}): Program<"loss" | "logSumExp"> =>
  (m) => {
    const { rows, hidden, vocab } = c;
    const { x, words, bias, labels } = { ...inputs(c), ...changes };
    const [loss, logSumExp] = [m.output(2), m.output(rows)];
    const [own, tops] = [m.output(rows).ptr, m.output(rows).ptr];
    // prettier-ignore
    m.k.crossEntropyForward(loss.ptr, logSumExp.ptr, own, tops, m.input(x, rows, hidden).ptr, m.input(words, vocab, hidden).ptr, m.input(bias, vocab).ptr, m.ints(labels).ptr, rows, hidden, vocab, m.scratch(crossEntropyScratch(rows, hidden, m.ranks)));
    return { loss, logSumExp };
  };

/** From the oracle's log Σ exp; the gradients of parameters begin at 1. */
const backward =
  (c: Case, scale = 0.5): Program<"dx" | "dWords" | "dBias"> =>
  (m) => {
    const { rows, hidden, vocab } = c;
    const { x, words, bias, labels } = inputs(c);
    const { logSumExp } = crossEntropy(x, words, bias, labels, hidden);
    const dx = m.output(rows, hidden);
    const dWords = m.input(new Float32Array(vocab * hidden).fill(1), vocab, hidden);
    const dBias = m.input(new Float32Array(vocab).fill(1), vocab);
    // prettier-ignore
    m.k.crossEntropyBackward(dx.ptr, dWords.ptr, dBias.ptr, m.input(x, rows, hidden).ptr, m.input(words, vocab, hidden).ptr, m.input(bias, vocab).ptr, m.ints(labels).ptr, m.input(logSumExp, rows).ptr, rows, hidden, vocab, scale, m.scratch(crossEntropyScratch(rows, hidden, m.ranks)));
    return { dx, dWords, dBias };
  };

const named = (cases: readonly Case[]) =>
  cases.map((c) => ({
    c,
    name: `[${c.rows}, ${c.hidden}] of ${c.vocab} words`,
    outputs: once(() => {
      const { x, words, bias, labels } = inputs(c);
      return crossEntropy(x, words, bias, labels, c.hidden);
    }),
    gradients: once(() => {
      const { labels, ...floats } = inputs(c);
      const [x, words, bias] = [floats.x, floats.words, floats.bias].map((v) =>
        Float64Array.from(v),
      ) as [Float64Array, Float64Array, Float64Array];
      const loss = (): number => crossEntropy(x, words, bias, labels, c.hidden).loss[0]!;
      const [dx, dWords, dBias] = [x, words, bias].map((v) =>
        centralDifferences(loss, v).map((d) => d / 2),
      ) as [Float64Array, Float64Array, Float64Array];
      return { dx, dWords: dWords.map((d) => 1 + d), dBias: dBias.map((d) => 1 + d) };
    }),
  }));

const ORACLES = named([...CASES, ...BLOCKS, { rows: 33, hidden: 384, vocab: 1500 }]);
const GRADIENTS = ORACLES.filter(({ c }) => c.vocab < 1023 || c.vocab === 1025);

describe.each(TARGETS)("%s: cross-entropy over a vocabulary", (target) => {
  it.each(ORACLES)("equals the float64 oracle, $name", ({ c, outputs }) => {
    expectClose(run(target, forward(c)), outputs(), { absolute: 5e-6, relative: 1e-6 });
  });

  it.each(GRADIENTS)(
    "has the gradients of central differences in every element, $name",
    ({ c, gradients }) => {
      expectClose(run(target, backward(c)), gradients(), { absolute: 2e-6, relative: 2e-6 });
    },
  );

  it("of no rows is 0, and its gradients add nothing", () => {
    const c = { rows: 0, hidden: 8, vocab: 20 };
    expectClose(run(target, forward(c)), { loss: [0, 0], logSumExp: [] }, { absolute: 0 });
    const ones = {
      dx: [],
      dWords: new Float32Array(160).fill(1),
      dBias: new Float32Array(20).fill(1),
    };
    expectClose(run(target, backward(c)), ones, { absolute: 0 });
  });

  it("of equal logits is log V, and stays finite where they are large", () => {
    const c = { rows: 4, hidden: 4, vocab: 1500 };
    const bias = new Float32Array(1500).fill(1000);
    const { loss, logSumExp } = run(target, forward(c, { x: new Float32Array(16), bias }));
    const lse = 1000 + Math.log(1500);
    const expected = { loss: [Math.log(1500), 1], logSumExp: [lse, lse, lse, lse] };
    expectClose({ loss, logSumExp }, expected, { absolute: 1e-4 });
  });
});

describe("node: cross-entropy by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = [...CASES, ...BLOCKS].flatMap((c) => [
      [`crossEntropyForward ${JSON.stringify(c)}`, forward(c)] as const,
      [`crossEntropyBackward ${JSON.stringify(c)}`, backward(c)] as const,
    ]);
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
