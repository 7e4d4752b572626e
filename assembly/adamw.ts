/**
 * AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), with clipping by the global norm.
 *
 *   g = gradient · min(1, maxNorm / (norm + 1e-6))
 *   m = β₁ m + (1 - β₁) g        v = β₂ v + (1 - β₂) g²
 *   w = w - η λ w - η m̂ / (√v̂ + ε),    m̂ = m / (1 - β₁ᵗ),    v̂ = v / (1 - β₂ᵗ)
 *
 *   weight gradient m v [count], count % 4 == 0    t = step from 1    maxNorm = ∞ does not clip
 */
import { fma, sumLanes } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

const BLOCK: usize = 4096; // elements of a partial sum: the same blocks whatever the team

/** norm [1] = √Σ gradient²; partials [⌈count / 4096⌉] are scratch. */
export function gradientNorm(norm: usize, gradient: usize, count: usize, partials: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  const blocks = (count + BLOCK - 1) / BLOCK;
  for (let b = begin(blocks), last = end(blocks); b < last; b++) {
    let sum = f32x4.splat(0);
    const stop = gradient + (min(count, (b + 1) * BLOCK) << 2);
    for (let g = gradient + ((b * BLOCK) << 2); g < stop; g += 16) {
      const v = v128.load(g);
      sum = fma(v, v, sum);
    }
    store<f32>(partials + (b << 2), sumLanes(sum));
  }
  barrier();
  if (rankOf() == 0) {
    let sum: f64 = 0;
    for (let b: usize = 0; b < blocks; b++) sum += <f64>load<f32>(partials + (b << 2));
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
  const clip = f32x4.splat(<f32>min<f64>(1, maxNorm / (<f64>load<f32>(norm) + 1e-6)));
  const b1 = f32x4.splat(<f32>beta1);
  const b2 = f32x4.splat(<f32>beta2);
  const c1 = f32x4.splat(<f32>(1 - beta1));
  const c2 = f32x4.splat(<f32>(1 - beta2));
  const keep = f32x4.splat(<f32>(1 - learningRate * weightDecay));
  const rate = f32x4.splat(<f32>(-learningRate / (1 - power(beta1, step))));
  const root = f32x4.splat(<f32>(1 / sqrt<f64>(1 - power(beta2, step))));
  const eps = f32x4.splat(<f32>epsilon);

  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    const g = f32x4.mul(v128.load(gradient + i), clip);
    const m = fma(v128.load(first + i), b1, f32x4.mul(g, c1));
    const v = fma(v128.load(second + i), b2, f32x4.mul(f32x4.mul(g, g), c2));
    const denominator = fma(f32x4.sqrt(v), root, eps);
    v128.store(first + i, m);
    v128.store(second + i, v);
    v128.store(
      weight + i,
      fma(f32x4.div(m, denominator), rate, f32x4.mul(v128.load(weight + i), keep)),
    );
  }
  barrier();
}
