/**
 * Encoding on threads. Every rank, also a single one, is a worker thread, so that the event loop stays free: a batch costs
 * one message there and one back. The threads share one memory, in which the weights lie once; each has a batch and
 * buffers of its own there. No vector depends on its batch, so the bits do not depend on the number of threads.
 */
import { Worker } from "node:worker_threads";
import type { SafetensorsTensor } from "../files/safetensors.ts";
import { type ModelConfig, sizesOf } from "../model/config.ts";
import { fillEncoders } from "../model/load-encoders.ts";
import { memoryOf, planEncoders } from "../model/sentence-encoder.ts";
import type { Encoder, TokenIds } from "../simcse.ts";
import { compileKernels } from "./binaries.ts";

/** What a rank needs to begin. */
export interface PoolRankData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly config: ModelConfig;
  readonly rank: number;
  readonly ranks: number;
}

/** A batch for a rank. */
export interface PoolRequest {
  readonly texts: readonly TokenIds[];
  readonly normalize: boolean;
}

/** Its vectors end to end, or what went wrong. */
export type PoolAnswer =
  { readonly vectors: Float32Array<ArrayBuffer> } | { readonly error: Error };

interface Job extends PoolRequest {
  readonly resolve: (vectors: Float32Array[]) => void;
  readonly reject: (error: Error) => void;
}

// Node runs the sources as they are, and the published package as compiled: the entry has the extension of this file.
const ENTRY = new URL(`./pool-rank${import.meta.url.slice(-3)}`, import.meta.url);

/**
 * Threads that encode. Batches wait in one queue, first come, first served. A thread without a batch does not keep the
 * process alive.
 */
export class EncoderPool implements Encoder {
  readonly config: ModelConfig;
  readonly dimension: number;
  readonly ranks: number;
  readonly #queue: Job[] = [];
  readonly #idle: Worker[] = [];
  readonly #workers: readonly Worker[];
  readonly #running = new Map<Worker, Job>();
  #closed: Error | undefined;

  private constructor(config: ModelConfig, workers: readonly Worker[]) {
    this.config = config;
    this.dimension = sizesOf(config).vector;
    this.ranks = workers.length;
    this.#workers = workers;
    for (const worker of workers) {
      worker.on("message", (answer: PoolAnswer) => this.#finish(worker, answer));
      worker.on("error", (error: unknown) => void this.#end(error as Error));
      worker.unref();
      this.#idle.push(worker);
    }
  }

  /**
   * Loads the weights and starts the threads. `file` names the weights in errors.
   * @throws FormatError for weights that are not those of `config`; RangeError for fewer threads than one
   */
  static async start(
    config: ModelConfig,
    tensors: ReadonlyMap<string, SafetensorsTensor>,
    file: string,
    threads: number,
  ): Promise<EncoderPool> {
    if (!Number.isInteger(threads) || threads < 1) {
      throw new RangeError(`threads ${threads}: expected a whole number from 1`);
    }
    const module = await compileKernels("node");
    const plan = planEncoders(config, threads);
    const memory = memoryOf(plan, true);
    const workers = Array.from({ length: threads }, (_, rank) => {
      const workerData: PoolRankData = { module, memory, config, rank, ranks: threads };
      return new Worker(ENTRY, { workerData, execArgv: [] }); // flags of this process, as --eval, are not for them
    });
    const pool = new EncoderPool(config, workers);
    try {
      // While the threads start: none reads weights before it has a batch.
      fillEncoders(module, memory, plan, tensors, file);
    } catch (error) {
      await pool.close();
      throw error;
    }
    return pool;
  }

  /**
   * Vectors [texts][dimension] of texts given as token ids, encoded as one batch by one thread.
   * @throws RangeError for a text that is empty or too long, or a token outside the vocabulary; Error once the pool ended
   */
  encode(
    texts: readonly TokenIds[],
    { normalize = true }: { normalize?: boolean } = {},
  ): Promise<Float32Array[]> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ texts, normalize, resolve, reject });
      this.#dispatch();
    });
  }

  /** Ends the threads; batches that are not done reject. Closing twice is closing once. */
  async close(): Promise<void> {
    await this.#end(new Error("the model is closed; load it again to encode"));
  }

  #dispatch(): void {
    if (this.#closed) for (const job of this.#queue.splice(0)) job.reject(this.#closed);
    while (this.#queue.length > 0 && this.#idle.length > 0) {
      const worker = this.#idle.pop()!;
      const job = this.#queue.shift()!;
      this.#running.set(worker, job);
      worker.ref();
      const { normalize } = job;
      // Copies: a message takes along all of the buffer that a view is a part of.
      const texts = job.texts.map((ids) => Int32Array.from(ids));
      worker.postMessage({ texts, normalize } satisfies PoolRequest);
    }
  }

  #finish(worker: Worker, answer: PoolAnswer): void {
    const job = this.#running.get(worker);
    this.#running.delete(worker);
    worker.unref();
    this.#idle.push(worker);
    if ("error" in answer) job?.reject(answer.error);
    else job?.resolve(rowsOf(answer.vectors, this.dimension));
    this.#dispatch();
  }

  /** A thread that fails outside a batch (no memory for its stack, say) ends the pool: what it left behind is unknown. */
  async #end(reason: Error): Promise<void> {
    this.#closed ??= reason;
    for (const job of this.#running.values()) job.reject(this.#closed);
    this.#running.clear();
    this.#idle.length = 0;
    this.#dispatch();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

/** Each row as an array of its own, so that keeping one does not keep its batch. */
function rowsOf(vectors: Float32Array<ArrayBuffer>, dimension: number): Float32Array[] {
  return Array.from({ length: vectors.length / dimension }, (_, i) =>
    vectors.slice(i * dimension, (i + 1) * dimension),
  );
}
