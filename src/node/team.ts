/**
 * A team of threads over one shared memory. The caller's thread is rank 0; worker threads are the others. They meet in
 * the barrier of the kernels, so a step costs no message.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { instantiate } from "../runtime/instantiate.ts";
import type { Kernels } from "../runtime/kernels.ts";
import type { StepHeader, StepLoss, StepOptions, TrainingPlan } from "../train/step.ts";
import type { TrainingTeam } from "../train/trainer.ts";
import { compileKernels } from "./binaries.ts";

/** Loaded with the first team: a program that only encodes has no use for it. */
type Training = typeof import("../train/step.ts");

/** What a rank needs to begin. */
export interface RankData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly options: StepOptions;
  readonly rank: number;
  readonly size: number;
}

// Control words, below the static data of the kernels; `assembly/team.ts` owns those of the barrier.
const EPOCH = 128;
const POISON = 192;
const HEADER = 256; // a float64 learning rate; int32: go on?, rows, step, part, known, touched, columns or 0 for the plan's

/** Writes what the other ranks read after the next barrier; `undefined` ends them. */
function writeHeader(buffer: ArrayBufferLike, header: StepHeader | undefined): void {
  new Float64Array(buffer, HEADER, 1)[0] = header?.learningRate ?? 0;
  const words = new Int32Array(buffer, HEADER + 8, 7).fill(0);
  if (!header) return;
  const { rows, step, part = 0, known = 0, touched, columns = 0 } = header;
  words.set([1, rows, step, part, known, touched, columns]);
}

/** The header of the step at hand, or `undefined` after the last one. */
export function readHeader(buffer: ArrayBufferLike): StepHeader | undefined {
  const learningRate = new Float64Array(buffer, HEADER, 1)[0]!;
  const words = [...new Int32Array(buffer, HEADER + 8, 7)];
  const [more, rows, step, part, known, touched, columns] = words as [
    ...[number, number, number, number, number, number],
    0 | 2 | 3,
  ];
  if (!more) return undefined;
  const header = { rows, step, part, known, touched, learningRate };
  return columns === 0 ? header : { ...header, columns };
}

/** Makes every rank that waits, now or later, trap instead: without it one exception would be a deadlock. */
export function poison(buffer: ArrayBufferLike): void {
  Atomics.store(new Int32Array(buffer, POISON, 1), 0, 1);
  Atomics.notify(new Int32Array(buffer, EPOCH, 1), 0);
}

export class Team implements TrainingTeam {
  readonly plan: TrainingPlan;
  readonly buffer: ArrayBufferLike;
  readonly #options: StepOptions;
  readonly #training: Training;
  readonly #kernels: Kernels;
  readonly #workers: Worker[];
  #failure: Error | undefined;

  private constructor(
    options: StepOptions,
    training: Training,
    plan: TrainingPlan,
    kernels: Kernels,
    memory: WebAssembly.Memory,
    workers: Worker[],
  ) {
    this.plan = plan;
    this.buffer = memory.buffer;
    this.#options = options;
    this.#training = training;
    this.#kernels = kernels;
    this.#workers = workers;
    for (const worker of workers) worker.on("error", (error) => (this.#failure = error as Error));
  }

  /** Plans, allocates and starts `size` ranks; weights and moments are zero. */
  static async start(options: StepOptions, size: number): Promise<Team> {
    const training = await import("../train/step.ts");
    const plan = training.planTraining(options, size);
    const { pages } = plan.arena;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const module = await compileKernels("node");
    const kernels = instantiate<Kernels>(module, memory);
    kernels.join(0, size);
    // Node runs the sources as they are, and the published package as compiled: the entry has the extension of this file.
    const entry = new URL(`./rank${import.meta.url.slice(-3)}`, import.meta.url);
    const workers = Array.from({ length: size - 1 }, (_, i) => {
      const workerData: RankData = { module, memory, options, rank: i + 1, size };
      return new Worker(entry, { workerData });
    });
    await Promise.all(workers.map((worker) => once(worker, "online")));
    return new Team(options, training, plan, kernels, memory, workers);
  }

  async step(header: StepHeader): Promise<StepLoss> {
    try {
      writeHeader(this.buffer, header);
      this.#kernels.barrier();
      this.#training.trainStep(this.#kernels, this.buffer, this.plan, this.#options, header);
    } catch (cause) {
      poison(this.buffer);
      await Promise.all(this.#workers.map((worker) => worker.terminate()));
      throw this.#failure ?? cause;
    }
    // Signals and worker errors arrive only when this thread lets the event loop turn.
    await new Promise((resolve) => setImmediate(resolve));
    return this.#training.readLoss(this.buffer, this.plan);
  }

  async settle(step: number): Promise<void> {
    await this.step({ rows: 0, touched: 0, step, learningRate: 0 });
  }

  /** Ends the other ranks. */
  async close(): Promise<void> {
    const exits = this.#workers.map((worker) => once(worker, "exit"));
    writeHeader(this.buffer, undefined);
    this.#kernels.barrier();
    await Promise.all(exits);
  }
}
