import { describe, it } from "vitest";
import { centralDifferences, dot, plus } from "../oracle/differences.ts";
import { type StaticBatch, staticMean } from "../oracle/static.ts";
import { expectClose, integers, type Program, run, TARGETS, uniform } from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const VOCAB = 11;
const TABLE_ROWS = 7; // fewer than tokens: some share a row

interface Case extends StaticBatch {
  readonly name: string;
  readonly sequences: number;
  readonly tokens: number;
}

const shape = (lengths: readonly number[], hidden: number): Case => {
  const offsets = [0];
  for (const length of lengths) offsets.push(offsets.at(-1)! + length);
  const tokens = offsets.at(-1)!;
  return {
    name: `lengths ${lengths.join(", ")}, rows of ${hidden}`,
    sequences: lengths.length,
    tokens,
    tokenIds: integers(1, tokens, VOCAB),
    offsets,
    rows: integers(2, VOCAB, TABLE_ROWS),
    hidden,
  };
};

const CASES: readonly Case[] = [
  shape([1], 4),
  shape([2, 1, 5], 8),
  shape([3, 3, 1, 9, 2], 20),
  shape([4, 70], 12),
  shape([7, 2], 256),
];

const valuesOf = ({ hidden, sequences }: Case) => ({
  table: uniform(3, TABLE_ROWS * hidden),
  weights: uniform(4, VOCAB),
  dy: uniform(5, sequences * hidden),
});

const program =
  (c: Case): Program<"y" | "dTable" | "dWeights"> =>
  (m) => {
    const v = valuesOf(c);
    const { sequences, hidden, tokens } = c;
    const y = m.output(sequences, hidden);
    const [ids, offsets, rows] = [c.tokenIds, c.offsets, c.rows].map((list) => m.ints(list).ptr);
    const table = m.input(v.table, TABLE_ROWS, hidden).ptr;
    const weights = m.input(v.weights, VOCAB).ptr;
    m.k.staticMeanForward(y.ptr, ids!, offsets!, table, rows!, weights, sequences, hidden);
    const dTable = m.input(uniform(6, TABLE_ROWS * hidden), TABLE_ROWS, hidden);
    const dWeights = m.input(uniform(7, VOCAB), VOCAB);
    const dy = m.input(v.dy, sequences, hidden).ptr;
    // prettier-ignore
    m.k.staticMeanBackward(dTable.ptr, dWeights.ptr, m.scratch(4 * tokens), dy, ids!, offsets!, table, rows!, weights, sequences, hidden);
    return { y, dTable, dWeights };
  };

describe.each(TARGETS)("%s: a static model in training", (target) => {
  it.each(CASES)("equals the float64 oracle and its central differences, $name", (c) => {
    const v = valuesOf(c);
    const [table, weights] = [Float64Array.from(v.table), Float64Array.from(v.weights)];
    const loss = (): number => dot(staticMean(c, table, weights), v.dy);
    const y = staticMean(c, table, weights);
    const [dTable, dWeights] = [table, weights].map((x) => centralDifferences(loss, x));
    // Gradients are added to what is there.
    const expected = {
      y,
      dTable: plus(uniform(6, table.length), dTable!),
      dWeights: plus(uniform(7, VOCAB), dWeights!),
    };
    expectClose(run(target, program(c)), expected, { absolute: 2e-6, relative: 2e-6 });
  });
});

describe.each(TARGETS)("%s: the mean of a static model", (target) => {
  it("of one token is its row times its weight, and ignores the order of tokens", () => {
    const alone = shape([1, 1, 1], 12);
    const { table, weights } = valuesOf(alone);
    const { y } = run(target, program(alone));
    Array.from(alone.tokenIds).forEach((id, i) => {
      const row = table.slice(alone.rows[id]! * 12, (alone.rows[id]! + 1) * 12);
      const found = { y: { shape: [12], values: y.values.slice(i * 12, (i + 1) * 12) } };
      expectClose(found, { y: row.map((v) => v * weights[id]!) }, { absolute: 1e-7 });
    });
    const c = shape([9], 12);
    const turned = { ...c, tokenIds: Array.from(c.tokenIds).toReversed() };
    const forwards = run(target, program(c)).y.values;
    expectClose({ y: run(target, program(turned)).y }, { y: forwards }, { absolute: 1e-6 });
  });
});

describe("node: a static model in training, by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    await expectTeamInvariance(Object.fromEntries(CASES.map((c) => [c.name, program(c)])));
  });
});
