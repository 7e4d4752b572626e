/**
 * A training run as one safetensors file: weights, both moments of Adam, and in its metadata the step and all that the
 * run depends on. Dropout bits and data order are functions of seed and step, so this is everything: a resumed run ends
 * in the bits of one that was never interrupted.
 */
import { FormatError } from "../errors.ts";
import { parseSafetensors, serializeSafetensors } from "../files/safetensors.ts";
import { loadWeights, storeWeights } from "../model/weights.ts";
import type { Tensor } from "../runtime/arena.ts";
import type { StepOptions, TrainingPlan } from "./step.ts";

/** All that decides the result of a run, apart from the initial weights. */
export interface RunOptions {
  readonly step: StepOptions;
  readonly totalSteps: number;
  readonly learningRate: number;
  readonly warmupSteps: number;
  /** SHA-256 of the tokenized corpus. */
  readonly corpus: string;
}

function tensorsOf(plan: TrainingPlan): Tensor[] {
  const prefixed = (prefix: string, named: readonly Tensor[]): Tensor[] =>
    named.map((tensor) => ({ ...tensor, name: prefix + tensor.name }));
  return [
    ...plan.weights.named,
    ...prefixed("adam.first.", plan.first.named),
    ...prefixed("adam.second.", plan.second.named),
  ];
}

/** Hex SHA-256. */
export async function sha256Hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The bytes of a checkpoint after `step` steps. */
export async function serializeCheckpoint(
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  run: RunOptions,
  step: number,
): Promise<Uint8Array> {
  const tensors = storeWeights(buffer, tensorsOf(plan));
  return serializeSafetensors(tensors, {
    format: "simcse-edge checkpoint 1",
    run: JSON.stringify(run),
    step: String(step),
    sha256: await digest(tensors.map(([, tensor]) => tensor.data)),
  });
}

/**
 * Restores weights and moments, and returns the step they were saved after.
 * @throws FormatError for a damaged file; Error for a run with other options, naming the first that differs
 */
export async function restoreCheckpoint(
  bytes: Uint8Array,
  file: string,
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  run: RunOptions,
): Promise<number> {
  const { tensors, metadata } = parseSafetensors(bytes, file);
  const step = Number(metadata["step"]);
  if (
    metadata["format"] !== "simcse-edge checkpoint 1" ||
    !metadata["run"] ||
    !Number.isInteger(step)
  ) {
    throw new FormatError(
      `${file}: expected a simcse-edge checkpoint, found a safetensors file without its metadata`,
    );
  }
  const sum = await digest([...tensors.values()].map(({ data }) => data));
  if (sum !== metadata["sha256"]) {
    throw new FormatError(
      `${file}: damaged: expected sha256 ${metadata["sha256"]}, found ${sum}; delete it to train from the start`,
    );
  }
  const difference = firstDifference(
    JSON.parse(metadata["run"]),
    JSON.parse(JSON.stringify(run)),
    "",
  );
  if (difference) {
    throw new Error(
      `${file}: cannot resume, ${difference}; repeat the options of the interrupted run, or choose another --output`,
    );
  }
  loadWeights(buffer, tensorsOf(plan), tensors, file);
  return step;
}

/** SHA-256 over the SHA-256 of each part, so that no copy of the whole is needed. */
async function digest(parts: readonly Uint8Array[]): Promise<string> {
  const sums: string[] = [];
  for (const part of parts) sums.push(await sha256Hex(part as Uint8Array<ArrayBuffer>));
  return sha256Hex(new TextEncoder().encode(sums.join("")));
}

function firstDifference(before: unknown, now: unknown, path: string): string | undefined {
  if (typeof before === "object" && before !== null && typeof now === "object" && now !== null) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(now)])) {
      const found = firstDifference(
        (before as Record<string, unknown>)[key],
        (now as Record<string, unknown>)[key],
        path ? `${path}.${key}` : key,
      );
      if (found) return found;
    }
    return undefined;
  }
  return Object.is(before, now)
    ? undefined
    : `${path} was ${JSON.stringify(before)}, now ${JSON.stringify(now)}`;
}
