import { describe, it } from "vitest";
import { innerProducts } from "../oracle/search.ts";
import { expectClose, INFERENCE_TARGETS, type Program, ROWS, run, uniform } from "./harness.ts";
import { expectTeamInvariance } from "./team.ts";

const SHAPES = [
  ...ROWS.map((rows) => ({ rows, cols: 12 })),
  ...[4, 8, 20, 384, 768].map((cols) => ({ rows: 5, cols })),
];

const program =
  (rows: number, cols: number): Program<"scores"> =>
  (m) => {
    const scores = m.output(rows);
    const vectors = m.input(uniform(1, rows * cols), rows, cols).ptr;
    m.k.innerProducts(scores.ptr, vectors, m.input(uniform(2, cols), cols).ptr, rows, cols);
    return { scores };
  };

describe.each(INFERENCE_TARGETS)("%s: innerProducts", (target) => {
  it.each(SHAPES)("equals the float64 oracle, [$rows, $cols]", ({ rows, cols }) => {
    const scores = innerProducts(uniform(1, rows * cols), uniform(2, cols), rows, cols);
    expectClose(run(target, program(rows, cols)), { scores }, { absolute: 3e-8 * cols + 2e-7 });
  });
});

describe("node: search by a team", () => {
  it("of two or three has the bits of one rank", async () => {
    const programs = ROWS.map((rows) => [`innerProducts ${rows}`, program(rows, 12)] as const);
    await expectTeamInvariance(Object.fromEntries(programs));
  });
});
