/**
 * The masked copies of a step in memory: how they are written, what is guessed of each chunk, and what came of it. The loss
 * is the mean over all masked tokens of the batch, however it is cut.
 */
import { type Batch, type BatchLimits, planBatch } from "../model/batch.ts";
import { MASKED_AT_ONCE } from "../model/mlm-head.ts";
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { MaskedChunk } from "./architecture.ts";
import { type Chunk, chunkOffsets, readChunks, writeChunks } from "./chunks.ts";
import type { MaskedBatch } from "./masking.ts";

export interface MaskedPlan {
  readonly batch: Batch;
  readonly places: Tensor; // [tokens] int32, of what is to be guessed, in its chunk
  readonly labels: Tensor; // [tokens] int32
  readonly counts: Tensor; // [1 + chunks] int32: masked copies, then tokens to guess of each chunk
  readonly losses: Tensor; // [parts, 2]
  /** Of its loss in that of the step. */
  readonly weight: number;
}

/** For as many copies as there are sequences, and any share of masked tokens. */
export function planMasked(
  arena: Arena,
  sequences: number,
  limits: BatchLimits,
  weight: number,
): MaskedPlan {
  const tokens = sequences * limits.maxLength;
  const chunks = Math.ceil(sequences / limits.sequences);
  const offsets = chunkOffsets(sequences, limits);
  return {
    batch: planBatch(arena, { ...limits, tokens, sequences: offsets - 1 }, "masked"),
    places: arena.reserve("masked.places", "I32", [tokens]),
    labels: arena.reserve("masked.labels", "I32", [tokens]),
    counts: arena.reserve("masked.counts", "I32", [1 + chunks]),
    losses: arena.tensor("masked.losses", Math.ceil(tokens / MASKED_AT_ONCE) + chunks, 2),
    weight,
  };
}

/**
 * Writes masked copies, and returns how many tokens they have.
 * @throws RangeError as `writeBatch` does
 */
export function writeMasked(
  buffer: ArrayBufferLike,
  plan: MaskedPlan,
  limits: BatchLimits,
  vocabSize: number,
  { sequences, places, labels }: MaskedBatch,
): number {
  const chunks = writeChunks(buffer, plan.batch, limits, vocabSize, sequences);
  const counts = new Int32Array(buffer, plan.counts.ptr, plan.counts.shape[0]).fill(0);
  const own = new Int32Array(buffer, plan.places.ptr, places.length);
  counts[0] = sequences.length;
  let at = 0;
  chunks.forEach(({ firstToken, tokens }, c) => {
    for (; at < places.length && places[at]! < firstToken + tokens; at++) {
      own[at] = places[at]! - firstToken;
      counts[1 + c]!++;
    }
  });
  new Int32Array(buffer, plan.labels.ptr, labels.length).set(labels);
  return chunks.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** The chunks of a step, with the weight of its loss shared out among all that is to be guessed. */
export function readMasked(
  buffer: ArrayBufferLike,
  plan: MaskedPlan,
  limits: BatchLimits,
  weight: number = plan.weight,
): (Chunk & MaskedChunk)[] {
  const [sequences = 0, ...counts] = new Int32Array(buffer, plan.counts.ptr, plan.counts.shape[0]);
  const total = counts.reduce((sum, count) => sum + count, 0);
  let at = 0;
  let loss = plan.losses.ptr;
  return readChunks(buffer, plan.batch, limits, sequences).map((chunk, c) => {
    const parts: MaskedChunk["parts"][number][] = [];
    for (const end = at + counts[c]!; at < end; loss += 8) {
      const count = Math.min(MASKED_AT_ONCE, end - at);
      const [places, labels] = [plan.places.ptr + 4 * at, plan.labels.ptr + 4 * at];
      parts.push({ places, labels, count, loss, scale: (weight * count) / total });
      at += count;
    }
    return { ...chunk, parts };
  });
}

/** The mean cross-entropy of the last step, and the share of masked tokens that were guessed; 0 of none. */
export function readMaskedLoss(
  buffer: ArrayBufferLike,
  plan: MaskedPlan,
  limits: BatchLimits,
): { loss: number; accuracy: number } {
  let [loss, accuracy] = [0, 0];
  for (const { parts } of readMasked(buffer, plan, limits, 1)) {
    for (const part of parts) {
      const [mean, share] = new Float32Array(buffer, part.loss, 2) as unknown as [number, number];
      loss += part.scale * mean;
      accuracy += part.scale * share;
    }
  }
  return { loss, accuracy };
}
