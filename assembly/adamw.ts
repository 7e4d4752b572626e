/**
 * AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), with clipping by the global norm.
 *
 *   g = gradient · min(1, maxNorm / (norm + 1e-6))
 *   m = β₁ m + (1 - β₁) g        v = β₂ v + (1 - β₂) g²
 *   w = w - η λ w - η m̂ / (√v̂ + ε),    m̂ = m / (1 - β₁ᵗ),    v̂ = v / (1 - β₂ᵗ)
 *
 *   weight gradient m v [count], count % 4 == 0    t = step from 1    maxNorm = ∞ does not clip
 *
 * A batch touches few rows of a table of token vectors, and a sweep over all of them would take longer than the rest of the
 * step. So a row waits: `last` [rows] int32 is the step whose weights it holds, and when the row is needed it makes up for
 * the steps without a gradient that it missed, one by one, in the arithmetic of a sweep. The bits are those of a sweep.
 * What the missed steps need is kept in a ring of 1024 steps, so that every row must come up to date that often.
 *
 *   table gradient m v [rows, cols], cols % 4 == 0    touched [count] int32, different rows
 *   factors [1024, 4]: -η / (1 - β₁ᵗ), 1 / √(1 - β₂ᵗ) and 1 - η λ of step t in row t mod 1024
 */
import { fma, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

const BLOCK: usize = 4096; // elements of a partial sum: the same blocks whatever the team
const RING: usize = 1024; // steps whose factors are kept
const NEGLIGIBLE: f32 = 1e-30; // a first moment below this moves nothing, and would slowly become denormal

/** Σ g² of the floats from `g` up to `stop`. */
function squares(g: usize, stop: usize): f32 {
  let sum = f32x4.splat(0);
  for (; g < stop; g += 16) {
    const v = v128.load(g);
    sum = fma(v, v, sum);
  }
  return sumLanes(sum);
}

/**
 * norm [1] = √Σ gradient², over `count` elements and the touched rows of a table, of which there may be none; partials
 * [⌈count / 4096⌉ + rows] are scratch.
 */
export function gradientNorm(
  norm: usize,
  gradient: usize,
  count: usize,
  table: usize,
  touched: usize,
  rows: usize,
  cols: usize,
  partials: usize,
): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const blocks = (count + BLOCK - 1) / BLOCK;
  for (let b = begin(blocks), last = end(blocks); b < last; b++) {
    const stop = gradient + (min(count, (b + 1) * BLOCK) << 2);
    store<f32>(partials + (b << 2), squares(gradient + ((b * BLOCK) << 2), stop));
  }
  const stride = cols << 2;
  for (let i = begin(rows), last = end(rows); i < last; i++) {
    const row = table + <usize>load<u32>(touched + (i << 2)) * stride;
    store<f32>(partials + ((blocks + i) << 2), squares(row, row + stride));
  }
  barrier();
  if (rankOf() == 0) {
    let sum: f64 = 0;
    for (let b: usize = 0; b < blocks + rows; b++) sum += <f64>load<f32>(partials + (b << 2));
    store<f32>(norm, <f32>sqrt<f64>(sum));
  }
  barrier();
}

/** βᵗ by squaring. */
function power(base: f64, exponent: usize): f64 {
  let result: f64 = 1;
  for (; exponent; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

// The factors of a step, as f32: every way to take a step rounds them alike.
function rateOf(learningRate: f64, beta1: f64, step: usize): f32 {
  return <f32>(-learningRate / (1 - power(beta1, step)));
}
function rootOf(beta2: f64, step: usize): f32 {
  return <f32>(1 / sqrt<f64>(1 - power(beta2, step)));
}
function keepOf(learningRate: f64, weightDecay: f64): f32 {
  return <f32>(1 - learningRate * weightDecay);
}

/** The first moment after a step. */
function moment(m: v128, g: v128, b1: v128, c1: v128): v128 {
  const next = fma(m, b1, f32x4.mul(g, c1));
  return v128.and(next, f32x4.gt(f32x4.abs(next), f32x4.splat(NEGLIGIBLE)));
}

/** The second. */
function variance(v: v128, g: v128, b2: v128, c2: v128): v128 {
  return fma(v, b2, f32x4.mul(f32x4.mul(g, g), c2));
}

/** The weight, from both. */
function moved(w: v128, m: v128, v: v128, rate: v128, root: v128, keep: v128, eps: v128): v128 {
  return fma(f32x4.div(m, fma(f32x4.sqrt(v), root, eps)), rate, f32x4.mul(w, keep));
}

/** Updates weight, m and v in place; reads the norm that `gradientNorm` left, so no rank waits for the host. */
export function adamWStep(
  weight: usize,
  gradient: usize,
  first: usize,
  second: usize,
  norm: usize,
  count: usize,
  maxNorm: f64,
  learningRate: f64,
  beta1: f64,
  beta2: f64,
  epsilon: f64,
  weightDecay: f64,
  step: usize,
): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  const clip = f32x4.splat(clipOf(norm, maxNorm));
  const b1 = f32x4.splat(<f32>beta1);
  const b2 = f32x4.splat(<f32>beta2);
  const c1 = f32x4.splat(<f32>(1 - beta1));
  const c2 = f32x4.splat(<f32>(1 - beta2));
  const rate = f32x4.splat(rateOf(learningRate, beta1, step));
  const root = f32x4.splat(rootOf(beta2, step));
  const keep = f32x4.splat(keepOf(learningRate, weightDecay));
  const eps = f32x4.splat(<f32>epsilon);

  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    const g = f32x4.mul(v128.load(gradient + i), clip);
    const m = moment(v128.load(first + i), g, b1, c1);
    const v = variance(v128.load(second + i), g, b2, c2);
    v128.store(first + i, m);
    v128.store(second + i, v);
    v128.store(weight + i, moved(v128.load(weight + i), m, v, rate, root, keep, eps));
  }
  barrier();
}

/** What gradients are multiplied by to have at most the norm `maxNorm`. */
function clipOf(norm: usize, maxNorm: f64): f32 {
  return <f32>min<f64>(1, maxNorm / (<f64>load<f32>(norm) + 1e-6));
}

/** Notes the factors of a step, for the rows that will make up for it. */
export function adamWFactors(
  factors: usize,
  learningRate: f64,
  beta1: f64,
  beta2: f64,
  weightDecay: f64,
  step: usize,
): void {
  if (rankOf() == 0) {
    const f = factors + ((step & (RING - 1)) << 4);
    store<f32>(f, rateOf(learningRate, beta1, step));
    store<f32>(f, rootOf(beta2, step), 4);
    store<f32>(f, keepOf(learningRate, weightDecay), 8);
  }
  barrier();
}

/**
 * Brings rows of a table to `step`: all `count` rows, or those in `touched`. With `gradient`, which touched rows alone may
 * have, that is the gradient of `step` itself; without, it is one more step they missed.
 */
export function adamWRows(
  weight: usize,
  gradient: usize,
  first: usize,
  second: usize,
  last: usize,
  touched: usize,
  count: usize,
  cols: usize,
  norm: usize,
  factors: usize,
  maxNorm: f64,
  beta1: f64,
  beta2: f64,
  epsilon: f64,
  step: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  assert(!gradient || touched, "only touched rows have a gradient");
  const clip = f32x4.splat(gradient ? clipOf(norm, maxNorm) : 0);
  const b1 = f32x4.splat(<f32>beta1);
  const b2 = f32x4.splat(<f32>beta2);
  const c1 = f32x4.splat(<f32>(1 - beta1));
  const c2 = f32x4.splat(<f32>(1 - beta2));
  const eps = f32x4.splat(<f32>epsilon);
  const zero = f32x4.splat(0);
  const stride = cols << 2;

  for (let i = begin(count), stop = end(count); i < stop; i++) {
    const row = touched ? <usize>load<u32>(touched + (i << 2)) : i;
    const from = <usize>load<u32>(last + (row << 2)) + 1;
    assert(from + RING > step, "a row waited longer than the ring of factors");
    const missed = gradient ? step - 1 : step;
    store<u32>(last + (row << 2), <u32>step);
    for (let j = row * stride, ends = j + stride; j < ends; j += 16) {
      let w = v128.load(weight + j);
      let m = v128.load(first + j);
      let v = v128.load(second + j);
      for (let t = from; t <= missed; t++) {
        const f = factors + ((t & (RING - 1)) << 4);
        m = moment(m, zero, b1, c1);
        v = variance(v, zero, b2, c2);
        // prettier-ignore
        w = moved(w, m, v, v128.load32_splat(f), v128.load32_splat(f, 4), v128.load32_splat(f, 8), eps);
      }
      if (gradient) {
        const f = factors + ((step & (RING - 1)) << 4);
        const g = f32x4.mul(v128.load(gradient + j), clip);
        m = moment(m, g, b1, c1);
        v = variance(v, g, b2, c2);
        // prettier-ignore
        w = moved(w, m, v, v128.load32_splat(f), v128.load32_splat(f, 4), v128.load32_splat(f, 8), eps);
      }
      v128.store(weight + j, w);
      v128.store(first + j, m);
      v128.store(second + j, v);
    }
  }
  barrier();
}

/** Sets the touched rows of a table to 0: a gradient that is read nowhere else need not be cleared elsewhere. */
export function zeroRows(table: usize, touched: usize, count: usize, cols: usize): void {
  const stride = cols << 2;
  for (let i = begin(count), stop = end(count); i < stop; i++) {
    memory.fill(table + <usize>load<u32>(touched + (i << 2)) * stride, 0, stride);
  }
  barrier();
}

/** average += (weight - average) · share, for the exponential moving average of the weights. */
export function moveAverage(average: usize, weight: usize, count: usize, share: f64): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  const s = f32x4.splat(<f32>share);
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    const a = v128.load(average + i);
    v128.store(average + i, fma(f32x4.sub(v128.load(weight + i), a), s, a));
  }
  barrier();
}
