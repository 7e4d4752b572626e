import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/model/config.ts";
import { size, type Tensor } from "../../src/runtime/arena.ts";
import type { MaskedBatch } from "../../src/train/masking.ts";
import type { DistillOptions } from "../../src/train/objective.ts";
import {
  planTraining,
  readLoss,
  type StepOptions,
  trainStep,
  writeTrainingBatch,
} from "../../src/train/step.ts";
import { uniform } from "../kernels/harness.ts";
import { oneRank } from "./rank.ts";
import { normalize } from "../oracle/pooling.ts";

/** 50 steps without dropout, the data in its order, against PyTorch in float64: `test/golden/make_curves.py` made the losses. */
const golden = JSON.parse(readFileSync("test/golden/curves.json", "utf8"));
const { encoder } = parseConfig(golden.config, "test/golden/curves.json");
const { vocabSize: VOCAB, hiddenSize: HIDDEN, maxPositions: LONGEST } = encoder;
const SENTENCES: number = golden.sentences;
const BATCH: number = golden.batchSize;
const [CLS, SEP, MASK, FIRST_WORD] = [1, 2, 3, 4] as const;

const shares = (seed: number, count: number): Float32Array => uniform(seed, count, 0, 1);

/** Rows of anchor, positive and hard negative, as the script makes them. */
const ROWS: readonly Int32Array[][] = (() => {
  const lengths = shares(100, SENTENCES);
  const words = [101, 102, 103].map((seed) =>
    Array.from(
      shares(seed, SENTENCES * LONGEST),
      (u) => FIRST_WORD + Math.floor((VOCAB - FIRST_WORD) * u ** 3),
    ),
  ) as [number[], number[], number[]];
  return Array.from(lengths, (u, row) => {
    const inner = 3 + Math.floor(16 * u);
    return [0, 1, 2].map((column) => {
      const own = Array.from({ length: inner }, (_, i) => {
        const kept = column === 0 || (column === 1 ? i % 3 < 2 : i % 3 < 1);
        return words[kept ? 0 : (column as 1 | 2)][row * LONGEST + i]!;
      });
      return Int32Array.of(CLS, ...own, SEP);
    });
  });
})();

/** What is masked in a step, as the script does it. */
function mask(step: number, sentences: readonly Int32Array[]): MaskedBatch {
  const [chosen, fate, other] = [1, 2, 3].map((k) =>
    shares(1000 * k + step, sentences.length * LONGEST),
  ) as [Float32Array, Float32Array, Float32Array];
  const places: number[] = [];
  const labels: number[] = [];
  const masked: Int32Array[] = [];
  let first = 0;
  sentences.forEach((ids, s) => {
    const before = places.length;
    const copy = ids.map((id, t) => {
      const e = s * LONGEST + t;
      if (t === 0 || t === ids.length - 1 || chosen[e]! >= golden.masked) return id;
      places.push(first + t);
      labels.push(id);
      if (fate[e]! < 0.8) return MASK;
      return fate[e]! < 0.9 ? Math.floor(VOCAB * other[e]!) : id;
    });
    if (places.length === before) return;
    masked.push(copy);
    first += ids.length;
  });
  return { sequences: masked, places: Int32Array.from(places), labels: Int32Array.from(labels) };
}

/** The losses of a case, by its name: kind, pooler and what is learned besides. */
function curve(name: string): number[] {
  const [kind, pooling, extra] = name.split(", ") as ["unsup" | "triplets", "cls" | "avg", string?];
  const alone = extra === "mlm alone";
  const columns = kind === "triplets" ? 3 : 2;
  const taught: DistillOptions | undefined =
    extra === "similarity" || extra === "mse"
      ? { ...golden.distill, kind: extra, ...(extra === "mse" && { dimension: HIDDEN }) }
      : undefined;
  const options: StepOptions = {
    encoder,
    pooling,
    ...(extra === "mlm" && { mlmWeight: golden.mlmWeight }),
    ...(alone && { mlmWeight: 1, objective: "mlm" }),
    ...(taught && { distill: taught }),
    batchSize: BATCH,
    columns,
    maxLength: LONGEST,
    temperature: golden.temperature,
    hardNegativeWeight: 0,
    dropout: false,
    seed: 1,
    beta1: golden.betas[0],
    beta2: golden.betas[1],
    epsilon: golden.epsilon,
    weightDecay: golden.weightDecay,
    maxGradientNorm: golden.maxGradientNorm,
  };
  const plan = planTraining(options, 1);
  const { k, buffer } = oneRank("node", plan.arena.pages);
  const values = ({ ptr, shape }: Tensor): Float32Array =>
    new Float32Array(buffer, ptr, size(shape));
  for (const tensor of plan.model.weights.named) {
    const seed = NAMES.indexOf(tensor.name);
    const random = uniform(seed, size(tensor.shape), -0.05, 0.05);
    const gain = tensor.name.endsWith("LayerNorm.weight");
    const factor = tensor.shape.length === 2 ? 2 : 1;
    values(tensor).set(random.map((x) => (gain ? 1 : 0) + factor * x));
  }
  return Array.from({ length: golden.steps as number }, (_, i) => {
    const step = i + 1;
    const first = (i * BATCH) % SENTENCES;
    const numbers = Array.from({ length: columns * BATCH }, (__, n) => {
      const column = columns === 3 ? Math.floor(n / BATCH) : 0;
      return column * SENTENCES + first + (n % BATCH);
    });
    const sentences = numbers.map((n) => ROWS[n % SENTENCES]![Math.floor(n / SENTENCES)]!);
    const masked =
      options.mlmWeight === undefined
        ? undefined
        : mask(step, alone ? sentences.slice(0, BATCH) : sentences);
    const compared = alone ? [] : sentences;
    const { touched } = writeTrainingBatch(buffer, plan, options, compared, masked);
    if (!alone) new Int32Array(buffer, plan.objective.ids.ptr, numbers.length).set(numbers);
    if (taught && plan.objective.taught) {
      const { dimension } = taught;
      const rows = numbers.flatMap((n) => [
        ...normalize(uniform(5000 + n, dimension), 1, dimension).y,
      ]);
      values(plan.objective.taught.teachers).set(rows);
    }
    const learningRate = golden.learningRate * (1 - i / golden.steps);
    trainStep(k, buffer, plan, options, { rows: BATCH, touched, step, learningRate });
    return readLoss(buffer, plan).loss;
  });
}

/** All names in the order of the alphabet, by which the script numbers the weights. */
const NAMES = (() => {
  const layer = (n: number): string[] =>
    [
      ...["query", "key", "value"].map((part) => `attention.self.${part}`),
      ...["attention.output", "intermediate", "output"].map((part) => `${part}.dense`),
      ...["attention.output", "output"].map((part) => `${part}.LayerNorm`),
    ].map((part) => `encoder.layer.${n}.${part}`);
  const heads = [
    "pooler.dense",
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
  ];
  const pairs = [...layer(0), ...layer(1), ...heads, "embeddings.LayerNorm"];
  const tables = ["word", "position", "token_type"].map((t) => `embeddings.${t}_embeddings.weight`);
  const all = [...pairs.flatMap((p) => [`${p}.weight`, `${p}.bias`]), ...tables];
  return [...all, "cls.predictions.bias"].toSorted();
})();

describe("fifty steps", () => {
  it.each(Object.entries(golden.curves as Record<string, number[]>))(
    "of %s have PyTorch's losses, to 1e-4",
    (name, losses) => {
      const errors = curve(name).map((loss, i) => Math.abs(loss / losses[i]! - 1));
      expect(errors.length).toBe(50);
      expect(Math.max(...errors)).toBeLessThan(1e-4);
      expect(losses.at(-1)!).toBeLessThan(0.98 * losses[0]!); // it learned
    },
  );
});
