import { describe, it } from "vitest";
import { centralDifferences, dot, plus } from "../oracle/differences.ts";
import { embedding, staticEmbedding } from "../oracle/embedding.ts";
import { quantizeRows } from "../oracle/quantize.ts";
import {
  expectClose,
  expectSameBits,
  INFERENCE_TARGETS,
  integers,
  type Program,
  ROWS,
  run,
  TARGETS,
  uniform,
} from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const VOCAB = 11;
const POSITIONS = 7;

interface Case {
  readonly name: string;
  readonly tokens: number;
  readonly hidden: number;
  readonly tables: "both" | "positions" | "types" | "neither";
}

const shape = (tokens: number, hidden: number, tables: Case["tables"] = "both"): Case => ({
  name: `${tokens} tokens of ${hidden}, tables: ${tables}`,
  tokens,
  hidden,
  tables,
});

const CASES: readonly Case[] = [
  ...ROWS.map((tokens) => shape(tokens, 12)),
  ...[4, 8, 20, 384].map((hidden) => shape(5, hidden)),
  ...(["positions", "types", "neither"] as const).map((tables) => shape(9, 16, tables)),
];

interface Values {
  readonly tokenIds: Int32Array;
  readonly positions: Int32Array;
  readonly words: Float32Array;
  readonly positionTable: Float32Array | undefined;
  readonly types: Float32Array | undefined;
  readonly dy: Float32Array;
}

const valuesOf = ({ tokens, hidden, tables }: Case): Values => ({
  tokenIds: integers(1, tokens, VOCAB),
  positions: integers(2, tokens, POSITIONS),
  words: uniform(3, VOCAB * hidden),
  positionTable: /both|positions/.test(tables) ? uniform(4, POSITIONS * hidden) : undefined,
  types: /both|types/.test(tables) ? uniform(5, 2 * hidden) : undefined,
  dy: uniform(6, tokens * hidden),
});

const forward =
  ({ tokens, hidden }: Case, v: Values): Program<"y"> =>
  (m) => {
    const y = m.output(tokens, hidden);
    const words = m.input(v.words, VOCAB, hidden).ptr;
    const table = v.positionTable ? m.input(v.positionTable, POSITIONS, hidden).ptr : 0;
    const types = v.types ? m.input(v.types, 2, hidden).ptr : 0;
    const [ids, positions] = [m.ints(v.tokenIds).ptr, m.ints(v.positions).ptr];
    m.k.embeddingForward(y.ptr, ids, positions, words, table, types, tokens, hidden);
    return { y };
  };

const int8Forward =
  ({ tokens, hidden }: Case, v: Values): Program<"y"> =>
  (m) => {
    const { codes, scales } = quantizeRows(v.words, VOCAB, hidden);
    const y = m.output(tokens, hidden);
    const words = m.codes(codes, VOCAB, hidden).ptr;
    const s = m.input(scales, VOCAB).ptr;
    const table = v.positionTable ? m.input(v.positionTable, POSITIONS, hidden).ptr : 0;
    const types = v.types ? m.input(v.types, 2, hidden).ptr : 0;
    const [ids, positions] = [m.ints(v.tokenIds).ptr, m.ints(v.positions).ptr];
    m.k.embeddingInt8Forward(y.ptr, ids, positions, words, s, table, types, tokens, hidden);
    return { y };
  };

/** A static model whose 11 tokens share 4 rows. */
const ROWS_OF = Int32Array.of(3, 0, 1, 2, 3, 3, 0, 1, 1, 2, 0);
const weights = uniform(10, VOCAB);

const staticForward =
  ({ tokens, hidden }: Case, v: Values): Program<"y"> =>
  (m) => {
    const y = m.output(tokens, hidden);
    const table = m.input(v.words.subarray(0, 4 * hidden), 4, hidden).ptr;
    const [ids, rows] = [m.ints(v.tokenIds).ptr, m.ints(ROWS_OF).ptr];
    const w = m.input(weights, VOCAB).ptr;
    m.k.staticEmbeddingForward(y.ptr, ids, table, rows, w, tokens, hidden);
    return { y };
  };

const initial = ({ hidden }: Case): Record<"dWords" | "dPositions" | "dTypes", Float32Array> => ({
  dWords: uniform(7, VOCAB * hidden),
  dPositions: uniform(8, POSITIONS * hidden),
  dTypes: uniform(9, 2 * hidden),
});

const backward =
  (c: Case, v: Values): Program<"dWords" | "dPositions" | "dTypes"> =>
  (m) => {
    const { tokens, hidden } = c;
    const start = initial(c);
    const dWords = m.input(start.dWords, VOCAB, hidden);
    const dPositions = m.input(start.dPositions, POSITIONS, hidden);
    const dTypes = m.input(start.dTypes, 2, hidden);
    m.k.embeddingBackward(
      dWords.ptr,
      v.positionTable ? dPositions.ptr : 0,
      v.types ? dTypes.ptr : 0,
      m.input(v.dy, tokens, hidden).ptr,
      m.ints(v.tokenIds).ptr,
      m.ints(v.positions).ptr,
      tokens,
      hidden,
    );
    return { dWords, dPositions, dTypes };
  };

const ORACLES = CASES.map((c) => ({ c, name: c.name, v: valuesOf(c) }));
const CLOSE = { absolute: 4e-7 };

describe.each(INFERENCE_TARGETS)("%s: embeddings", (target) => {
  it.each(ORACLES)("embeddingForward equals the float64 oracle, $name", ({ c, v }) => {
    const y = embedding(v.tokenIds, v.positions, v.words, v.positionTable, v.types, c.hidden);
    expectClose(run(target, forward(c, v)), { y }, CLOSE);
    expectSameBits(run(target, forward(c, v)), run("node", forward(c, v)), target);
  });

  it.each(ORACLES)("embeddingInt8Forward equals the float64 oracle, $name", ({ c, v }) => {
    const { codes, scales } = quantizeRows(v.words, VOCAB, c.hidden);
    const words = Float64Array.from(codes, (code, i) => code * scales[Math.floor(i / c.hidden)]!);
    const y = embedding(v.tokenIds, v.positions, words, v.positionTable, v.types, c.hidden);
    expectClose(run(target, int8Forward(c, v)), { y }, CLOSE);
    expectSameBits(run(target, int8Forward(c, v)), run("node", int8Forward(c, v)), target);
  });
});

describe.each(INFERENCE_TARGETS)("%s: staticEmbeddingForward", (target) => {
  it.each(ORACLES.slice(0, -3))("equals the float64 oracle, $name", ({ c, v }) => {
    const y = staticEmbedding(v.tokenIds, v.words, ROWS_OF, weights, c.hidden);
    expectClose(run(target, staticForward(c, v)), { y }, CLOSE);
    expectSameBits(run(target, staticForward(c, v)), run("node", staticForward(c, v)), target);
  });
});

describe.each(TARGETS)("%s: embeddingBackward", (target) => {
  it.each(ORACLES)("adds central differences of the oracle in every element, $name", ({ c, v }) => {
    const [words, positions, types] = [v.words, v.positionTable, v.types].map(
      (table) => table && Float64Array.from(table),
    );
    const loss = (): number =>
      dot(embedding(v.tokenIds, v.positions, words!, positions, types, c.hidden), v.dy);
    const start = initial(c);
    const sum = (before: Float32Array, table: Float64Array | undefined): Float64Array =>
      plus(before, table ? centralDifferences(loss, table) : new Float64Array(before.length));
    expectClose(
      run(target, backward(c, v)),
      {
        dWords: sum(start.dWords, words),
        dPositions: sum(start.dPositions, positions),
        dTypes: sum(start.dTypes, types),
      },
      { absolute: 1e-6, relative: 1e-6 },
    );
  });
});

describe("node: embeddings by a team", () => {
  it("of two or three have the bits of one rank", async () => {
    const programs = [shape(0, 8), shape(1, 4), shape(2, 8), shape(65, 20)].flatMap(
      (c) =>
        [
          [`embeddingForward ${c.name}`, forward(c, valuesOf(c))],
          [`embeddingInt8Forward ${c.name}`, int8Forward(c, valuesOf(c))],
          [`staticEmbeddingForward ${c.name}`, staticForward(c, valuesOf(c))],
          [`embeddingBackward ${c.name}`, backward(c, valuesOf(c))],
        ] as const,
    );
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
