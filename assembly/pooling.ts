/**
 * From token vectors to a sentence vector, and to the unit sphere.
 *
 *   first:  y[s] = x[first token of s]        mean:  y[s] = mean of x over the tokens of s, specials included
 *   normalize:  y = x · scale,  scale = 1 / max(|x|, 1e-12)                                       per row
 *
 *   x dx [tokens, hidden]    y dy [sequences, hidden]    offsets [sequences + 1] int32    hidden % 4 == 0
 */
import { mulAdd, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

/** Computes y; every sequence has at least one token. */
export function poolingForward(
  y: usize,
  x: usize,
  offsets: usize,
  sequences: usize,
  hidden: usize,
  mean: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let s = begin(sequences), last = end(sequences); s < last; s++) {
    const first = <usize>load<u32>(offsets + (s << 2));
    const stop = mean ? <usize>load<u32>(offsets + (s << 2), 4) : first + 1;
    const scale = f32x4.splat(<f32>1 / <f32>(stop - first));
    for (let j: usize = 0; j < stride; j += 16) {
      let sum = f32x4.splat(0);
      for (let t = first; t < stop; t++) sum = f32x4.add(sum, v128.load(x + t * stride + j));
      v128.store(y + s * stride + j, f32x4.mul(sum, scale));
    }
  }
  barrier();
}

/** Overwrites dx, with zeros where nothing flows. */
export function poolingBackward(
  dx: usize,
  dy: usize,
  offsets: usize,
  sequences: usize,
  hidden: usize,
  mean: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let s = begin(sequences), last = end(sequences); s < last; s++) {
    const first = <usize>load<u32>(offsets + (s << 2));
    const stop = <usize>load<u32>(offsets + (s << 2), 4);
    const scale = f32x4.splat(mean ? <f32>1 / <f32>(stop - first) : 1);
    for (let t = first; t < stop; t++) {
      const flows = mean || t == first;
      for (let j: usize = 0; j < stride; j += 16) {
        const d = flows ? f32x4.mul(v128.load(dy + s * stride + j), scale) : f32x4.splat(0);
        v128.store(dx + t * stride + j, d);
      }
    }
  }
  barrier();
}

/** Computes y and keeps scale [rows] for the backward pass of the loss; x [rows, cols], cols % 4 == 0. */
export function normalizeForward(
  y: usize,
  scales: usize,
  x: usize,
  rows: usize,
  cols: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const xi = x + row * stride;
    let squares = f32x4.splat(0);
    for (let j: usize = 0; j < stride; j += 16) {
      const v = v128.load(xi + j);
      squares = mulAdd(v, v, squares);
    }
    const scale = <f32>1 / max<f32>(sqrt<f32>(sumLanes(squares)), 1e-12);
    const scaleSplat = f32x4.splat(scale);
    for (let j: usize = 0; j < stride; j += 16) {
      v128.store(y + row * stride + j, f32x4.mul(v128.load(xi + j), scaleSplat));
    }
    store<f32>(scales + (row << 2), scale);
  }
  barrier();
}
