import type { Arena, Tensor } from "../runtime/arena.ts";

/** The most one batch may hold. */
export interface BatchLimits {
  readonly tokens: number;
  readonly sequences: number;
  /** Tokens of the longest sequence. */
  readonly maxLength: number;
}

/** A ragged batch in memory: the tokens of all sequences on end, no padding. */
export interface Batch {
  readonly tokenIds: Tensor; // [tokens] int32
  readonly positions: Tensor; // [tokens] int32, the place of each token in its sequence
  readonly offsets: Tensor; // [sequences + 1] int32
}

export function planBatch(arena: Arena, limits: BatchLimits, name = "batch"): Batch {
  return {
    tokenIds: arena.reserve(`${name}.tokenIds`, "I32", [limits.tokens]),
    positions: arena.reserve(`${name}.positions`, "I32", [limits.tokens]),
    offsets: arena.reserve(`${name}.offsets`, "I32", [limits.sequences + 1]),
  };
}

/**
 * Writes sequences of token ids into memory and returns how many tokens they have.
 * @throws RangeError when an id is outside the vocabulary or the batch outgrows its limits: no kernel checks either
 */
export function writeBatch(
  buffer: ArrayBufferLike,
  batch: Batch,
  limits: BatchLimits,
  vocabSize: number,
  sequences: readonly ArrayLike<number>[],
): number {
  const tokenIds = new Int32Array(buffer, batch.tokenIds.ptr, limits.tokens);
  const positions = new Int32Array(buffer, batch.positions.ptr, limits.tokens);
  const offsets = new Int32Array(buffer, batch.offsets.ptr, limits.sequences + 1);
  if (sequences.length > limits.sequences) {
    throw new RangeError(`batch of ${sequences.length} sequences, planned for ${limits.sequences}`);
  }
  let tokens = 0;
  sequences.forEach((ids, s) => {
    if (ids.length === 0 || ids.length > limits.maxLength) {
      throw new RangeError(
        `sequence ${s} has ${ids.length} tokens; expected 1 to ${limits.maxLength}`,
      );
    }
    if (tokens + ids.length > limits.tokens) {
      throw new RangeError(`batch of more than the ${limits.tokens} tokens it was planned for`);
    }
    offsets[s] = tokens;
    for (let i = 0; i < ids.length; i++, tokens++) {
      const id = ids[i]!;
      if (!(id >= 0 && id < vocabSize)) {
        throw new RangeError(
          `token id ${id} of sequence ${s} is outside the vocabulary of ${vocabSize}`,
        );
      }
      tokenIds[tokens] = id;
      positions[tokens] = i;
    }
  });
  offsets[sequences.length] = tokens;
  return tokens;
}
