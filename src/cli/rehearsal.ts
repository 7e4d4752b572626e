import { Team } from "../node/team.ts";
import { size } from "../runtime/arena.ts";
import type { RunState } from "../train/checkpoint.ts";
import { train } from "../train/trainer.ts";
import { count, duration, table } from "./terminal.ts";
import { begin, type PlannedRun } from "./train-plan.ts";

/** Steps of a dry run; the first also warms up. */
const REHEARSED = 5;

/** Trains a few steps, and prints what the run would take of memory and time. */
export async function rehearse(planned: PlannedRun, threads: number): Promise<RunState> {
  const { run, order } = planned;
  const team = await Team.start(run.step, threads);
  try {
    const { model } = team.plan;
    begin(team, planned);
    const ends = [performance.now()];
    const steps = Math.min(REHEARSED, run.totalSteps);
    const events = {
      onStep: () => void ends.push(performance.now()),
      onCheckpoint: async () => {},
    };
    const short = { ...run, totalSteps: steps, evaluation: null };
    await train(team, short, order, { step: 0 }, Infinity, events);
    const times = ends.slice(1).map((end, i) => (end - ends[i]!) / 1000);
    const seconds =
      times.slice(1).toSorted((a, b) => a - b)[Math.floor((times.length - 1) / 2)] ?? times[0]!;
    const parameters = model.first.named.reduce((sum, { shape }) => sum + size(shape), 0);
    const averages = model.average ? parameters : 0;
    const all = team.buffer.byteLength;
    const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
    console.log(
      table([
        ["parameters", count(parameters)],
        ["weights, for the whole run", megabytes(4 * parameters)],
        ["moments of Adam, for the whole run", megabytes(8 * parameters)],
        ...(averages > 0 ? [["their average, for the whole run", megabytes(4 * averages)]] : []),
        ["gradients, for a step", megabytes(4 * parameters)],
        [
          "activations of the largest batch, for a step",
          megabytes(all - 16 * parameters - 4 * averages),
        ],
        ["memory of the kernels, all of this", megabytes(all)],
        ["steps", count(run.totalSteps)],
        [`seconds a step, median of ${Math.max(1, steps - 1)}`, seconds.toFixed(3)],
        ["time, without evaluations", duration(seconds * run.totalSteps)],
      ]),
    );
    return { step: 0 };
  } finally {
    await team.close();
  }
}
