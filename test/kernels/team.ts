/** Runs the programs of the kernel tests on real threads that share a memory. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { Kernels } from "../../src/runtime/kernels.ts";
import {
  collect,
  compiled,
  expectSameBits,
  Machine,
  type Program,
  type Results,
  run,
} from "./harness.ts";

/** A kernel and its arguments. */
export interface Call {
  readonly kernel: string;
  readonly args: readonly number[];
}

/** What a rank needs to begin. */
export interface RankData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly rank: number;
  readonly size: number;
  readonly calls: readonly Call[];
}

/** Programs by the name of their case. */
export type Programs = Readonly<Record<string, Program<string>>>;

/** Makes the calls, all of them on every rank; rejects with the first error of a rank. */
export async function makeCalls(
  memory: WebAssembly.Memory,
  size: number,
  calls: readonly Call[],
): Promise<void> {
  const module = compiled("node");
  const ranks = Array.from({ length: size }, async (_, rank) => {
    const workerData: RankData = { module, memory, rank, size, calls };
    await once(new Worker(new URL("./rank.ts", import.meta.url), { workerData }), "exit");
  });
  const failures = (await Promise.allSettled(ranks)).filter((end) => end.status === "rejected");
  if (failures[0]) throw failures[0].reason;
}

/** Lays out all programs, one behind the other, then lets a team of threads make their calls. */
export async function runTeam<All extends Programs>(
  size: number,
  programs: All,
): Promise<Readonly<Record<keyof All, Results<string>>>> {
  const calls: Call[] = [];
  const recorder = new Proxy({} as Kernels, {
    get: (_, kernel: string) => {
      return (...args: number[]): void => void calls.push({ kernel, args });
    },
  });
  const { memory } = new Machine("node"); // an instance, so that the memory holds the static data
  const machine = new Machine("node", memory, recorder, size);
  const outputs = Object.entries(programs).map(
    ([name, program]) => [name, program(machine)] as const,
  );
  await makeCalls(memory, size, calls);
  machine.expectIntact();
  return Object.fromEntries(
    outputs.map(([name, tensors]) => [name, collect(machine, tensors)]),
  ) as Record<keyof All, Results<string>>;
}

/** Teams of two and of three give the bits of one rank. */
export async function expectTeamInvariance(programs: Programs): Promise<void> {
  for (const size of [2, 3]) {
    const found = await runTeam(size, programs);
    for (const [name, program] of Object.entries(programs)) {
      expectSameBits(found[name]!, run("node", program), `${name}, team of ${size}`);
    }
  }
}
