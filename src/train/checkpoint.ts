/**
 * A training run as one safetensors file: weights, both moments of Adam, and in its metadata the step and all that the
 * run depends on. Dropout bits and data order are functions of seed and step, so this is everything: a resumed run ends
 * in the bits of one that was never interrupted.
 */
import { FormatError } from "../errors.ts";
import { sha256HexOfParts } from "../files/checksum.ts";
import {
  parseSafetensors,
  type SafetensorsTensor,
  serializeSafetensors,
} from "../files/safetensors.ts";
import type { Pooling } from "../model/config.ts";
import { loadWeights, storeWeights } from "../model/weights.ts";
import type { Tensor } from "../runtime/arena.ts";
import type { Schedule } from "./schedule.ts";
import type { StepOptions, TrainingPlan } from "./step.ts";

/** All that decides the result of a run, apart from the initial weights. */
export interface RunOptions {
  readonly step: StepOptions;
  readonly totalSteps: number;
  readonly learningRate: number;
  readonly warmupSteps: number;
  readonly schedule: Schedule;
  /** SHA-256 of the tokenized corpus. */
  readonly corpus: string;
  /** The pooling of the model that comes out, where it is not that of the steps. */
  readonly served?: Pooling;
  /** What changes the positives of its unsupervised rows, with the SHA-256 of its file; absent if nothing does. */
  readonly augmentation?: string;
  /** SHA-256 of the teachers; absent if there are none. */
  readonly teachers?: string;
  /** The probability of a token to be masked; absent where nothing is guessed. */
  readonly masking?: number;
  /** Weights of its sources, in their order; null for one that is drawn as often as it has batches. */
  readonly shares: readonly (number | null)[];
  /** What the weights that stay are chosen by, or null where the last ones stay. */
  readonly evaluation: EvaluationOptions | null;
}

export interface EvaluationOptions {
  /** SHA-256 of the graded pairs. */
  readonly dev: string;
  /** Steps from one evaluation to the next. */
  readonly every: number;
  /** Evaluations without a better score after which the run ends; 0 never ends it. */
  readonly patience: number;
}

/** How far a run has come. */
export interface RunState {
  readonly step: number;
  /** The first evaluation with the highest score so far. */
  readonly best?: { readonly step: number; readonly score: number };
}

/** Its number rises with whatever would make a resumed run another: the bits of dropout, too. */
const FORMAT = "simcse-edge checkpoint 4";

const prefixed = (prefix: string, named: readonly Tensor[]): Tensor[] =>
  named.map((tensor) => ({ ...tensor, name: prefix + tensor.name }));

const momentsOf = ({ model }: TrainingPlan): Tensor[] => [
  ...prefixed("adam.first.", model.first.named),
  ...prefixed("adam.second.", model.second.named),
];

function tensorsOf(plan: TrainingPlan): Tensor[] {
  const { weights, average } = plan.model;
  return [...weights.named, ...momentsOf(plan), ...prefixed("average.", average?.named ?? [])];
}

/** Both moments of Adam, and how many steps they have seen. */
export interface AdamState {
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  readonly steps: number;
  /** Where they are from, for errors. */
  readonly file: string;
}

/**
 * Reads moments from a checkpoint, or from what another program wrote under the same names: `adam.first.` and `adam.second.` before
 * that of the weight, and `adam_steps` in the metadata.
 * @throws FormatError for a file that is damaged or says nothing of steps
 */
export function parseAdam(bytes: Uint8Array, file: string): AdamState {
  const { tensors, metadata } = parseSafetensors(bytes, file);
  const steps = Number(metadata["adam_steps"] ?? NaN);
  if (!Number.isInteger(steps) || steps < 0) {
    throw new FormatError(
      `${file}: expected adam_steps in the metadata, a whole number, found ${metadata["adam_steps"] ?? "none"}; ` +
        `give a checkpoint.safetensors, or what examples/pytorch writes`,
    );
  }
  return { tensors, steps, file };
}

/**
 * Lets a run begin with moments, whose steps its options count as `adamSteps`.
 * @throws FormatError naming one that is absent or has another shape than its weight
 */
export function loadAdam(buffer: ArrayBufferLike, plan: TrainingPlan, state: AdamState): void {
  loadWeights(buffer, momentsOf(plan), state.tensors, state.file);
  new Int32Array(buffer, plan.last.ptr, plan.last.shape[0]).fill(state.steps);
}

/** The bytes of a checkpoint; the weights must be settled. */
export async function serializeCheckpoint(
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  run: RunOptions,
  state: RunState,
): Promise<Uint8Array> {
  const tensors = storeWeights(buffer, tensorsOf(plan));
  return serializeSafetensors(tensors, {
    format: FORMAT,
    run: JSON.stringify(run),
    state: JSON.stringify(state),
    adam_steps: String((run.step.adamSteps ?? 0) + state.step),
    sha256: await sha256HexOfParts(tensors.map(([, tensor]) => tensor.data)),
  });
}

/**
 * Restores weights and moments, and returns how far the run had come.
 * @throws FormatError for a damaged file; Error for a run with other options, naming the first that differs
 */
export async function restoreCheckpoint(
  bytes: Uint8Array,
  file: string,
  buffer: ArrayBufferLike,
  plan: TrainingPlan,
  run: RunOptions,
): Promise<RunState> {
  const { tensors, metadata } = parseSafetensors(bytes, file);
  if (metadata["format"] !== FORMAT || !metadata["run"] || !metadata["state"]) {
    throw new FormatError(
      `${file}: expected a ${FORMAT}, found ${metadata["format"] ?? "a safetensors file without its metadata"}; ` +
        `delete it to train from the start`,
    );
  }
  const sum = await sha256HexOfParts([...tensors.values()].map(({ data }) => data));
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
  const state = JSON.parse(metadata["state"]) as RunState;
  const last = new Int32Array(buffer, plan.last.ptr, plan.last.shape[0]);
  last.fill((run.step.adamSteps ?? 0) + state.step);
  return state;
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
