/** The folder of a training run: its checkpoint, its metrics, and at the end the model itself. */
import { appendFile, mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { restoreCheckpoint, type RunOptions, serializeCheckpoint } from "../train/checkpoint.ts";
import type { StepReport } from "../train/trainer.ts";
import { readFileOr, sweepTemporary, writeFileAtomic } from "./files.ts";
import type { Team } from "./team.ts";

export class RunFolder {
  readonly path: string;
  readonly checkpointFile: string;
  readonly #metricsFile: string;
  #pending = "";

  private constructor(path: string) {
    this.path = path;
    this.checkpointFile = join(path, "checkpoint.safetensors");
    this.#metricsFile = join(path, "metrics.jsonl");
  }

  /** Makes the folder if need be, and removes what a killed process left half written. */
  static async open(path: string): Promise<RunFolder> {
    await mkdir(path, { recursive: true });
    await sweepTemporary(path);
    return new RunFolder(path);
  }

  /** Whether there is a run to resume. */
  async hasCheckpoint(): Promise<boolean> {
    return stat(this.checkpointFile).then(
      () => true,
      () => false,
    );
  }

  /** Loads the checkpoint into a team, drops metrics of steps after it, and returns its step. */
  async restore(team: Team, run: RunOptions): Promise<number> {
    const bytes = await readFileOr(this.checkpointFile, "the checkpoint of an interrupted run");
    const step = await restoreCheckpoint(bytes, this.checkpointFile, team.buffer, team.plan, run);
    const lines = (await readFile(this.#metricsFile, "utf8").catch(() => "")).split("\n");
    const kept = lines.filter((line) => isMetricUpTo(line, step)).map((line) => `${line}\n`);
    await writeFileAtomic(this.#metricsFile, new TextEncoder().encode(kept.join("")));
    return step;
  }

  /** Begins a run anew. */
  async reset(): Promise<void> {
    await writeFileAtomic(this.#metricsFile, new Uint8Array());
  }

  /** Notes a step; it reaches the disk with the next checkpoint. */
  record(report: StepReport): void {
    this.#pending += `${JSON.stringify(report)}\n`;
  }

  /** Metrics first: those after the last checkpoint are dropped on resume, missing ones could not be made up. */
  async save(team: Team, run: RunOptions, step: number): Promise<void> {
    const lines = this.#pending;
    this.#pending = "";
    await appendFile(this.#metricsFile, lines);
    await writeFileAtomic(
      this.checkpointFile,
      await serializeCheckpoint(team.buffer, team.plan, run, step),
    );
  }
}

/** A killed process may leave half a line, which is no metric. */
function isMetricUpTo(line: string, step: number): boolean {
  try {
    return (JSON.parse(line) as StepReport).step <= step;
  } catch {
    return false;
  }
}
