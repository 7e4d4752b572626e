/**
 * From token vectors to a sentence vector, and to the unit sphere.
 *
 *   0 first, 5 last:   y = x of the first or last token of s
 *   1 mean:            y = Σ x / n over the n tokens of s, specials included
 *   2 max:             y = the largest x, column by column
 *   3 mean, sqrt len:  y = Σ x / √n            4 weighted mean:  y = Σ i x / Σ i,  i = 1 … n
 *   normalize:         y = x · scale,  scale = 1 / max(|x|, 1e-12)                            per row
 *
 *   x dx [tokens, hidden]    y dy [sequences, hidden]    offsets [sequences + 1] int32    hidden % 4 == 0
 */
import { mulAdd, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

const FIRST: usize = 0;
const MAX: usize = 2;
const MEAN_SQRT_LEN: usize = 3;
const WEIGHTED_MEAN: usize = 4;
const LAST: usize = 5;

/** Computes y by one of the modes above; every sequence has at least one token. */
export function poolingForward(
  y: usize,
  x: usize,
  offsets: usize,
  sequences: usize,
  hidden: usize,
  mode: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  assert(mode <= LAST, "mode must be one of 0 to 5");
  const stride = hidden << 2;
  for (let s = begin(sequences), last = end(sequences); s < last; s++) {
    const start = <usize>load<u32>(offsets + (s << 2));
    const stop = <usize>load<u32>(offsets + (s << 2), 4);
    const from = mode == LAST ? stop - 1 : start;
    const to = mode == FIRST ? start + 1 : stop;
    const n = <f32>(to - from);
    let divisor = n;
    if (mode == MAX) divisor = 1;
    else if (mode == MEAN_SQRT_LEN) divisor = sqrt<f32>(n);
    else if (mode == WEIGHTED_MEAN) divisor = n * (n + 1) * 0.5;
    const scale = f32x4.splat(<f32>1 / divisor);
    const growth = f32x4.splat(mode == WEIGHTED_MEAN ? 1 : 0);
    for (let j: usize = 0; j < stride; j += 16) {
      let sum = v128.load(x + from * stride + j);
      let weight = f32x4.splat(1);
      for (let t = from + 1; t < to; t++) {
        const v = v128.load(x + t * stride + j);
        weight = f32x4.add(weight, growth);
        sum = mode == MAX ? f32x4.pmax(sum, v) : mulAdd(v, weight, sum);
      }
      v128.store(y + s * stride + j, f32x4.mul(sum, scale));
    }
  }
  barrier();
}

/** y = (a + b) / 2: two layers as one; y may be a or b, count % 4 == 0. */
export function averageForward(y: usize, a: usize, b: usize, count: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  const half = f32x4.splat(0.5);
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    v128.store(y + i, f32x4.mul(f32x4.add(v128.load(a + i), v128.load(b + i)), half));
  }
  barrier();
}

/** Copies `cols` columns of rows of `from` columns to rows of `to` columns: concatenates vectors, or truncates them. */
export function copyColumns(
  y: usize,
  x: usize,
  rows: usize,
  cols: usize,
  to: usize,
  from: usize,
): void {
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    memory.copy(y + ((row * to) << 2), x + ((row * from) << 2), cols << 2);
  }
  barrier();
}

/** Adds scale · x to the same columns of y, from rows of `from` columns to rows of `to`; cols % 4 == 0. */
export function addColumns(
  y: usize,
  x: usize,
  rows: usize,
  cols: usize,
  to: usize,
  from: usize,
  scale: f32,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const scales = f32x4.splat(scale);
  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const yi = y + ((row * to) << 2);
    const xi = x + ((row * from) << 2);
    for (let j: usize = 0; j < cols << 2; j += 16)
      v128.store(yi + j, mulAdd(v128.load(xi + j), scales, v128.load(yi + j)));
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
