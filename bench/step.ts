/**
 * A whole step of unsupervised SimCSE (64 sentences twice, dropout, InfoNCE, AdamW) beside PyTorch's, each in a process of its own,
 * in turn: real tokens a second, and the most memory a process had. `SIMCSE_PYTHON` names a Python with PyTorch; without it only our
 * rows are printed.
 */
import { execFileSync } from "node:child_process";
import { figure, type Table } from "./measure.ts";

const PYTHON = process.env["SIMCSE_PYTHON"];
const SENTENCES = 64;
const VOCAB = 30522;

/** Layers, hidden size, heads. */
const SHAPES = {
  layer: [1, 384, 12],
  tiny: [2, 128, 2],
  minilm: [6, 384, 12],
  base: [12, 768, 12],
};

interface Work {
  readonly shape: keyof typeof SHAPES;
  readonly threads: number;
  /** Of [CLS] unless said, as SimCSE trains: then the last layer, which PyTorch computes whole, is computed for [CLS] alone. */
  readonly pooling?: "avg";
  /** Every sentence has so many tokens; without it they are as long as real ones. */
  readonly length?: number;
  /** Processes of each kind, and the steps of one, whose mean counts once; as many, up to two, come before to warm up. */
  readonly rounds: number;
  readonly steps: number;
  /** Ours by one thread, beside that of more. */
  readonly one?: boolean;
}

const WORKS: Readonly<Record<string, Work>> = {
  "step-layer": { shape: "layer", threads: 2, pooling: "avg", rounds: 5, steps: 40, one: true },
  "step-tiny": { shape: "tiny", threads: 1, rounds: 5, steps: 40 },
  "step-minilm": { shape: "minilm", threads: 1, rounds: 5, steps: 3 },
  "step-minilm-2": { shape: "minilm", threads: 2, rounds: 5, steps: 12, one: true },
  "step-minilm-32": { shape: "minilm", threads: 1, length: 32, rounds: 5, steps: 3 },
  "step-base": { shape: "base", threads: 2, rounds: 5, steps: 2 },
};

export const steps: Readonly<Record<string, () => Generator<Table>>> = Object.fromEntries(
  Object.entries(WORKS).map(([name, work]) => [name, () => tables(work)]),
);

/** Token ids of sentences as long as real ones: 6 to 34 tokens, most of them short, 16 on average. */
export function sentences(vocabSize: number): number[][] {
  return Array.from({ length: SENTENCES }, (_, i) =>
    Array.from(
      { length: 6 + Math.floor(28 * (((i * 37) % SENTENCES) / SENTENCES) ** 1.8) },
      (__, j) => (i * 31 + j * 17 + 5) % vocabSize,
    ),
  );
}

function* tables({
  shape,
  threads,
  pooling,
  length,
  rounds,
  steps: count,
  one,
}: Work): Generator<Table> {
  const lengths = sentences(VOCAB).map((ids) => length ?? ids.length);
  const tokens = 2 * lengths.reduce((sum, n) => sum + n, 0);
  const node = [process.execPath, "bench/node_step.ts"] as const;
  const named = (name: string, n: number): string => `${name}, ${n} thread${n > 1 ? "s" : ""}`;
  const ours = named("simcse-edge", threads);
  const programs: [string, readonly [string, string], number][] = [[ours, node, threads]];
  if (PYTHON) programs.push([named("PyTorch", threads), [PYTHON, "bench/torch_step.py"], threads]);
  if (one) programs.push([named("simcse-edge", 1), node, 1]);
  const rates = new Map(programs.map(([name]) => [name, [] as number[]]));
  const memory = new Map(programs.map(([name]) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, [command, file], n] of programs) {
      const warm = Math.min(2, count);
      const args = [file, ...SHAPES[shape], VOCAB, n, warm, count, pooling ?? "cls"].map(String);
      // The default kernels of OpenBLAS are of another century.
      const blas = process.env["OPENBLAS_CORETYPE"] ?? "SKYLAKEX";
      const env = { ...process.env, OPENBLAS_NUM_THREADS: String(n), OPENBLAS_CORETYPE: blas };
      const text = execFileSync(command, args, { input: JSON.stringify(lengths), env });
      const { seconds, megabytes } = JSON.parse(text.toString()) as {
        seconds: number[];
        megabytes: number;
      };
      rates.get(name)!.push((tokens * seconds.length) / seconds.reduce((a, b) => a + b) / 1000);
      memory.get(name)!.push(megabytes);
    }
  }
  const work = length === undefined ? "real sentence lengths" : `sentences of ${length} tokens`;
  const title = `a training step, ${shape} (${SHAPES[shape][0]} x ${SHAPES[shape][1]}), ${work}`;
  const reference = PYTHON ? named("PyTorch", threads) : ours;
  const rows = (values: Map<string, number[]>) => [...values].map(([n, list]) => figure(n, list));
  yield { title, unit: "thousand tokens/s", reference, rows: rows(rates) };
  yield { title: `${title}, most memory`, unit: "MB", reference, rows: rows(memory) };
}
