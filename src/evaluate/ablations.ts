/** The ablations of the SimCSE paper (Gao et al. 2021): STS-B dev, BERT-base. One row of each is what the others are changes of. */
import type { Pooling } from "../model/config.ts";
import type { Similarity } from "../train/objective.ts";
import { deviation, mean } from "./statistics.ts";

/** What a row changes of a run; the rest is as the paper's run of its kind, or as the command says. */
export interface AblationChange {
  readonly augment?: string;
  readonly neighbours?: number;
  readonly dropout?: boolean;
  readonly dropoutRate?: number;
  readonly fixedDropout?: boolean;
  readonly temperature?: number;
  readonly similarity?: Similarity;
  readonly hardNegativeWeight?: number;
  readonly pooling?: Pooling;
  readonly mlpOnlyTrain?: boolean;
  readonly batchSize?: number;
  readonly mlmWeight?: number;
  /** Pairs alone, of data that has hard negatives. */
  readonly pairs?: boolean;
}

export interface AblationRow {
  readonly name: string;
  /** STS-B dev in the paper, where it has the row. */
  readonly published?: number;
  readonly change: AblationChange;
}

export interface Ablation {
  readonly title: string;
  /** Where the paper has it. */
  readonly source: string;
  /** Sentences that are their own positives, or pairs with hard negatives. */
  readonly data: "sentences" | "triplets";
  /** The row that the others are compared with comes first. */
  readonly rows: readonly AblationRow[];
}

const row = (name: string, published: number | undefined, change: AblationChange): AblationRow => ({
  name,
  ...(published !== undefined && { published }),
  change,
});
const SIMCSE = row("SimCSE, dropout alone", 82.5, {});
const DELETE_ONE = row("delete one word", 75.9, { augment: "delete-one" });

export const ABLATION_NAMES = [
  "augmentation",
  "objective",
  "dropout",
  "pooler",
  "temperature",
  "hard-negatives",
  "mlm",
  "batch-size",
] as const;
export type AblationName = (typeof ABLATION_NAMES)[number];

/** Without the rows of synonyms, which need a file of them, and those of two encoders, which are not trained here. */
export const ABLATIONS: Readonly<Record<AblationName, Ablation>> = {
  augmentation: {
    title: "augmentation of the positive",
    source: "table 1",
    data: "sentences",
    rows: [
      SIMCSE,
      row("crop 10 %", 77.8, { augment: "crop:10" }),
      row("crop 20 %", 71.4, { augment: "crop:20" }),
      row("crop 30 %", 63.6, { augment: "crop:30" }),
      row("delete 10 % of the words", 75.9, { augment: "delete:10" }),
      row("delete 20 %", 72.2, { augment: "delete:20" }),
      row("delete 30 %", 68.2, { augment: "delete:30" }),
      DELETE_ONE,
      row("delete one word, no dropout", 74.2, { augment: "delete-one", dropout: false }),
      row("mask 15 %", 62.2, { augment: "mask:15" }),
    ],
  },
  objective: {
    title: "objective, one encoder",
    source: "table 2",
    data: "sentences",
    rows: [
      SIMCSE,
      row("next sentence", 67.1, { neighbours: 1 }),
      row("one of the next 3", 67.4, { neighbours: 3 }),
      DELETE_ONE,
    ],
  },
  dropout: {
    title: "dropout",
    source: "table 3",
    data: "sentences",
    rows: [
      row("p = 0.1", 82.5, { dropoutRate: 0.1 }),
      row("p = 0", 71.1, { dropout: false }),
      row("p = 0.01", 72.6, { dropoutRate: 0.01 }),
      row("p = 0.05", 81.1, { dropoutRate: 0.05 }),
      row("p = 0.15", 81.4, { dropoutRate: 0.15 }),
      row("p = 0.2", 80.5, { dropoutRate: 0.2 }),
      row("p = 0.5", 71.0, { dropoutRate: 0.5 }),
      row("fixed 0.1", 43.6, { dropoutRate: 0.1, fixedDropout: true }),
    ],
  },
  pooler: {
    title: "pooler, without supervision",
    source: "table 6",
    data: "sentences",
    rows: [
      row("[CLS], MLP in training only", 82.5, { pooling: "cls", mlpOnlyTrain: true }),
      row("[CLS] with MLP", 81.7, { pooling: "cls" }),
      row("[CLS] without MLP", 80.9, { pooling: "cls_before_pooler" }),
      row("average of embeddings and last layer", 81.2, { pooling: "avg_embeddings_last" }),
      row("average of the last layer", undefined, { pooling: "avg" }),
    ],
  },
  temperature: {
    title: "temperature, supervised",
    source: "table D.1",
    data: "triplets",
    rows: [
      row("τ = 0.05", 86.2, {}),
      row("τ = 0.001", 84.9, { temperature: 0.001 }),
      row("τ = 0.01", 85.4, { temperature: 0.01 }),
      row("τ = 0.1", 82.0, { temperature: 0.1 }),
      row("τ = 1", 64.0, { temperature: 1 }),
      row("inner product", 85.9, { similarity: "dot", temperature: 1 }),
    ],
  },
  "hard-negatives": {
    title: "hard negatives of weight α",
    source: "table 7",
    data: "triplets",
    rows: [
      row("α = 1", 86.2, {}),
      row("none", 84.9, { pairs: true }),
      row("α = 0.5", 86.1, { hardNegativeWeight: Math.log(0.5) }),
      row("α = 2", 86.2, { hardNegativeWeight: Math.log(2) }),
    ],
  },
  mlm: {
    title: "masked tokens of weight λ",
    source: "table D.2",
    data: "triplets",
    rows: [
      row("none", 86.2, {}),
      row("λ = 0.01", 85.7, { mlmWeight: 0.01 }),
      row("λ = 0.1", 85.7, { mlmWeight: 0.1 }),
      row("λ = 1", 85.1, { mlmWeight: 1 }),
    ],
  },
  "batch-size": {
    title: "batch size, the same sentences and rate",
    source: "section 5: not sensitive, once the rate is tuned",
    data: "sentences",
    rows: [
      row("64", undefined, { batchSize: 64 }),
      row("32", undefined, { batchSize: 32 }),
      row("128", undefined, { batchSize: 128 }),
      row("256", undefined, { batchSize: 256 }),
    ],
  },
};

/** How a row differs from the first of its ablation, seed by seed. */
export interface AblationEffect {
  readonly mean: number;
  /** Of the scores, over seeds; NaN of one seed. */
  readonly deviation: number;
  /** Mean of the differences from the first row with the same seed. */
  readonly effect: number;
  /** Of `effect`; NaN of one seed. */
  readonly standardError: number;
  /**
   * Whether the difference has the paper's sign: "unclear" where it is within two standard errors of 0, and undefined where the
   * paper has no difference, or none is known.
   */
  readonly direction: "same" | "opposite" | "unclear" | undefined;
}

/** @throws RangeError for lists of different lengths, which are by the same seeds, and for empty ones */
export function ablationEffect(
  scores: readonly number[],
  reference: readonly number[],
  published: number | undefined,
): AblationEffect {
  const n = scores.length;
  if (n === 0 || n !== reference.length) {
    throw new RangeError(
      `an effect needs a score of each seed for both rows, found ${n} and ${reference.length}`,
    );
  }
  const differences = scores.map((score, i) => score - reference[i]!);
  const effect = mean(differences);
  const standardError = deviation(differences) / Math.sqrt(n);
  const sign = Math.sign(effect);
  return {
    mean: mean(scores),
    deviation: deviation(scores),
    effect,
    standardError,
    direction:
      published === undefined || published === 0
        ? undefined
        : Math.abs(effect) <= 2 * (standardError || 0)
          ? "unclear"
          : sign === Math.sign(published)
            ? "same"
            : "opposite",
  };
}
