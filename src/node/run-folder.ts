/** The folder of a training run: its checkpoint, its metrics (also for TensorBoard), the best model so far, and at the end the model itself. */
import { appendFile, mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  restoreCheckpoint,
  type RunOptions,
  type RunState,
  serializeCheckpoint,
} from "../train/checkpoint.ts";
import type { DevReport, StepReport } from "../train/trainer.ts";
import { trainingReport, type TrainingRun } from "../report/training.ts";
import { fileVersion, lengthUpTo, scalars } from "../report/tensorboard.ts";
import { readFileOr, sweepTemporary, writeFileAtomic } from "./files.ts";
import type { Team } from "./team.ts";

export class RunFolder {
  readonly path: string;
  readonly checkpointFile: string;
  /** Model folder of the best evaluation. */
  readonly best: string;
  readonly #metricsFile: string;
  /** TensorBoard finds it by the word `tfevents`. */
  readonly #eventsFile: string;
  #pending = "";
  #pendingEvents: Uint8Array[] = [];

  private constructor(path: string) {
    this.path = path;
    this.checkpointFile = join(path, "checkpoint.safetensors");
    this.best = join(path, "best");
    this.#metricsFile = join(path, "metrics.jsonl");
    this.#eventsFile = join(path, "events.out.tfevents.simcse-edge");
  }

  /** Makes the folder if need be, and removes what a killed process left half written. */
  static async open(path: string): Promise<RunFolder> {
    await mkdir(path, { recursive: true });
    await sweepTemporary(path, { recursive: true }); // `best/` and its modules too
    return new RunFolder(path);
  }

  /** Whether there is a run to resume. */
  async hasCheckpoint(): Promise<boolean> {
    return stat(this.checkpointFile).then(
      () => true,
      () => false,
    );
  }

  /** Loads the checkpoint into a team, drops metrics and events of steps after it, and returns its state. */
  async restore(team: Team, run: RunOptions): Promise<RunState> {
    const bytes = await readFileOr(this.checkpointFile, "the checkpoint of an interrupted run");
    const state = await restoreCheckpoint(bytes, this.checkpointFile, team.buffer, team.plan, run);
    const lines = (await readFile(this.#metricsFile, "utf8").catch(() => "")).split("\n");
    const kept = lines.filter((line) => isMetricUpTo(line, state.step)).map((line) => `${line}\n`);
    await writeFileAtomic(this.#metricsFile, new TextEncoder().encode(kept.join("")));
    const events = await readFile(this.#eventsFile).catch(() => new Uint8Array());
    const length = lengthUpTo(events, state.step);
    await writeFileAtomic(
      this.#eventsFile,
      length > 0 ? events.subarray(0, length) : fileVersion(Date.now() / 1000),
    );
    return state;
  }

  /** Begins a run anew. */
  async reset(): Promise<void> {
    await rm(this.best, { recursive: true, force: true });
    await writeFileAtomic(this.#metricsFile, new Uint8Array());
    await writeFileAtomic(this.#eventsFile, fileVersion(Date.now() / 1000));
  }

  /** Notes a step or an evaluation; it reaches the disk with the next checkpoint. */
  record(report: StepReport | DevReport): void {
    this.#pending += `${JSON.stringify(report)}\n`;
    const values =
      "spearman" in report
        ? {
            ...(!Number.isNaN(report.spearman) && { "dev/spearman": report.spearman }),
            "dev/alignment": report.alignment,
            "dev/uniformity": report.uniformity,
          }
        : {
            "train/loss": report.loss,
            ...parts(report),
            ...(report.accuracy !== undefined && { "train/mlm_accuracy": report.accuracy }),
            "train/gradient_norm": report.gradientNorm,
            "train/learning_rate": report.learningRate,
          };
    this.#pendingEvents.push(scalars(Date.now() / 1000, report.step, values));
  }

  /** Metrics first: those after the last checkpoint are dropped on resume, missing ones could not be made up. */
  async save(team: Team, run: RunOptions, state: RunState): Promise<void> {
    const lines = this.#pending;
    this.#pending = "";
    await appendFile(this.#metricsFile, lines);
    const events = Buffer.concat(this.#pendingEvents);
    this.#pendingEvents = [];
    await appendFile(this.#eventsFile, events);
    await writeFileAtomic(
      this.checkpointFile,
      await serializeCheckpoint(team.buffer, team.plan, run, state),
    );
  }

  /** Writes `report.html`, from the metrics up to the last checkpoint. */
  async report(run: Omit<TrainingRun, "steps" | "evaluations">): Promise<void> {
    const text = await readFile(this.#metricsFile, "utf8");
    const metrics = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line, nullToNaN) as StepReport | DevReport);
    const page = trainingReport({
      ...run,
      steps: metrics.filter((metric) => "loss" in metric),
      evaluations: metrics.filter((metric) => "spearman" in metric),
    });
    await writeFileAtomic(join(this.path, "report.html"), new TextEncoder().encode(page));
  }
}

/** The losses that make up that of a step, if it is not one alone. */
function parts({ loss, contrastive, distillation, mlm }: StepReport): Record<string, number> {
  const named = Object.entries({ contrastive, distillation, mlm }).filter(
    (part): part is [string, number] => part[1] !== undefined && part[1] !== loss,
  );
  return Object.fromEntries(named.map(([name, value]) => [`train/${name}`, value]));
}

/** A killed process may leave half a line, which is no metric. */
function isMetricUpTo(line: string, step: number): boolean {
  try {
    return (JSON.parse(line) as StepReport).step <= step;
  } catch {
    return false;
  }
}

/** JSON has no NaN, which the alignment of pairs without a positive one is, and writes null. */
function nullToNaN(_: string, value: unknown): unknown {
  return value === null ? NaN : value;
}
