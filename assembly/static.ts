/**
 * The training of a static model: a sentence is the weighted mean of its tokens' vectors, and its order is lost
 * (https://github.com/MinishLab/model2vec; weights begin as those of Arora, Liang & Ma 2017).
 *
 *   y[s] = 1 / n · Σ weights[id] · table[rows[id]]    over the n tokens of s
 *   dTable[rows[id]] += weights[id] / n · dy[s]       dWeights[id] += 1 / n · dy[s] · table[rows[id]]
 *
 *   y dy [sequences, hidden]    tokenIds [tokens] int32    offsets [sequences + 1] int32    hidden % 4 == 0
 *   table [·, hidden]    rows [vocab] int32    weights [vocab]    dots [tokens] is scratch
 */
import { fma, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

/** Computes y. */
export function staticMeanForward(
  y: usize,
  tokenIds: usize,
  offsets: usize,
  table: usize,
  rows: usize,
  weights: usize,
  sequences: usize,
  hidden: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let s = begin(sequences), last = end(sequences); s < last; s++) {
    const start = <usize>load<u32>(offsets + (s << 2));
    const stop = <usize>load<u32>(offsets + (s << 2), 4);
    const inverse = <f32>1 / <f32>(stop - start);
    const ys = y + s * stride;
    memory.fill(ys, 0, stride);
    for (let t = start; t < stop; t++) {
      const id = (<usize>load<u32>(tokenIds + (t << 2))) << 2;
      const row = table + <usize>load<u32>(rows + id) * stride;
      const factor = f32x4.splat(load<f32>(weights + id) * inverse);
      for (let j: usize = 0; j < stride; j += 16)
        v128.store(ys + j, fma(v128.load(row + j), factor, v128.load(ys + j)));
    }
  }
  barrier();
}

/** Adds to the gradients. Columns of the table are shared out, not tokens: a token may occur twice. */
export function staticMeanBackward(
  dTable: usize,
  dWeights: usize,
  dots: usize,
  dy: usize,
  tokenIds: usize,
  offsets: usize,
  table: usize,
  rows: usize,
  weights: usize,
  sequences: usize,
  hidden: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let s = begin(sequences), last = end(sequences); s < last; s++) {
    const start = <usize>load<u32>(offsets + (s << 2));
    const stop = <usize>load<u32>(offsets + (s << 2), 4);
    const inverse = <f32>1 / <f32>(stop - start);
    for (let t = start; t < stop; t++) {
      const id = (<usize>load<u32>(tokenIds + (t << 2))) << 2;
      const row = table + <usize>load<u32>(rows + id) * stride;
      let sum = f32x4.splat(0);
      for (let j: usize = 0; j < stride; j += 16)
        sum = fma(v128.load(row + j), v128.load(dy + s * stride + j), sum);
      store<f32>(dots + (t << 2), sumLanes(sum) * inverse);
    }
  }
  barrier();
  if (rankOf() == 0) {
    const tokens = <usize>load<u32>(offsets + (sequences << 2));
    for (let t: usize = 0; t < tokens; t++) {
      const at = dWeights + ((<usize>load<u32>(tokenIds + (t << 2))) << 2);
      store<f32>(at, load<f32>(at) + load<f32>(dots + (t << 2)));
    }
  }
  const first = begin(hidden >> 2) << 4;
  const past = end(hidden >> 2) << 4;
  for (let s: usize = 0; s < sequences; s++) {
    const start = <usize>load<u32>(offsets + (s << 2));
    const stop = <usize>load<u32>(offsets + (s << 2), 4);
    const inverse = <f32>1 / <f32>(stop - start);
    for (let t = start; t < stop; t++) {
      const id = (<usize>load<u32>(tokenIds + (t << 2))) << 2;
      const row = dTable + <usize>load<u32>(rows + id) * stride;
      const factor = f32x4.splat(load<f32>(weights + id) * inverse);
      for (let j = first; j < past; j += 16)
        v128.store(row + j, fma(v128.load(dy + s * stride + j), factor, v128.load(row + j)));
    }
  }
  barrier();
}
