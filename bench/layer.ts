import { writeBatch } from "../src/model/batch.ts";
import type { EncoderConfig } from "../src/model/config.ts";
import { Team } from "../src/node/team.ts";
import { initializeWeights } from "../src/train/initialize.ts";
import type { Figure, Table } from "./measure.ts";

/** A whole training step of a MiniLM-sized layer (384, 12 heads, 1536), by one thread and by two, in turn. */
export async function layer(): Promise<Table[]> {
  const encoder: EncoderConfig = {
    vocabSize: 512,
    hiddenSize: 384,
    numLayers: 1,
    numHeads: 12,
    intermediateSize: 1536,
    maxPositions: 64,
    typeVocabSize: 2,
    layerNormEpsilon: 1e-12,
    hiddenDropout: 0.1,
    attentionDropout: 0.1,
  };
  const batchSize = 64;
  // prettier-ignore
  const options = { encoder, pooling: "avg", batchSize, columns: 2, maxLength: 32, temperature: 0.05, hardNegativeWeight: 0, dropout: true, seed: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 } as const;
  const sequences = Array.from({ length: 2 * batchSize }, (_, i) =>
    Int32Array.from({ length: 6 + ((i * 7) % 26) }, (__, j) => (i * 31 + j * 17) % 512),
  );
  const teams = await Promise.all([1, 2].map((size) => Team.start(options, size)));
  const headers = teams.map(({ buffer, plan }) => {
    initializeWeights(buffer, plan.weights, 1);
    const tokens = writeBatch(buffer, plan.batch, plan.limits, encoder.vocabSize, sequences);
    new Int32Array(buffer, plan.ids.ptr, sequences.length).set(sequences.map((_, i) => i));
    return { rows: batchSize, tokens, learningRate: 1e-5 };
  });
  const rates = teams.map(() => [] as number[]);
  for (let round = 0; round < 9; round++) {
    for (const [i, team] of teams.entries()) {
      const begun = performance.now();
      for (let step = 1; step <= 20; step++) await team.step({ ...headers[i]!, step });
      // The first rounds warm the compiler up.
      if (round >= 2) rates[i]!.push((20 * headers[i]!.tokens) / (performance.now() - begun));
    }
  }
  await Promise.all(teams.map((team) => team.close()));
  const rows: Figure[] = rates.map((values, i) => {
    const sorted = values.toSorted((a, b) => a - b);
    return {
      name: `${i + 1} thread${i > 0 ? "s" : ""}`,
      median: sorted[3]!,
      min: sorted[0]!,
      max: sorted.at(-1)!,
    };
  });
  return [
    {
      title: "training step of one MiniLM layer",
      unit: "thousand tokens/s",
      reference: "1 thread",
      rows,
    },
  ];
}
