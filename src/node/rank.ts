/** The program of every rank but the first: the same step as rank 0, until there is no next one. */
import { workerData } from "node:worker_threads";
import { instantiate } from "../runtime/instantiate.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { planTraining, trainStep } from "../train/step.ts";
import { poison, type RankData, readHeader } from "./team.ts";

const { module, memory, options, rank, size } = workerData as RankData;
const { buffer } = memory;
try {
  const plan = planTraining(options, size);
  const kernels = instantiate<Kernels>(module, memory);
  kernels.join(rank, size);
  for (;;) {
    kernels.barrier();
    const header = readHeader(buffer);
    if (!header) break;
    trainStep(kernels, buffer, plan, options, header);
  }
} catch (error) {
  poison(buffer);
  throw error;
}
