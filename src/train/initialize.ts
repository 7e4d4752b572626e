import type { SafetensorsTensor } from "../files/safetensors.ts";
import { MLM_HEAD, type Parameters, type ParameterSet } from "../model/parameters.ts";
import type { StaticParameters } from "../model/static.ts";
import { hasWeight, loadWeights } from "../model/weights.ts";
import { size, type Tensor } from "../runtime/arena.ts";
import { RandomStream, STREAM } from "./random.ts";

/** BERT's initializer_range. */
const STANDARD_DEVIATION = 0.02;

/** Random weights as BERT begins with: matrices and tables normal (0, 0.02), biases 0, layer norms 1 and 0. */
export function initializeWeights(
  buffer: ArrayBufferLike,
  { named }: Pick<ParameterSet, "named">,
  seed: number,
  stream: number = STREAM.weights,
): void {
  named.forEach((tensor, index) => {
    const values = new Float32Array(buffer, tensor.ptr, size(tensor.shape));
    if (tensor.shape.length === 2) {
      const random = new RandomStream(seed, stream, index);
      for (let i = 0; i < values.length; i++) values[i] = STANDARD_DEVIATION * random.normal();
    } else {
      values.fill(tensor.name.endsWith("LayerNorm.weight") ? 1 : 0);
    }
  });
}

/** a of a / (a + p), the weight of a token of probability p (Arora, Liang & Ma 2017, https://openreview.net/forum?id=SyK00v5xx). */
const SMOOTHING = 1e-3;

/**
 * A static model's random weights: vectors of a length near 1, and for each token the smooth inverse of its frequency, given
 * as counts by token id. A layer on the mean keeps the length of what it is given, in the mean.
 */
export function initializeStatic(
  buffer: ArrayBufferLike,
  { table, weights, dense }: StaticParameters,
  counts: ArrayLike<number>,
  seed: number,
): void {
  const vectors = new Float32Array(buffer, table.ptr, size(table.shape));
  const deviation = 1 / Math.sqrt(table.shape[1]!);
  const random = new RandomStream(seed, STREAM.weights, 0);
  for (let i = 0; i < vectors.length; i++) vectors[i] = deviation * random.normal();
  if (dense) {
    const layer = new Float32Array(buffer, dense.weight.ptr, size(dense.weight.shape));
    for (let i = 0; i < layer.length; i++) layer[i] = deviation * random.normal();
  }
  const total = Array.from(counts).reduce((sum, n) => sum + n, 0);
  new Float32Array(buffer, weights.ptr, size(weights.shape)).forEach((_, id, factors) => {
    factors[id] = total === 0 ? 1 : SMOOTHING / (SMOOTHING + counts[id]! / total);
  });
}

/** How much longer the constant is than a token's vector: the longer, the less a layer norm bends. */
const CONSTANT = 3;

/**
 * Makes an encoder, of random weights as `initializeWeights` leaves them, begin as the static model of `table`
 * [vocab, hidden]. Layer norms would make all tokens weigh the same, so a constant c joins every token's vector x, as the
 * token type: the norm of x + c is then nearly that of c, and the norm is nearly linear in x. Residual branches begin at
 * zero, and the last norm's β takes c away again; its mean over tokens is nearly that of the x.
 */
export function beginAsStatic(
  buffer: ArrayBufferLike,
  { table, positions, types, layers }: Parameters,
  vectors: Float32Array,
): void {
  const floats = ({ ptr, shape }: Tensor): Float32Array =>
    new Float32Array(buffer, ptr, size(shape));
  const [rows, hidden] = table.shape as [number, number];
  const length = Math.sqrt(vectors.reduce((sum, x) => sum + x * x, 0) / rows);
  floats(table).set(vectors.map((x) => x / length));
  floats(positions).fill(0);
  // ±1 by turns: of mean zero, as a layer norm takes the mean away.
  const sign = (j: number): number => (j % 2 === 0 ? 1 : -1);
  floats(types).forEach((_, i, all) => {
    all[i] = i < hidden ? (sign(i) * CONSTANT) / Math.sqrt(hidden) : 0;
  });
  for (const { attentionWeight, downWeight } of layers) {
    floats(attentionWeight).fill(0);
    floats(downWeight).fill(0);
  }
  floats(layers.at(-1)!.outputBeta).forEach((_, j, beta) => (beta[j] = -sign(j)));
}

/** What a model file may lack, as training has use for it that inference has not. */
const HEADS = [
  { prefix: "pooler.", name: "layer on the first token", stream: STREAM.pooler },
  { prefix: MLM_HEAD, name: "head of a masked language model", stream: STREAM.mlmHead },
] as const;

/**
 * The weights of a model file; heads that it lacks begin at random, and the result names them.
 * @throws FormatError as `loadWeights` does
 */
export function loadInitial(
  buffer: ArrayBufferLike,
  { named }: ParameterSet,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
  seed: number,
): string[] {
  const lacking = HEADS.map((head) => ({
    ...head,
    named: named.filter(({ name }) => name.startsWith(head.prefix)),
  })).filter((head) => !head.named.some(({ name }) => hasWeight(tensors, name)));
  const random = new Set(lacking.flatMap((head) => head.named));
  loadWeights(
    buffer,
    named.filter((tensor) => !random.has(tensor)),
    tensors,
    file,
  );
  for (const head of lacking) initializeWeights(buffer, head, seed, head.stream);
  return lacking.filter((head) => head.named.length > 0).map(({ name }) => name);
}
