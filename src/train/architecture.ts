/**
 * What a step trains: an encoder or a static table, as parameters and the way from tokens to sentence vectors and back.
 */
import type { Batch, BatchLimits } from "../model/batch.ts";
import type { EncoderConfig, Pooling } from "../model/config.ts";
import {
  type Activations,
  type BatchSize,
  type DropoutKey,
  encoderBackward,
  encoderForward,
  planActivations,
  poolBackward,
  poolForward,
} from "../model/encoder.ts";
import { mlmHeadStep, type MaskedTokens, planMlmHead } from "../model/mlm-head.ts";
import { type ParameterSet, planParameters } from "../model/parameters.ts";
import {
  denseBackward,
  denseForward,
  planDense,
  planStatic,
  staticBackward,
  type StaticDense,
  staticForward,
} from "../model/static.ts";
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Pointer } from "../runtime/inference-kernels.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { dropoutScratch } from "../runtime/scratch.ts";

/** The same four parameter sets for either architecture, and its two passes over a chunk of the batch. */
export interface Architecture {
  readonly weights: ParameterSet;
  readonly gradients: ParameterSet;
  readonly first: ParameterSet;
  readonly second: ParameterSet;
  /** Their exponential moving average, if there is one. */
  readonly average: ParameterSet | undefined;
  /** What is evaluated and written to a model file: the average, or else the weights. */
  readonly served: readonly Tensor[];
  /** Numbers of a sentence vector. */
  readonly dimension: number;
  /** The row of the table of each token [vocab] int32; undefined where a token's row is its id. */
  readonly mapping: Tensor | undefined;
  /** Computes the sentence vectors `y` [sequences, dimension] of a chunk. */
  forward(k: Kernels, y: Pointer, batch: Batch, size: BatchSize, key: DropoutKey): void;
  /** Adds to the gradients, from the gradient `dy` of `y`, which is lost; the last `forward` was of the same chunk. */
  backward(
    k: Kernels,
    dy: Pointer,
    y: Pointer,
    batch: Batch,
    size: BatchSize,
    key: DropoutKey,
  ): void;
  /** Guesses masked tokens of a chunk, part after part, and adds to the gradients; absent where nothing is guessed. */
  readonly predictMasked?: (
    k: Kernels,
    chunk: MaskedChunk,
    size: BatchSize,
    key: DropoutKey,
  ) => void;
}

/** Masked copies of sentences, and what is to be guessed of them. */
export interface MaskedChunk {
  readonly batch: Batch;
  readonly parts: readonly (MaskedTokens & {
    readonly loss: Pointer; // [2]
    /** Of its gradient. */
    readonly scale: number;
  })[];
}

export interface ArchitectureOptions {
  readonly encoder: EncoderConfig;
  readonly pooling: Pooling;
  /** Rows of the table of a static model; undefined for an encoder. */
  readonly tableRows?: number;
  /** A layer on the mean of a static model. */
  readonly dense?: StaticDense;
  readonly averageDecay?: number;
  /** Weight of the masked language model's loss; without one there is none. */
  readonly mlmWeight?: number;
}

/** Lays out an architecture for chunks of at most `limits`. */
export function planArchitecture(
  arena: Arena,
  options: ArchitectureOptions,
  limits: BatchLimits,
  ranks: number,
): Architecture {
  return options.tableRows === undefined
    ? planEncoder(arena, options, limits, ranks)
    : planTable(arena, options, limits, options.tableRows, ranks);
}

/** The four parameter sets and their average, one after another. */
function planSets<T>(plan: (prefix: string) => T, averageDecay: number): Sets<T> {
  return {
    weights: plan(""),
    gradients: plan("gradient."),
    first: plan("adam.first."),
    second: plan("adam.second."),
    average: averageDecay > 0 ? plan("average.") : undefined,
  };
}

interface Sets<T> {
  readonly weights: T;
  readonly gradients: T;
  readonly first: T;
  readonly second: T;
  readonly average: T | undefined;
}

function planEncoder(
  arena: Arena,
  { encoder, pooling, averageDecay = 0, mlmWeight }: ArchitectureOptions,
  limits: BatchLimits,
  ranks: number,
): Architecture {
  const { hiddenSize: hidden } = encoder;
  const { maxLength } = limits;
  const sets = planSets(
    (prefix) =>
      planParameters(arena, encoder, pooling === "cls", {
        prefix,
        mlmHead: mlmWeight !== undefined,
      }),
    averageDecay,
  );
  const { weights: p, gradients: g } = sets;
  // Guessing needs all tokens of the last layer, whatever the pooling does.
  const activations = (kind: Pooling) => () => planActivations(arena, encoder, limits, kind, ranks);
  const kinds: Pooling[] = mlmWeight === undefined ? [pooling] : [pooling, "avg"];
  const [a, whole] = arena.overlay(...kinds.map(activations)) as [Activations, Activations?];
  const mlmHead = whole && planMlmHead(arena, encoder, ranks);
  return {
    ...sets,
    served: (sets.average ?? sets.weights).named,
    dimension: hidden,
    mapping: undefined,
    forward(k, y, batch, size, key) {
      const x = encoderForward(k, encoder, p, a, batch, size, maxLength, key);
      poolForward(k, hidden, pooling, p, a, batch, y, x, size);
    },
    backward(k, dy, y, batch, size, key) {
      poolBackward(k, hidden, pooling, p, g, a, batch, dy, y, size);
      encoderBackward(k, encoder, p, g, a, batch, size, maxLength, key);
    },
    ...(whole &&
      mlmHead && {
        predictMasked(k, { batch, parts }, size, key) {
          const x = encoderForward(k, encoder, p, whole, batch, size, maxLength, key);
          const dx = whole.dOutput.ptr;
          k.zero(dx, 4 * size.tokens * hidden);
          for (const part of parts) {
            mlmHeadStep(k, encoder, p, g, mlmHead, part.loss, dx, x.ptr, part, part.scale);
          }
          encoderBackward(k, encoder, p, g, whole, batch, size, maxLength, key);
        },
      }),
  };
}

function planTable(
  arena: Arena,
  { encoder, averageDecay = 0, dense }: ArchitectureOptions,
  { tokens, sequences }: BatchLimits,
  rows: number,
  ranks: number,
): Architecture {
  const { hiddenSize: hidden } = encoder;
  const sets = planSets(
    (prefix) => planStatic(arena, encoder, rows, { prefix, dense }),
    averageDecay,
  );
  const { weights: p, gradients: g } = sets;
  const mapping = arena.reserve("mapping", "I32", [encoder.vocabSize]);
  const dots = arena.tensor("dots", tokens);
  const scratch = arena.scratch("dropout.scratch", dropoutScratch(ranks));
  const layer = dense && planDense(arena, sequences, hidden, dense, ranks);
  return {
    ...sets,
    weights: { ...p, named: [...p.named, mapping] },
    served: [...(sets.average ?? p).named, mapping],
    dimension: dense?.outputs ?? hidden,
    mapping,
    forward(k, y, batch, size, key) {
      staticForward(k, encoder, p, mapping, batch, scratch, layer?.means.ptr ?? y, size, key);
      if (layer) denseForward(k, layer, p, y, size.sequences);
    },
    backward(k, dy, y, batch, size, key) {
      if (layer) denseBackward(k, layer, p, g, dy, y, size.sequences);
      const dMeans = layer?.dMeans.ptr ?? dy;
      staticBackward(k, encoder, p, g, mapping, batch, dots, scratch, dMeans, size, key);
    },
  };
}
