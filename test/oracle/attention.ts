import { type Bits, dropoutRow } from "./dropout.ts";

/** The sizes of a ragged batch. */
export interface AttentionShape {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly headDim: number;
}

/** Visits the rows of P: a head and a query, with the tokens [start, end) of its sequence. */
function forEachRow(
  { lengths, heads }: AttentionShape,
  visit: (head: number, token: number, start: number, end: number) => void,
): void {
  let start = 0;
  for (const length of lengths) {
    for (let head = 0; head < heads; head++) {
      for (let token = start; token < start + length; token++) {
        visit(head, token, start, start + length);
      }
    }
    start += length;
  }
}

const tokensOf = ({ lengths }: AttentionShape): number => lengths.reduce((sum, n) => sum + n, 0);

/** M over 1 - p of each row of P, by `token * heads + head`. */
export function attentionMask(shape: AttentionShape, bits: Bits): Float64Array[] {
  const masks: Float64Array[] = [];
  forEachRow(shape, (head, token, start, end) => {
    const row = token * shape.heads + head;
    masks[row] = dropoutRow(row, end - start, bits);
  });
  return masks;
}

/** O = (softmax(Q · Kᵀ / √headDim) ∘ M) · V per sequence and head, in float64; P by `token * heads + head`. */
export function attention(
  qkv: ArrayLike<number>,
  shape: AttentionShape,
  masks?: readonly Float64Array[],
): { context: Float64Array; logSumExp: Float64Array; probabilities: Float64Array[] } {
  const { heads, headDim } = shape;
  const hidden = heads * headDim;
  const tokens = tokensOf(shape);
  const context = new Float64Array(tokens * hidden);
  const logSumExp = new Float64Array(heads * tokens);
  const probabilities: Float64Array[] = [];
  forEachRow(shape, (head, token, start, end) => {
    const column = head * headDim;
    const q = token * 3 * hidden + column;
    const p = new Float64Array(end - start);
    for (let j = 0; j < p.length; j++) {
      const k = (start + j) * 3 * hidden + hidden + column;
      for (let d = 0; d < headDim; d++) p[j]! += (qkv[q + d]! * qkv[k + d]!) / Math.sqrt(headDim);
    }
    const top = Math.max(...p);
    const lse = top + Math.log(p.reduce((sum, s) => sum + Math.exp(s - top), 0));
    logSumExp[head * tokens + token] = lse;
    const row = token * heads + head;
    for (let j = 0; j < p.length; j++) {
      p[j] = Math.exp(p[j]! - lse);
      const v = (start + j) * 3 * hidden + 2 * hidden + column;
      const weight = p[j]! * (masks ? masks[row]![j]! : 1);
      for (let d = 0; d < headDim; d++)
        context[token * hidden + column + d]! += weight * qkv[v + d]!;
    }
    probabilities[row] = p;
  });
  return { context, logSumExp, probabilities };
}

/** dqkv, from dV = (P ∘ M)ᵀ · dO and dS = P ∘ ((dO · Vᵀ) ∘ M - Σ dO ∘ O). */
export function attentionBackward(
  dContext: ArrayLike<number>,
  qkv: ArrayLike<number>,
  shape: AttentionShape,
  masks?: readonly Float64Array[],
): Float64Array {
  const { heads, headDim } = shape;
  const hidden = heads * headDim;
  const { context, probabilities } = attention(qkv, shape, masks);
  const dqkv = new Float64Array(qkv.length);
  forEachRow(shape, (head, token, start, end) => {
    const column = head * headDim;
    const row = token * heads + head;
    const q = token * 3 * hidden + column;
    const o = token * hidden + column;
    let delta = 0;
    for (let d = 0; d < headDim; d++) delta += dContext[o + d]! * context[o + d]!;
    for (let j = 0; j < end - start; j++) {
      const k = (start + j) * 3 * hidden + hidden + column;
      const v = k + hidden;
      const p = probabilities[row]![j]!;
      const m = masks ? masks[row]![j]! : 1;
      let dp = 0;
      for (let d = 0; d < headDim; d++) {
        dp += dContext[o + d]! * qkv[v + d]!;
        dqkv[v + d]! += p * m * dContext[o + d]!;
      }
      const ds = (p * (dp * m - delta)) / Math.sqrt(headDim);
      for (let d = 0; d < headDim; d++) {
        dqkv[q + d]! += ds * qkv[k + d]!;
        dqkv[k + d]! += ds * qkv[q + d]!;
      }
    }
  });
  return dqkv;
}
