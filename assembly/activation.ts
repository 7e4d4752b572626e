/**
 * Pointwise functions.
 *
 *   GELU (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415), with the normal distribution's
 *   Φ(x) = (1 + erf(x / √2)) / 2 and φ(x) = exp(-x² / 2) / √(2π):
 *
 *     y = x · Φ(x)        dx = dy · (Φ(x) + x · φ(x))                        form 0
 *
 *   and its tanh form, with s = (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³), where 1 - tanh² u = 4 s (1 - s):
 *
 *     y = x · s           dx = dy · s · (1 + 2 x (1 - s) u')                 form 1
 *
 *   Φ has absolute error below 3e-7 and s below 2e-7, so y that times |x|.
 *
 *   tanh, the activation of BERT's pooler:    y = tanh x        dx = dy · (1 - y²)
 *
 *   every operand [count], count % 4 == 0; outputs may lie on inputs
 */
import { logisticCdf4, logisticSlope4, normalGeluRow, normalSlopeRow, tanh4 } from "./math";
import { Exact, Fused } from "./simd";
import { barrier, begin, end } from "./team";

const ERF: usize = 0;
const TANH: usize = 1;

function geluRow<Rounding>(y: usize, x: usize, bytes: usize, form: usize): void {
  if (form == ERF) {
    normalGeluRow<Rounding>(y, x, bytes);
  } else {
    for (let i: usize = 0; i < bytes; i += 16) {
      const xi = v128.load(x + i);
      v128.store(y + i, f32x4.mul(xi, logisticCdf4<Rounding>(xi)));
    }
  }
}

/** GELU of a tile: rows of so many bytes, `stride` apart in both. */
export function geluRows<Rounding>(
  y: usize,
  x: usize,
  stride: usize,
  rows: usize,
  bytes: usize,
  form: usize,
): void {
  for (let row: usize = 0; row < rows; row++, y += stride, x += stride)
    geluRow<Rounding>(y, x, bytes, form);
}

function gelu<Rounding>(y: usize, x: usize, count: usize, form: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  assert(form <= TANH, "form must be 0 or 1");
  const first = begin(count >> 2) << 4;
  geluRow<Rounding>(y + first, x + first, (end(count >> 2) << 4) - first, form);
  barrier();
}

/** Computes y. */
export function geluForward(y: usize, x: usize, count: usize, form: usize): void {
  gelu<Fused>(y, x, count, form);
}

/** Computes y with the same bits on every target: the GELU that `linear-quantized.ts` fuses, alone. */
export function geluExactForward(y: usize, x: usize, count: usize, form: usize): void {
  gelu<Exact>(y, x, count, form);
}

/** Overwrites dx. */
export function geluBackward(dx: usize, dy: usize, x: usize, count: usize, form: usize): void {
  assert((count & 3) == 0, "count must be a multiple of 4");
  assert(form <= TANH, "form must be 0 or 1");
  const first = begin(count >> 2) << 4;
  const last = end(count >> 2) << 4;
  if (form == ERF) {
    normalSlopeRow(dx + first, dy + first, x + first, last - first);
  } else {
    for (let i = first; i < last; i += 16)
      v128.store(dx + i, f32x4.mul(v128.load(dy + i), logisticSlope4(v128.load(x + i))));
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
