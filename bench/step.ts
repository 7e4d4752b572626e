import { spawnSync } from "node:child_process";
import { writeTrainingBatch } from "../src/train/step.ts";
import type { EncoderConfig } from "../src/model/config.ts";
import { Team } from "../src/node/team.ts";
import { initializeWeights } from "../src/train/initialize.ts";
import { figure, type Table } from "./measure.ts";

/** A Python that has PyTorch, to measure `torch_step.py` in the same run; without it only our own rows are printed. */
const PYTHON = process.env["SIMCSE_PYTHON"];
const SENTENCES = 64;
const ROUNDS = 5;

const encoder = (
  numLayers: number,
  hiddenSize: number,
  numHeads: number,
  vocabSize: number,
): EncoderConfig => ({
  vocabSize,
  hiddenSize,
  numLayers,
  numHeads,
  intermediateSize: 4 * hiddenSize,
  maxPositions: 512,
  typeVocabSize: 2,
  layerNormEpsilon: 1e-12,
  hiddenDropout: 0.1,
  attentionDropout: 0.1,
});

/** A whole step of unsupervised SimCSE (64 sentences twice, dropout, InfoNCE, AdamW), by one thread and by two, in turn. */
export async function* step(): AsyncGenerator<Table> {
  yield await table("one MiniLM layer (384, 12 heads)", encoder(1, 384, 12, 512));
  yield await table("tiny (2 x 128)", encoder(2, 128, 2, 30522));
  yield await table("minilm (6 x 384)", encoder(6, 384, 12, 30522));
}

/** Token ids of sentences as long as real ones: 6 to 34 tokens, most of them short, 16 on average. */
export function sentences(vocabSize: number): number[][] {
  return Array.from({ length: SENTENCES }, (_, i) =>
    Array.from(
      { length: 6 + Math.floor(28 * (((i * 37) % SENTENCES) / SENTENCES) ** 1.8) },
      (__, j) => (i * 31 + j * 17 + 5) % vocabSize,
    ),
  );
}

async function table(title: string, config: EncoderConfig): Promise<Table> {
  const once = sentences(config.vocabSize);
  const twice = [...once, ...once];
  const maxLength = Math.max(...once.map((ids) => ids.length));
  // prettier-ignore
  const options = { encoder: config, pooling: "cls", batchSize: SENTENCES, columns: 2, maxLength, temperature: 0.05, hardNegativeWeight: 0, dropout: true, seed: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 0 } as const;
  const rates = new Map<string, number[]>();
  const add = (name: string, rate: number): void =>
    void (rates.get(name) ?? rates.set(name, []).get(name)!).push(rate);
  const teams = await Promise.all([1, 2].map((size) => Team.start(options, size)));
  const tokens = twice.reduce((sum, ids) => sum + ids.length, 0);
  let touched = 0;
  for (const team of teams) {
    initializeWeights(team.buffer, team.plan.model.weights, 1);
    touched = writeTrainingBatch(team.buffer, team.plan, options, twice).touched;
    new Int32Array(team.buffer, team.plan.objective.ids.ptr, twice.length).set(
      twice.map((_, i) => i % SENTENCES),
    );
  }
  const steps = config.numLayers === 6 ? 2 : 20;
  // The first round warms the compiler up.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [i, team] of teams.entries()) {
      const begun = performance.now();
      for (let n = 1; n <= steps; n++) {
        const header = { rows: SENTENCES, touched, step: round * steps + n };
        await team.step({ ...header, learningRate: 1e-5 });
      }
      if (round > 0)
        add(`${i + 1} thread${i > 0 ? "s" : ""}`, (steps * tokens) / (performance.now() - begun));
    }
    for (const threads of round > 0 && PYTHON ? [1, 2] : []) {
      const { numLayers, hiddenSize, numHeads, vocabSize } = config;
      const args = [numLayers, hiddenSize, numHeads, vocabSize, threads].map(String);
      const { stdout, stderr, status } = spawnSync(PYTHON!, ["bench/torch_step.py", ...args], {
        encoding: "utf8",
        input: JSON.stringify(once.map(({ length }) => length)),
        env: { ...process.env, OPENBLAS_NUM_THREADS: String(threads) },
      });
      if (status !== 0) throw new Error(`bench/torch_step.py failed: ${stderr}`);
      add(`PyTorch, ${threads} thread${threads > 1 ? "s" : ""}`, Number(stdout) / 1000);
    }
  }
  await Promise.all(teams.map((team) => team.close()));
  const rows = [...rates].map(([name, values]) => figure(name, values));
  return {
    title: `a training step, ${title}`,
    unit: "thousand tokens/s",
    reference: "1 thread",
    rows,
  };
}
