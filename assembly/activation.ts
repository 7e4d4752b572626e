/**
 * Pointwise functions.
 *
 *   GELU (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415), in its exact form, with the normal distribution's
 *   Φ(x) = (1 + erf(x / √2)) / 2 and φ(x) = exp(-x² / 2) / √(2π):
 *
 *     y = x · Φ(x)        dx = dy · (Φ(x) + x · φ(x))
 *
 *   Φ has absolute error below 3e-7, so y below 3e-7 · |x|.
 *
 *   tanh, the activation of BERT's pooler:    y = tanh x        dx = dy · (1 - y²)
 *
 *   every operand [count], count % 4 == 0; outputs may lie on inputs
 */
import { exp4, normalCdf4, tanh4 } from "./math";
import { Exact, Fused, fma } from "./simd";
import { barrier, begin, end } from "./team";

/** -½ and 1 / √(2π), in memory because a loop would rebuild constants. */
const DENSITY = memory.data<f32>([-0.5, 0.3989422804014327]);

function gelu<Rounding>(y: usize, x: usize, count: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    const xi = v128.load(x + i);
    v128.store(y + i, f32x4.mul(xi, normalCdf4<Rounding>(xi)));
  }
  barrier();
}

/** Computes y. */
export function geluForward(y: usize, x: usize, count: usize): void {
  gelu<Fused>(y, x, count);
}

/** Computes y with the same bits on every target: the GELU of quantised models. */
export function geluExactForward(y: usize, x: usize, count: usize): void {
  gelu<Exact>(y, x, count);
}

/** Overwrites dx. */
export function geluBackward(dx: usize, dy: usize, x: usize, count: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    const xi = v128.load(x + i);
    const exponent = f32x4.mul(f32x4.mul(xi, xi), v128.load32_splat(DENSITY));
    const density = f32x4.mul(exp4<Fused>(exponent), v128.load32_splat(DENSITY, 4));
    const slope = fma(xi, density, normalCdf4<Fused>(xi));
    v128.store(dx + i, f32x4.mul(v128.load(dy + i), slope));
  }
  barrier();
}

/** Computes y. */
export function tanhForward(y: usize, x: usize, count: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    v128.store(y + i, tanh4(v128.load(x + i)));
  }
  barrier();
}

/** Overwrites dx; needs y, not x. */
export function tanhBackward(dx: usize, dy: usize, y: usize, count: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    const yi = v128.load(y + i);
    v128.store(dx + i, f32x4.mul(v128.load(dy + i), f32x4.sub(f32x4.splat(1), f32x4.mul(yi, yi))));
  }
  barrier();
}

/** y = a + b: the residual connection of inference, where there is no dropout to fuse it with. */
export function addForward(y: usize, a: usize, b: usize, count: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  for (let i = begin(count >> 2) << 4, last = end(count >> 2) << 4; i < last; i += 16) {
    v128.store(y + i, f32x4.add(v128.load(a + i), v128.load(b + i)));
  }
  barrier();
}

/** Fills with zeros: gradients before they accumulate. */
export function zero(address: usize, bytes: usize): void {
  const lines = (bytes + 63) >> 6;
  const first = begin(lines) << 6;
  const last = min(end(lines) << 6, bytes);
  if (first < last) memory.fill(address + first, 0, last - first);
  barrier();
}
