import type { RunOptions, RunState } from "./checkpoint.ts";
import { learningRateAt } from "./schedule.ts";
import {
  batchNumber,
  type StepHeader,
  type StepLoss,
  type TrainingPlan,
  writeTrainingBatch,
} from "./step.ts";
import type { Batches } from "./teaching.ts";

/** Ranks that run one step together. */
export interface TrainingTeam {
  readonly plan: TrainingPlan;
  readonly buffer: ArrayBufferLike;
  /** Runs a step, or a batch of it, on all ranks and returns what came of it. */
  step(header: StepHeader): Promise<StepLoss>;
  /** Makes memory hold the weights of a step, the last one, in all of their rows: before anything reads them. */
  settle(step: number): Promise<void>;
}

export interface StepReport extends Omit<StepLoss, "norm"> {
  readonly step: number;
  readonly totalSteps: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
  /** Of a batch; of several the last one. */
  readonly rows: number;
  readonly columns: 2 | 3;
}

/** What weights make of pairs that are not trained on. */
export interface DevReport {
  readonly step: number;
  /** Times 100; NaN of pairs without grades, which choose no weights. */
  readonly spearman: number;
  readonly alignment: number;
  readonly uniformity: number;
}

export interface TrainerEvents {
  /** After every step. */
  onStep(report: StepReport): void;
  /** Saves the state; called every `checkpointEvery` steps, at the end and when interrupted. */
  onCheckpoint(state: RunState): Promise<void>;
  /** Scores the weights after a step; called as `run.evaluation` says, and after the last step. Needed only there. */
  onEvaluation?(step: number): Promise<DevReport>;
  /** Keeps the weights, whose score is higher than all before; as `onEvaluation`. */
  onBest?(report: DevReport): Promise<void>;
}

/**
 * Trains on from a state to the end of the run, to where patience ends, or until `signal` aborts: then the step in
 * progress ends. The state is saved and comes back. Evaluations are a part of the state, saved after they were made, so a
 * resumed run stops where one that was never interrupted does.
 * @throws Error when a loss is not finite, naming step and batch; the weights are then those before that step
 */
export async function train(
  team: TrainingTeam,
  run: RunOptions,
  order: Batches,
  from: RunState,
  checkpointEvery: number,
  events: TrainerEvents,
  signal?: AbortSignal,
): Promise<RunState> {
  const { totalSteps } = run;
  let state = from;
  while (!isFinished(run, state)) {
    const step = state.step + 1;
    events.onStep(await takeStep(team, run, order, step));
    state = { ...state, step };
    if (run.evaluation && (step % run.evaluation.every === 0 || step === totalSteps)) {
      await team.settle(step);
      const report = await events.onEvaluation!(step);
      if (report.spearman > (state.best?.score ?? -Infinity)) {
        await events.onBest!(report);
        state = { step, best: { step, score: report.spearman } };
      }
    }
    const ends = isFinished(run, state) || signal?.aborted === true;
    if (ends || step % checkpointEvery === 0) {
      await team.settle(step);
      await events.onCheckpoint(state);
    }
    if (ends) break;
  }
  return state;
}

/** Runs the batches of a step, one after another. */
async function takeStep(
  team: TrainingTeam,
  run: RunOptions,
  order: Batches,
  step: number,
): Promise<StepReport> {
  const { plan, buffer } = team;
  const { totalSteps, warmupSteps, schedule } = run;
  const learningRate = learningRateAt(step, totalSteps, run.learningRate, warmupSteps, schedule);
  const found: StepLoss[] = [];
  let all = { rows: 0, columns: 2 as StepReport["columns"], tokens: 0 };
  let known = 0;
  for (let part = 0; part < (run.step.accumulate ?? 1); part++) {
    const batch = await order.batch(batchNumber(run.step, step, part));
    const { sequences, ids, columns, source, masked, taught } = batch;
    const written = writeTrainingBatch(buffer, plan, run.step, sequences, masked, known);
    const { touched } = written;
    if (sequences.length > 0) new Int32Array(buffer, plan.objective.ids.ptr, ids.length).set(ids);
    if (taught && plan.objective.taught) {
      new Float32Array(buffer, plan.objective.taught.teachers.ptr, taught.length).set(taught);
    }
    const rows = ids.length / columns;
    const losses = await team.step({ rows, step, part, known, touched, learningRate, columns });
    const { loss, norm } = losses;
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new Error(
        `loss ${loss} with gradient norm ${norm} at step ${step}, learning rate ${learningRate}, batch of ${rows} rows ` +
          `of ${source}; lower --learning-rate or raise --temperature and resume from the last checkpoint`,
      );
    }
    found.push(losses);
    known = touched;
    all = { rows, columns, tokens: all.tokens + written.tokens };
  }
  const { norm: gradientNorm, ...last } = found.at(-1)!;
  const means = Object.keys(last).map((name) => {
    const key = name as keyof StepLoss;
    return [key, found.reduce((sum, losses) => sum + losses[key]!, 0) / found.length];
  });
  const losses = Object.fromEntries(means) as typeof last;
  return { step, totalSteps, ...losses, gradientNorm, learningRate, ...all };
}

/** Whether a run has made its last step, or its patience has ended. */
export function isFinished(
  { totalSteps, evaluation }: RunOptions,
  { step, best }: RunState,
): boolean {
  if (step >= totalSteps) return true;
  if (!evaluation || evaluation.patience === 0) return false;
  return step - (best?.step ?? 0) >= evaluation.patience * evaluation.every;
}
