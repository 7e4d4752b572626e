import type { Command } from "commander";
import { planInference } from "../model/inference-weights.ts";
import { planEncoders } from "../model/sentence-encoder.ts";
import { readModelFolder } from "../node/model-folder.ts";
import { Arena, size, type Tensor } from "../runtime/arena.ts";
import { DEFAULT_THREADS, wholeNumber } from "./options.ts";
import { count, table } from "./terminal.ts";

function bytesOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { shape, dtype }) => sum + size(shape) * (dtype === "I8" ? 1 : 4), 0);
}

/** Tensors of one lifetime: what lives as long as the model, what a batch fills, what a kernel uses meanwhile. */
interface Lifetime {
  readonly name: string;
  readonly tensors: readonly Tensor[];
}

async function inspect(path: string, { threads, json }: InspectOptions): Promise<void> {
  const { config, tensors } = await readModelFolder(path);
  const weights = new Arena();
  planInference(weights, config);
  const ofRank = planEncoders(config, 1).arena.tensors.slice(weights.tensors.length);
  const lifetimes: Lifetime[] = [
    { name: "weights: as long as the model", tensors: weights.tensors },
    {
      name: "batch: one batch, each thread",
      tensors: ofRank.filter(({ name }) => name.startsWith("batch.")),
    },
    {
      name: "activations: one batch, each thread",
      tensors: ofRank.filter(({ name }) => !/^(batch\.|scratch$)/.test(name)),
    },
    {
      name: "scratch: one kernel, each thread",
      tensors: ofRank.filter(({ name }) => name === "scratch"),
    },
  ];
  const parameters = [...tensors.values()].reduce((sum, { shape }) => sum + size(shape), 0);
  const bytes = planEncoders(config, threads).arena.pages * 65536;
  if (json) {
    const memory = lifetimes.map(({ name, tensors: of }) => ({
      name,
      bytes: bytesOf(of),
      tensors: of,
    }));
    console.log(
      JSON.stringify({ model: path, config, parameters, threads, bytes, memory }, null, 2),
    );
    return;
  }
  const { encoder, pooling, maxLength, dtype } = config;
  console.log(
    `${path}: ${dtype}, ${encoder.numLayers} layers of ${encoder.hiddenSize}, ${encoder.numHeads} heads, ` +
      `${count(encoder.vocabSize)} word pieces, pooling ${String(pooling)}, at most ${maxLength} tokens`,
  );
  console.log(`${count(parameters)} numbers in ${tensors.size} tensors\n`);
  const megabytes = (n: number): string => (n / 1e6).toFixed(2);
  const rows = lifetimes.flatMap(({ name, tensors: of }) => [
    [name, megabytes(bytesOf(of)), ""],
    ...of.map((tensor) => [
      `  ${tensor.name}`,
      megabytes(bytesOf([tensor])),
      `[${tensor.shape.join(", ")}]`,
    ]),
  ]);
  console.log(table([["lifetime", "MB", "shape"], ...rows]));
  console.log(`\n${megabytes(bytes)} MB of linear memory for ${threads} threads`);
}

interface InspectOptions {
  readonly threads: number;
  readonly json?: boolean;
}

export function addInspect(program: Command): void {
  program
    .command("inspect")
    .description("what a model folder holds, and the memory it takes to serve")
    .argument("<model>", "model folder, f32 or int8")
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .option("--json", "print JSON instead of a table")
    .action((model: string, options: InspectOptions) => inspect(model, options));
}
