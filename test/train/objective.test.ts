import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Arena, size, type Tensor } from "../../src/runtime/arena.ts";
import { instantiate } from "../../src/runtime/instantiate.ts";
import type { Kernels } from "../../src/runtime/kernels.ts";
import {
  compare,
  type ObjectiveOptions,
  planObjective,
  readComparison,
} from "../../src/train/objective.ts";
import { TARGETS, uniform } from "../kernels/harness.ts";
import { centralDifferences } from "../oracle/differences.ts";
import { distance, distill } from "../oracle/distill.ts";
import { infoNce } from "../oracle/infonce.ts";
import { normalize } from "../oracle/pooling.ts";

const ROWS = 5;
const HIDDEN = 16;
const OPTIONS: ObjectiveOptions = {
  batchSize: 7, // more than the batch has
  columns: 3,
  temperature: 0.2,
  hardNegativeWeight: 0.5,
};

/** Equal for equal sentences: two anchors have a positive that is their own sentence. */
const IDS = Int32Array.from({ length: 3 * ROWS }, (_, i) =>
  i === ROWS + 1 || i === ROWS + 3 ? i - ROWS : i,
);

function teachersOf({ columns, distill: taught }: ObjectiveOptions): Float32Array {
  const dimension = taught?.dimension ?? 0;
  const n = ROWS * columns;
  return Float32Array.from(normalize(uniform(4, n * dimension), n, dimension).y);
}

/** The mean over the dimensions of InfoNCE and the distance from the teachers, in float64. */
function oracle(x: ArrayLike<number>, options: ObjectiveOptions): number {
  const { distill: taught, objective = "contrastive" } = options;
  const teachers = teachersOf(options);
  const losses = [...(options.beginnings ?? []), HIDDEN].map((dimension) => {
    const cut = Array.from({ length: x.length / HIDDEN }, (_, i) =>
      Array.from({ length: dimension }, (__, j) => x[i * HIDDEN + j]!),
    );
    const cols = (options.columns - 1) * ROWS;
    const problem = {
      rows: ROWS,
      cols,
      dimension,
      anchorIds: IDS.slice(0, ROWS),
      keyIds: IDS.slice(ROWS, ROWS + cols),
      temperature: options.temperature,
      hardNegativeWeight: options.hardNegativeWeight,
      symmetric: options.symmetric ?? false,
      dot: options.similarity === "dot",
    };
    const [anchors, keys] = [cut.slice(0, ROWS).flat(), cut.slice(ROWS).flat()];
    const own = objective === "contrastive" ? infoNce(anchors, keys, problem).loss[0]! : 0;
    if (taught?.kind !== "similarity") return own;
    const { temperature, dimension: teacherDimension } = taught;
    const [a, k] = [
      teachers.slice(0, ROWS * teacherDimension),
      teachers.slice(ROWS * teacherDimension),
    ];
    const other = distill(anchors, keys, a, k, { ...problem, temperature, teacherDimension });
    return own + taught.weight * other.loss[0]!;
  });
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  if (taught?.kind !== "mse") return mean;
  return mean + taught.weight * distance(x, teachers, x.length / HIDDEN, HIDDEN);
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
  new Int32Array(memory.buffer, plan.ids.ptr, ROWS * options.columns).set(
    IDS.subarray(0, ROWS * options.columns),
  );
  if (plan.taught) floats(plan.taught.teachers).set(teachersOf(options));
  compare(k, plan, options, dVectors, vectors, ROWS, options.columns);
  return { ...readComparison(memory.buffer, plan), gradient: floats(dVectors).slice(0, x.length) };
}

const CASES: readonly Partial<ObjectiveOptions>[] = [
  {},
  { beginnings: [4] },
  { beginnings: [4, 8, 12] },
  { beginnings: [8], columns: 2, symmetric: true },
  { beginnings: [8, 4], columns: 2, similarity: "dot", temperature: 2 },
  { distill: { kind: "similarity", weight: 0.7, temperature: 0.1, dimension: 12 } },
  {
    columns: 2,
    objective: "distill",
    distill: { kind: "similarity", weight: 2, temperature: 0.3, dimension: 20 },
  },
  {
    beginnings: [4, 8],
    distill: { kind: "similarity", weight: 0.5, temperature: 0.2, dimension: 24 },
  },
  { distill: { kind: "mse", weight: 3, temperature: 1, dimension: HIDDEN } },
  {
    beginnings: [8],
    columns: 2,
    objective: "distill",
    distill: { kind: "mse", weight: 0.5, temperature: 1, dimension: HIDDEN },
  },
];

describe.each(TARGETS)("%s: the objective", (target) => {
  it.each(CASES)(
    "is the mean over all dimensions, and its gradient equals central differences of the oracle: %j",
    (changes) => {
      const options = { ...OPTIONS, ...changes };
      const x = uniform(3, ROWS * options.columns * HIDDEN);
      const { loss, contrastive, distillation, gradient } = run(target, x, options);
      expect(Math.abs(loss - oracle(x, options))).toBeLessThan(4e-6);
      expect(contrastive === undefined).toBe(options.objective === "distill");
      expect(distillation === undefined).toBe(options.distill === undefined);
      const exact = Float64Array.from(x);
      const want = centralDifferences(() => oracle(exact, options), exact);
      const errors = want.map((value, i) => Math.abs(value - gradient[i]!));
      expect(Math.max(...errors)).toBeLessThan(2e-6);
    },
  );
});

describe("a teacher whose vectors are to be learned", () => {
  it("says that its dimension must be the student's", () => {
    const taught = { kind: "mse", weight: 1, temperature: 1, dimension: 12 } as const;
    expect(() => planObjective(new Arena(), { ...OPTIONS, distill: taught }, HIDDEN, 1)).toThrow(
      "teacher of 12 numbers: expected 16",
    );
  });
});

describe("a matryoshka dimension", () => {
  it.each([0, 6, 16, 20])("of %d says what it may be", (dimension) => {
    const options = { ...OPTIONS, beginnings: [8, dimension] };
    expect(() => planObjective(new Arena(), options, HIDDEN, 1)).toThrow(
      `matryoshka dimension ${dimension}: expected a multiple of 4 below 16`,
    );
  });
});
