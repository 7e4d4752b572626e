import { staticEncoder } from "../src/model/config.ts";
import { Team } from "../src/node/team.ts";
import { RandomStream } from "../src/train/random.ts";
import { writeTrainingBatch } from "../src/train/step.ts";
import { figure, type Table } from "./measure.ts";

const PAIRS = 512;
const VOCAB = 30522;
const HIDDEN = 256;
const ROUNDS = 5;
const STEPS = 60;

/** Ids of sentences of 6 to 34 tokens, as frequent as words are: the n-th as 1 / n (Zipf). */
function sentences(random: RandomStream): number[][] {
  return Array.from({ length: 2 * PAIRS }, () =>
    Array.from({ length: 6 + random.below(29) }, () => Math.floor(VOCAB ** random.uniform()) - 1),
  );
}

/**
 * A step of a static model (512 pairs, InfoNCE, AdamW over the touched rows), tokenised beforehand, with another batch each
 * time: writing it into memory is part of the step.
 */
export async function* staticStep(): AsyncGenerator<Table> {
  const encoder = staticEncoder(VOCAB, HIDDEN);
  // prettier-ignore
  const options = { encoder, pooling: "avg", tableRows: VOCAB, batchSize: PAIRS, columns: 2, maxLength: 40, temperature: 0.05, hardNegativeWeight: 0, dropout: true, seed: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 } as const;
  const random = new RandomStream(1, 0);
  const batches = Array.from({ length: 8 }, () => sentences(random));
  const teams = await Promise.all([1, 2].map((size) => Team.start(options, size)));
  for (const { buffer, plan } of teams) {
    const { table, plain } = plan.model.weights;
    const vectors = new Float32Array(buffer, table.ptr, VOCAB * HIDDEN);
    for (let i = 0; i < vectors.length; i++) vectors[i] = random.uniform() - 0.5;
    new Float32Array(buffer, plain.ptr, plain.count).fill(1);
    new Int32Array(buffer, plan.model.mapping!.ptr, VOCAB).forEach((_, i, rows) => (rows[i] = i));
    new Int32Array(buffer, plan.objective.ids.ptr, 2 * PAIRS).forEach((_, i, ids) => (ids[i] = i));
  }
  const rates = teams.map((): number[] => []);
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [i, team] of teams.entries()) {
      const begun = performance.now();
      for (let n = 1; n <= STEPS; n++) {
        const step = round * STEPS + n;
        const batch = batches[step % batches.length]!;
        const { touched } = writeTrainingBatch(team.buffer, team.plan, options, batch);
        await team.step({ rows: PAIRS, touched, step, learningRate: 1e-3 });
      }
      if (round > 0) rates[i]!.push((STEPS * PAIRS) / (performance.now() - begun));
    }
  }
  for (const team of teams) await team.close();
  const rows = rates.map((list, i) => figure(i === 0 ? "1 thread" : "2 threads", list));
  yield {
    title: `a static model of ${HIDDEN} numbers, ${PAIRS} pairs a step`,
    unit: "thousand pairs/s",
    reference: "1 thread",
    rows,
  };
}
