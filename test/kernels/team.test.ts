import { describe, expect, it } from "vitest";
import { linearScratch } from "../../src/runtime/scratch.ts";
import { compiled, Machine, newMemory, type Program, run, uniform } from "./harness.ts";
import { expectTeamInvariance, makeCalls } from "./team.ts";

const [ROWS, COLS] = [13, 20];

/** Kernels that share out rows, columns, panels and elements in turn, each on the output of the one before. */
const chain =
  (rounds: number): Program<"x"> =>
  (m) => {
    const x = m.input(uniform(1, ROWS * COLS), ROWS, COLS);
    const y = m.output(ROWS, COLS);
    const weight = m.input(uniform(2, COLS * COLS), COLS, COLS).ptr;
    const dWeight = m.input(new Float32Array(COLS * COLS), COLS, COLS).ptr;
    const bias = m.input(uniform(3, COLS), COLS).ptr;
    const scratch = m.scratch(linearScratch(ROWS, COLS, COLS, m.ranks));
    const count = ROWS * COLS;
    for (let round = 0; round < rounds; round++) {
      m.k.linearForward(y.ptr, 0, x.ptr, weight, bias, 0, ROWS, COLS, COLS, 0, scratch);
      m.k.layerNormForward(x.ptr, 0, 0, y.ptr, bias, bias, ROWS, COLS, 1e-5);
      m.k.linearBackwardWeight(dWeight, 0, x.ptr, y.ptr, ROWS, COLS, COLS, scratch);
      m.k.tanhForward(dWeight, dWeight, COLS * COLS);
      m.k.linearBackwardInput(y.ptr, x.ptr, dWeight, ROWS, COLS, COLS, 0, scratch);
      m.k.addForward(x.ptr, x.ptr, y.ptr, count);
    }
    return { x };
  };

describe("node: a team", () => {
  it("completes every output before any rank goes on: a chain of 300 kernels has the bits of one rank", async () => {
    expect(run("node", chain(50)).x.values.every(Number.isFinite)).toBe(true);
    await expectTeamInvariance({ chain: chain(50) });
  });

  it("ends with an error where one rank fails, and leaves no other waiting", async () => {
    const memory = newMemory("node");
    const end = memory.buffer.byteLength;
    // Three ranks share three vectors, of which only the last lies outside.
    const calls = [{ kernel: "tanhForward", args: [end - 32, end - 32, 12] }];
    await expect(makeCalls(memory, 3, calls)).rejects.toThrow(/out of bounds|unreachable/);
  });

  it("traps in the barrier once it is poisoned, instead of waiting for a rank that has thrown", () => {
    const memory = newMemory("node");
    const { k } = new Machine("node", memory);
    k.join(0, 2);
    new Int32Array(memory.buffer)[192 >> 2] = 1;
    expect(() => k.barrier()).toThrow(WebAssembly.RuntimeError);
  });

  it("of one does not wait", () => {
    const { k } = new Machine("node", newMemory("node"));
    k.barrier();
    k.join(0, 1);
    k.barrier();
    expect(compiled("node")).toBeInstanceOf(WebAssembly.Module);
  });
});
