import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { Arena, ARENA_BASE } from "../src/runtime/arena.ts";
import { instantiate } from "../src/runtime/instantiate.ts";
import type { Kernels } from "../src/runtime/kernels.ts";

/** Something to time; `work` is what one call does, in the unit that the table counts. */
export interface Case {
  readonly name: string;
  readonly work: number;
  readonly run: () => void;
}

export interface Figure {
  readonly name: string;
  /** Work a second: median, least and most of all rounds. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** The median of a peer's rounds, which follow ours. */
  readonly peer?: number;
}

/** One table of figures; `reference` names the row that the others are shares of. */
export interface Table {
  readonly title: string;
  readonly unit: string;
  readonly reference: string;
  readonly rows: readonly Figure[];
}

const ROUNDS = 7;
const ROUND_SECONDS = 0.04;

/** The median, the least and the most of what rounds gave. */
export function figure(name: string, values: readonly number[]): Figure {
  const sorted = values.toSorted((a, b) => a - b);
  return { name, median: sorted[sorted.length >> 1]!, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Runs the cases in turn, round after round, so that whatever the machine does meets all of them. */
export function alternate(cases: readonly Case[]): Figure[] {
  const repetitions = cases.map(({ run }) => {
    run();
    const begun = performance.now();
    let calls = 0;
    do {
      run();
      calls++;
    } while (performance.now() - begun < ROUND_SECONDS * 1000);
    return calls;
  });
  const rates = cases.map(() => [] as number[]);
  for (let round = 0; round < ROUNDS; round++) {
    cases.forEach(({ work, run }, i) => {
      const begun = performance.now();
      for (let call = 0; call < repetitions[i]!; call++) run();
      rates[i]!.push((work * repetitions[i]!) / ((performance.now() - begun) / 1000));
    });
  }
  return cases.map(({ name }, i) => {
    const sorted = rates[i]!.toSorted((a, b) => a - b);
    return { name, median: sorted[ROUNDS >> 1]!, min: sorted[0]!, max: sorted.at(-1)! };
  });
}

/** The median rate of a peer, whose calls are asynchronous; undefined where it is not installed. */
export async function peerRate(
  work: number,
  run: (() => Promise<void>) | undefined,
): Promise<number | undefined> {
  if (!run) return undefined;
  await run();
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const begun = performance.now();
    let calls = 0;
    do {
      await run();
      calls++;
    } while (performance.now() - begun < ROUND_SECONDS * 1000);
    rates.push((work * calls) / ((performance.now() - begun) / 1000));
  }
  return figure("", rates).median / 1e9;
}

/** Figures in units of 10⁹. */
export function giga(figures: readonly Figure[]): Figure[] {
  return figures.map(({ name, median, min, max }) => ({
    name,
    median: median / 1e9,
    min: min / 1e9,
    max: max / 1e9,
  }));
}

/** One rank over a memory that `plan` lays out, filled with small random numbers. */
export function singleRank<T>(
  target: "node" | "portable",
  plan: (arena: Arena) => T,
): { k: Kernels; t: T; buffer: ArrayBufferLike } {
  const arena = new Arena();
  const t = plan(arena);
  const { pages } = arena;
  const memory = new WebAssembly.Memory(
    target === "node" ? { initial: pages, maximum: pages, shared: true } : { initial: pages },
  );
  const k = instantiate<Kernels>(
    new WebAssembly.Module(readFileSync(`build/${target}.wasm`)),
    memory,
  );
  k.join(0, 1);
  const floats = new Float32Array(memory.buffer, 65536);
  for (let i = 0, state = 1; i < floats.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    floats[i] = state / 2 ** 32;
  }
  return { k, t, buffer: memory.buffer };
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** The loops of `assembly/peak.ts`, with the instructions of the `node` or the `portable` binary. */
function limits(target: "node" | "portable"): WebAssembly.Exports {
  const file = `build/peak-${target}.wasm`;
  mkdirSync("build", { recursive: true });
  const enable = target === "node" ? "simd,relaxed-simd" : "simd";
  // prettier-ignore
  const { status, stderr } = spawnSync(process.execPath, ["node_modules/assemblyscript/bin/asc.js", "assembly/peak.ts", "--config", "none", "--runtime", "stub", "-O3", "--noAssert", "--use", "abort=", "--enable", enable, "-o", file], { encoding: "utf8" });
  if (status !== 0) throw new Error(`assembly/peak.ts does not compile: ${stderr}`);
  return new WebAssembly.Instance(new WebAssembly.Module(readFileSync(file)), {}).exports;
}

/** The register-only loop of the f32 tile. */
export function peakCase(target: "node" | "portable"): Case {
  const turns = 10_000;
  const flops = 8 * (target === "node" ? 12 : 7) * turns;
  const peak = limits(target)["peak"] as (turns: number, x: number, y: number) => number;
  return { name: "peak", work: flops, run: () => void peak(turns, 1 - 2 ** -20, 1e-3) };
}

/** Reading so many bytes of memory, and no more. */
export function readCase(bytes: number): Case {
  const { memory, read } = limits("node") as {
    memory: WebAssembly.Memory;
    read: (bytes: number) => number;
  };
  memory.grow(Math.ceil(bytes / 65536));
  new Uint8Array(memory.buffer).fill(1); // pages that nobody wrote are all the same one
  return { name: "read", work: bytes, run: () => void read(bytes) };
}

/** The softmax of rows of scores, in place. */
export function softmaxCase(rows: number, cols: number): Case {
  const { memory, softmax } = limits("node") as {
    memory: WebAssembly.Memory;
    softmax: (x: number, inverse: number, rows: number, cols: number) => void;
  };
  const bytes = 4 * rows * cols;
  memory.grow(Math.ceil(bytes / 65536) + 1);
  const base = ARENA_BASE;
  const run = (): void => softmax(base + 64, base, rows, cols);
  return { name: "softmax", work: 2 * bytes, run };
}
