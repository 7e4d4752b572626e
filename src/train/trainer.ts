import { writeBatch } from "../model/batch.ts";
import type { RunOptions } from "./checkpoint.ts";
import type { BatchOrder } from "./data.ts";
import { learningRateAt } from "./schedule.ts";
import type { StepHeader, TrainingPlan } from "./step.ts";

/** Ranks that run one step together. */
export interface TrainingTeam {
  readonly plan: TrainingPlan;
  readonly buffer: ArrayBufferLike;
  /** Runs a step on all ranks and returns its loss and gradient norm. */
  step(header: StepHeader): Promise<{ loss: number; norm: number }>;
}

export interface StepReport {
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
}

export interface TrainerEvents {
  /** After every step. */
  onStep(report: StepReport): void;
  /** Saves the state after a step; called every `checkpointEvery` steps, at the end and when interrupted. */
  onCheckpoint(step: number): Promise<void>;
}

/**
 * Trains from after step `from` to the end of the run, or until `signal` aborts: then the step in progress ends, the
 * state is saved, and the number of the last step comes back.
 * @throws Error when a loss is not finite, naming step and batch; the weights are then those before that step
 */
export async function train(
  team: TrainingTeam,
  run: RunOptions,
  order: BatchOrder,
  from: number,
  checkpointEvery: number,
  events: TrainerEvents,
  signal?: AbortSignal,
): Promise<number> {
  const { plan, buffer } = team;
  const { encoder } = run.step;
  for (let step = from + 1; step <= run.totalSteps; step++) {
    const { sequences, ids } = order.batch(step);
    const tokens = writeBatch(buffer, plan.batch, plan.limits, encoder.vocabSize, sequences);
    new Int32Array(buffer, plan.ids.ptr, ids.length).set(ids);
    const learningRate = learningRateAt(step, run.totalSteps, run.learningRate, run.warmupSteps);
    const rows = sequences.length / run.step.columns;
    const { loss, norm } = await team.step({ rows, tokens, step, learningRate });
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new Error(
        `loss ${loss} with gradient norm ${norm} at step ${step}, learning rate ${learningRate}, batch of sentences ` +
          `${order
            .rows(step)
            .slice(0, 5)
            .map((row) => row + 1)
            .join(", ")}, …; lower --learning-rate or raise ` +
          `--temperature and resume from the last checkpoint`,
      );
    }
    events.onStep({
      step,
      totalSteps: run.totalSteps,
      loss,
      gradientNorm: norm,
      learningRate,
      tokens,
    });
    const last = step === run.totalSteps || signal?.aborted;
    if (last || step % checkpointEvery === 0) await events.onCheckpoint(step);
    if (last) return step;
  }
  return run.totalSteps;
}
