import { readFileSync } from "node:fs";
import { type EncoderConfig, parseConfig } from "../../src/model/config.ts";
import { size, type Tensor } from "../../src/runtime/arena.ts";
import { maskBatch } from "../../src/train/masking.ts";
import {
  planTraining,
  readLoss,
  type StepLoss,
  type StepOptions,
  type TrainingPlan,
  trainStep,
  writeTrainingBatch,
} from "../../src/train/step.ts";
import { uniform } from "../kernels/harness.ts";
import { oneRank } from "./rank.ts";

/** The encoder of the golden values. */
export const encoder: EncoderConfig = parseConfig(
  JSON.parse(readFileSync("test/golden/encoder.json", "utf8")).config,
  "test/golden/encoder.json",
).encoder;
const ROWS = 4;
const MASKING = { rate: 0.3, maskId: 3, vocabSize: encoder.vocabSize, special: new Set([1, 2]) };

/** Sentences of the n-th batch, twice, and what is masked of them. */
function batchOf(n: number) {
  const words = uniform(n, ROWS * 24, 3, encoder.vocabSize);
  const own = Array.from({ length: ROWS }, (_, row) => {
    const inner = words.subarray(24 * row, 24 * row + 3 + ((5 * n + 7 * row) % 18));
    return Int32Array.of(1, ...inner.map(Math.floor), 2);
  });
  const sequences = [...own, ...own];
  return { sequences, masked: maskBatch(sequences, MASKING, 1, n) };
}

export interface Rig {
  readonly plan: TrainingPlan;
  readonly values: (tensor: Tensor) => Float32Array;
  /** Runs the n-th batch as a part of a step. */
  readonly run: (n: number, step: number, part: number, learningRate?: number) => StepLoss;
  /** Brings all rows of the table to a step. */
  readonly settle: (step: number) => void;
  /** Copies, by name. */
  readonly named: (set: "weights" | "gradients") => Map<string, Float32Array>;
}

/** One rank over a small model of random weights, which takes steps of batches of its own. */
export function start(changes: Partial<StepOptions>, target = "node"): Rig {
  const options: StepOptions = {
    encoder,
    pooling: "avg",
    batchSize: ROWS,
    columns: 2,
    maxLength: 24,
    temperature: 0.05,
    hardNegativeWeight: 0,
    dropout: true,
    seed: 1,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0.01,
    maxGradientNorm: 0.5,
    ...changes,
  };
  const plan = planTraining(options, 1);
  const { k, buffer } = oneRank(target, plan.arena.pages);
  const values = ({ ptr, shape }: Tensor): Float32Array =>
    new Float32Array(buffer, ptr, size(shape));
  plan.model.weights.named.forEach((tensor, i) => {
    if (tensor.dtype === "I32") {
      // Two tokens share a row of a static table.
      new Int32Array(buffer, tensor.ptr, size(tensor.shape)).forEach(
        (_, id, rows) => (rows[id] = id >> 1),
      );
      return;
    }
    const gain = tensor.name.endsWith("LayerNorm.weight") ? 1 : 0;
    values(tensor).set(uniform(i, size(tensor.shape), -0.2, 0.2).map((x) => gain + x));
  });
  let known = 0;
  let begun = false;
  const run = (n: number, step: number, part: number, learningRate = 0) => {
    const { sequences, masked } = batchOf(n);
    if (part === 0) known = 0;
    // As if the run had been resumed here.
    if (!begun) new Int32Array(buffer, plan.last.ptr, plan.last.shape[0]).fill(step - 1);
    begun = true;
    const guessed = options.mlmWeight === undefined ? undefined : masked;
    const { touched } = writeTrainingBatch(buffer, plan, options, sequences, guessed, known);
    const ids = new Int32Array(buffer, plan.objective.ids.ptr, sequences.length);
    ids.set(sequences.map((_, i) => i % ROWS));
    trainStep(k, buffer, plan, options, { rows: ROWS, step, part, known, touched, learningRate });
    known = touched;
    return readLoss(buffer, plan);
  };
  const settle = (step: number): void =>
    trainStep(k, buffer, plan, options, { rows: 0, touched: 0, step, learningRate: 0 });
  const named = (set: "weights" | "gradients"): Map<string, Float32Array> => {
    const tensors = plan.model[set].named.filter(({ dtype }) => dtype === "F32");
    return new Map(tensors.map((tensor) => [tensor.name, values(tensor).slice()]));
  };
  return { plan, values, run, settle, named };
}
