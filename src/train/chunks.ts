/** Sequences of a batch that are encoded together: the batch is cut so that a chunk's activations fit the memory. */
import { type Batch, type BatchLimits, writeBatch } from "../model/batch.ts";
import { type Tensor, view } from "../runtime/arena.ts";

export interface Chunk {
  readonly batch: Batch;
  readonly firstSequence: number;
  readonly sequences: number;
  readonly firstToken: number;
  readonly tokens: number;
}

/** Offsets that a batch needs: each chunk has its own, which begin at 0. */
export function chunkOffsets(sequences: number, { sequences: most }: BatchLimits): number {
  return sequences + Math.max(1, Math.ceil(sequences / most));
}

/** Where the chunk from a sequence on lies in a batch; every rank finds the same ones. */
function partOf(
  { tokenIds, positions, offsets }: Batch,
  limits: BatchLimits,
  first: number,
  sequences: number,
  firstToken: number,
): Batch {
  const offset = first + first / limits.sequences; // each chunk before has one offset more than sequences
  const part = (tensor: Tensor, from: number, count: number): Tensor =>
    view(tensor, tensor.name, from, count);
  return {
    tokenIds: part(tokenIds, firstToken, limits.tokens),
    positions: part(positions, firstToken, limits.tokens),
    offsets: part(offsets, offset, sequences + 1),
  };
}

/**
 * Writes sequences chunk by chunk, each of at most `limits`.
 * @throws RangeError as `writeBatch` does
 */
export function writeChunks(
  buffer: ArrayBufferLike,
  batch: Batch,
  limits: BatchLimits,
  vocabSize: number,
  sequences: readonly ArrayLike<number>[],
): Chunk[] {
  const chunks: Chunk[] = [];
  let firstToken = 0;
  for (let first = 0; first < sequences.length; first += limits.sequences) {
    const own = sequences.slice(first, first + limits.sequences);
    const part = partOf(batch, limits, first, own.length, firstToken);
    const room = { ...limits, sequences: own.length, tokens: own.length * limits.maxLength };
    const tokens = writeBatch(buffer, part, room, vocabSize, own);
    chunks.push({ batch: part, firstSequence: first, sequences: own.length, firstToken, tokens });
    firstToken += tokens;
  }
  return chunks;
}

/** The chunks that `writeChunks` wrote of so many sequences. */
export function readChunks(
  buffer: ArrayBufferLike,
  batch: Batch,
  limits: BatchLimits,
  sequences: number,
): Chunk[] {
  const chunks: Chunk[] = [];
  let firstToken = 0;
  for (let first = 0; first < sequences; first += limits.sequences) {
    const n = Math.min(limits.sequences, sequences - first);
    const part = partOf(batch, limits, first, n, firstToken);
    const tokens = new Int32Array(buffer, part.offsets.ptr, n + 1)[n]!;
    chunks.push({ batch: part, firstSequence: first, sequences: n, firstToken, tokens });
    firstToken += tokens;
  }
  return chunks;
}
