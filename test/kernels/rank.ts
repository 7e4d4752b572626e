/** The program of a rank in the kernel tests: makes the calls of a list. */
import { workerData } from "node:worker_threads";
import { instantiate } from "../../src/runtime/instantiate.ts";
import type { Kernels } from "../../src/runtime/kernels.ts";
import type { RankData } from "./team.ts";

const { module, memory, rank, size, calls } = workerData as RankData;
const words = new Int32Array(memory.buffer);
try {
  const kernels = instantiate<Kernels>(module, memory) as unknown as Record<
    string,
    (...args: number[]) => void
  >;
  kernels.join!(rank, size);
  for (const { kernel, args } of calls) kernels[kernel]!(...args);
} catch (error) {
  // The poison word and the epoch of `assembly/team.ts`: without them, one exception would be a deadlock.
  Atomics.store(words, 192 >> 2, 1);
  Atomics.notify(words, 128 >> 2);
  throw error;
}
