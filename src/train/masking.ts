/** Which tokens a masked language model must guess, and what stands in their place (Devlin et al. 2019, section 3.1). */
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { RandomStream, STREAM } from "./random.ts";

/**
 * A batch of copies to be encoded by themselves: the sentences that are compared are never changed. Those in which nothing is
 * masked have nothing to teach, and are not there.
 */
export interface MaskedBatch {
  readonly sequences: readonly Int32Array[];
  /** Tokens to guess, as places in all sequences end to end, ascending. */
  readonly places: Int32Array;
  /** What stood there. */
  readonly labels: Int32Array;
}

export const NOTHING_MASKED: MaskedBatch = {
  sequences: [],
  places: new Int32Array(),
  labels: new Int32Array(),
};

export interface MaskingOptions {
  /** The probability of a token that is not special, 0.15 in the paper. */
  readonly rate: number;
  readonly maskId: number;
  readonly vocabSize: number;
  /** Ids that are never chosen: [CLS], [SEP], padding. */
  readonly special: ReadonlySet<number>;
}

/** Masking by the rules of a model's tokenizer, which must have a [MASK]. */
export function maskingOf(
  { clsId, sepId, padId, unkId, maskId, vocabSize }: Tokenizer,
  rate: number,
): MaskingOptions {
  return { rate, maskId, vocabSize, special: new Set([clsId, sepId, padId, unkId, maskId]) };
}

/** Of the tokens chosen 80 % become [MASK], 10 % any token, 10 % stay; a function of the seed and the number of the batch. */
export function maskBatch(
  sequences: readonly Int32Array[],
  { rate, maskId, vocabSize, special }: MaskingOptions,
  seed: number,
  batch: number,
): MaskedBatch {
  const places: number[] = [];
  const labels: number[] = [];
  let first = 0;
  const masked: Int32Array[] = [];
  sequences.forEach((ids, row) => {
    const before = places.length;
    const random = new RandomStream(seed, STREAM.masking + (row << 8), batch);
    const copy = ids.map((id, i) => {
      if (special.has(id) || random.uniform() >= rate) return id;
      places.push(first + i);
      labels.push(id);
      const fate = random.uniform();
      if (fate < 0.8) return maskId;
      return fate < 0.9 ? random.below(vocabSize) : id;
    });
    if (places.length === before) return;
    masked.push(copy);
    first += ids.length;
  });
  return { sequences: masked, places: Int32Array.from(places), labels: Int32Array.from(labels) };
}
