import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";

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
}

const ROUNDS = 7;
const ROUND_SECONDS = 0.04;

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

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** The register-only loop of the f32 tile, with the instructions of the `node` or the `portable` binary. */
export function peakCase(target: "node" | "portable"): Case {
  const file = `build/peak-${target}.wasm`;
  mkdirSync("build", { recursive: true });
  const enable = target === "node" ? "simd,relaxed-simd" : "simd";
  // prettier-ignore
  const { status, stderr } = spawnSync(process.execPath, ["node_modules/assemblyscript/bin/asc.js", "assembly/peak.ts", "--config", "none", "--runtime", "stub", "-O3", "--noAssert", "--use", "abort=", "--enable", enable, "-o", file], { encoding: "utf8" });
  if (status !== 0) throw new Error(`assembly/peak.ts does not compile: ${stderr}`);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(file)), {});
  const turns = 100_000;
  return {
    name: "peak",
    work: 96 * turns,
    run: () => (exports["peakFused"] as (n: number) => number)(turns),
  };
}
