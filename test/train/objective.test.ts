import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Arena, size, type Tensor } from "../../src/runtime/arena.ts";
import { instantiate } from "../../src/runtime/instantiate.ts";
import type { Kernels } from "../../src/runtime/kernels.ts";
import { compare, type ObjectiveOptions, planObjective } from "../../src/train/objective.ts";
import { TARGETS, uniform } from "../kernels/harness.ts";
import { centralDifferences } from "../oracle/differences.ts";
import { infoNce } from "../oracle/infonce.ts";

const ROWS = 5;
const HIDDEN = 16;
const OPTIONS: ObjectiveOptions = {
  batchSize: 7, // more than the batch has
  columns: 3,
  temperature: 0.2,
  hardNegativeWeight: 0.5,
};

/** The mean of InfoNCE over the dimensions, in float64. */
function oracle(x: ArrayLike<number>, options: ObjectiveOptions): number {
  const losses = [...(options.beginnings ?? []), HIDDEN].map((dimension) => {
    const cut = Array.from({ length: x.length / HIDDEN }, (_, i) =>
      Array.from({ length: dimension }, (__, j) => x[i * HIDDEN + j]!),
    );
    const problem = {
      rows: ROWS,
      cols: (options.columns - 1) * ROWS,
      dimension,
      temperature: options.temperature,
      hardNegativeWeight: options.hardNegativeWeight,
      symmetric: options.symmetric ?? false,
      dot: options.similarity === "dot",
    };
    return infoNce(cut.slice(0, ROWS).flat(), cut.slice(ROWS).flat(), problem).loss[0]!;
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

function run(target: string, x: Float32Array, options: ObjectiveOptions) {
  const arena = new Arena();
  const sequences = options.batchSize * options.columns;
  const vectors = arena.tensor("vectors", sequences, HIDDEN);
  const dVectors = arena.tensor("dVectors", sequences, HIDDEN);
  const plan = planObjective(arena, options, HIDDEN, 1);
  const memory = new WebAssembly.Memory({
    initial: arena.pages,
    maximum: arena.pages,
    shared: target === "node",
  });
  const module = new WebAssembly.Module(readFileSync(`build/${target}.wasm`));
  const k = instantiate<Kernels>(module, memory);
  k.join(0, 1);
  const floats = (tensor: Tensor): Float32Array =>
    new Float32Array(memory.buffer, tensor.ptr, size(tensor.shape));
  floats(vectors).set(x);
  floats(dVectors).fill(NaN);
  new Int32Array(memory.buffer, plan.ids.ptr, sequences).forEach((_, i, ids) => (ids[i] = i));
  compare(k, plan, options, dVectors, vectors, ROWS, options.columns);
  return { losses: [...floats(plan.loss)], gradient: floats(dVectors).slice(0, x.length) };
}

const CASES: readonly Partial<ObjectiveOptions>[] = [
  {},
  { beginnings: [4] },
  { beginnings: [4, 8, 12] },
  { beginnings: [8], columns: 2, symmetric: true },
  { beginnings: [8, 4], columns: 2, similarity: "dot", temperature: 2 },
];

describe.each(TARGETS)("%s: the objective", (target) => {
  it.each(CASES)(
    "is the mean over all dimensions, and its gradient equals central differences of the oracle: %j",
    (changes) => {
      const options = { ...OPTIONS, ...changes };
      const x = uniform(3, ROWS * options.columns * HIDDEN);
      const { losses, gradient } = run(target, x, options);
      expect(losses.length).toBe((options.beginnings?.length ?? 0) + 1);
      const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
      expect(Math.abs(mean - oracle(x, options))).toBeLessThan(3e-6);
      const exact = Float64Array.from(x);
      const want = centralDifferences(() => oracle(exact, options), exact);
      const errors = want.map((value, i) => Math.abs(value - gradient[i]!));
      expect(Math.max(...errors)).toBeLessThan(2e-6);
    },
  );
});

describe("a matryoshka dimension", () => {
  it.each([0, 6, 16, 20])("of %d says what it may be", (dimension) => {
    const options = { ...OPTIONS, beginnings: [8, dimension] };
    expect(() => planObjective(new Arena(), options, HIDDEN, 1)).toThrow(
      `matryoshka dimension ${dimension}: expected a multiple of 4 below 16`,
    );
  });
});
