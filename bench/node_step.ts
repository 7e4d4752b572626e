/**
 * One process that trains: `node bench/node_step.ts <layers> <hidden> <heads> <vocabulary> <threads> <warm> <steps> <pooling> < lengths.json`,
 * as `bench/torch_step.py` does it; pooling is `cls` or `avg`. Prints the seconds of each step after those that warm up, and the most memory it had, in MB.
 */
import { text } from "node:stream/consumers";
import type { EncoderConfig } from "../src/model/config.ts";
import { Team } from "../src/node/team.ts";
import { initializeWeights } from "../src/train/initialize.ts";
import { type StepOptions, writeTrainingBatch } from "../src/train/step.ts";

const [layers, hidden, heads, vocab, threads, warm, steps] = process.argv
  .slice(2, 9)
  .map(Number) as [...[number, number, number, number, number, number, number]];
const pooling = process.argv[9] as "cls" | "avg";
const lengths = JSON.parse(await text(process.stdin)) as number[];
const encoder: EncoderConfig = {
  vocabSize: vocab,
  hiddenSize: hidden,
  numLayers: layers,
  numHeads: heads,
  intermediateSize: 4 * hidden,
  maxPositions: 512,
  typeVocabSize: 2,
  layerNormEpsilon: 1e-12,
  hiddenDropout: 0.1,
  attentionDropout: 0.1,
};
const rows = lengths.length;
const options: StepOptions = {
  encoder,
  pooling,
  batchSize: rows,
  columns: 2,
  maxLength: Math.max(...lengths),
  temperature: 0.05,
  hardNegativeWeight: 0,
  dropout: true,
  seed: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
  maxGradientNorm: 0,
};
const team = await Team.start(options, threads);
initializeWeights(team.buffer, team.plan.model.weights, 1);
const once = lengths.map((length, i) =>
  Array.from({ length }, (_, j) => (i * 431 + j * 1117 + 5) % vocab),
);
const { touched } = writeTrainingBatch(team.buffer, team.plan, options, [...once, ...once]);
const ids = new Int32Array(team.buffer, team.plan.objective.ids.ptr, 2 * rows);
ids.forEach((_, i) => (ids[i] = i % rows));
const seconds: number[] = [];
for (let step = 1; step <= warm + steps; step++) {
  const begun = performance.now();
  await team.step({ rows, touched, step, learningRate: 1e-5 });
  if (step > warm) seconds.push((performance.now() - begun) / 1000);
}
await team.close();
const megabytes = process.resourceUsage().maxRSS / 1e3;
console.log(JSON.stringify({ seconds, megabytes }));
