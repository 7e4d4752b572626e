/**
 * Who learns how fast: layers nearer to the tokens may learn more slowly (Howard & Ruder 2018, https://arxiv.org/abs/1801.06146),
 * or not at all.
 */
import { flat, type ParameterSet } from "../model/parameters.ts";

export interface RateOptions {
  /** What the rate of a layer is multiplied by for the layer below it; the embeddings are below the lowest. 1 by default. */
  readonly layerRate?: number;
  /** Embeddings stay as they are, their layer norm too. */
  readonly freezeEmbeddings?: boolean;
  /** So many layers stay as they are, from the lowest on. */
  readonly freezeLayers?: number;
}

/** Parameters side by side that learn alike. */
export interface RateGroup {
  /** In bytes, from the first parameter after the table; the same in gradients and moments. */
  readonly offset: number;
  readonly count: number;
  /** What the learning rate is multiplied by; 0 where nothing is learnt. */
  readonly scale: number;
  /** Whether weight decay shrinks them. */
  readonly decays: boolean;
}

export interface Rates {
  /** The scale of the table. */
  readonly table: number;
  readonly groups: readonly RateGroup[];
}

/** The scale of the tensor that a model file calls `name`; the table of a static model is its embedding. */
function scaleOf(name: string, numLayers: number, options: RateOptions): number {
  const { layerRate = 1, freezeEmbeddings = false, freezeLayers = 0 } = options;
  const layer = /^encoder\.layer\.(\d+)\./u.exec(name);
  if (layer) {
    const n = Number(layer[1]);
    return n < freezeLayers ? 0 : layerRate ** (numLayers - 1 - n);
  }
  if (!name.startsWith("embeddings")) return 1;
  return freezeEmbeddings ? 0 : layerRate ** numLayers;
}

/** The scales of all parameters, in as few groups as there can be. */
export function planRates(p: ParameterSet, numLayers: number, options: RateOptions): Rates {
  const { ptr, count } = flat(p);
  const groups: RateGroup[] = [];
  const tensors = p.named.filter((tensor) => tensor.ptr >= ptr && tensor.ptr < ptr + 4 * count);
  for (const { name, ptr: at, shape } of tensors.toSorted((a, b) => a.ptr - b.ptr)) {
    const scale = scaleOf(name, numLayers, options);
    const decays = at < p.plain.ptr;
    const offset = at - ptr;
    const size = Math.ceil(shape.reduce((product, n) => product * n, 1) / 4) * 4;
    const before = groups.at(-1);
    // What alignment left beside a tensor is zeros, with moments of zero: AdamW leaves it so.
    if (before?.scale === scale && before.decays === decays) {
      groups[groups.length - 1] = { ...before, count: (offset - before.offset) / 4 + size };
    } else {
      groups.push({ offset, count: size, scale, decays });
    }
  }
  return { table: scaleOf("embeddings", numLayers, options), groups };
}
