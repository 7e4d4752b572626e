/**
 * Layer normalization (Ba, Kiros & Hinton 2016, https://arxiv.org/abs/1607.06450).
 *
 *   y = γ · x̂ + β,   x̂ = (x - μ) · r,   μ = mean(x),   r = 1 / √(var(x) + ε)       per row
 *
 * Backward, with g = γ · dy:
 *
 *   dx = r · (g - mean(g) - x̂ · mean(g · x̂))                                       per row
 *   dγ += Σ dy · x̂,   dβ += Σ dy                                                   over rows
 *
 *   x y dx dy [rows, cols]    γ β dγ dβ [cols]    μ r [rows], absent in inference    cols % 4 == 0
 */
import { fma, mulAdd, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

/** Rows that go back together: their sums over columns find them in L2. */
const BLOCK: usize = 48;

/** Σ x over a row of whole vectors, in four chains so that no addition waits for the last. */
function sumRow(x: usize, bytes: usize): f32 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let j: usize = 0;
  for (; j + 64 <= bytes; j += 64) {
    s0 = f32x4.add(s0, v128.load(x + j));
    s1 = f32x4.add(s1, v128.load(x + j, 16));
    s2 = f32x4.add(s2, v128.load(x + j, 32));
    s3 = f32x4.add(s3, v128.load(x + j, 48));
  }
  for (; j < bytes; j += 16) s0 = f32x4.add(s0, v128.load(x + j));
  return sumLanes(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
}

/** Σ (x - μ)² over a row, likewise. */
function sumSquares(x: usize, bytes: usize, mu: v128): f32 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let j: usize = 0;
  for (; j + 64 <= bytes; j += 64) {
    const d0 = f32x4.sub(v128.load(x + j), mu);
    const d1 = f32x4.sub(v128.load(x + j, 16), mu);
    const d2 = f32x4.sub(v128.load(x + j, 32), mu);
    const d3 = f32x4.sub(v128.load(x + j, 48), mu);
    s0 = mulAdd(d0, d0, s0);
    s1 = mulAdd(d1, d1, s1);
    s2 = mulAdd(d2, d2, s2);
    s3 = mulAdd(d3, d3, s3);
  }
  for (; j < bytes; j += 16) {
    const d = f32x4.sub(v128.load(x + j), mu);
    s0 = mulAdd(d, d, s0);
  }
  return sumLanes(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
}

/** Writes y, and keeps μ and r for the backward pass if they are given. */
export function layerNormForward(
  y: usize,
  mean: usize,
  rstd: usize,
  x: usize,
  gamma: usize,
  beta: usize,
  rows: usize,
  cols: usize,
  epsilon: f32,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  const scale = <f32>1 / <f32>cols;

  for (let row = begin(rows), last = end(rows); row < last; row++) {
    const xi = x + row * stride;
    const yi = y + row * stride;

    const mu = sumRow(xi, stride) * scale;
    const mus = f32x4.splat(mu);
    const r = <f32>1 / sqrt<f32>(sumSquares(xi, stride, mus) * scale + epsilon);
    const rs = f32x4.splat(r);

    for (let j: usize = 0; j < stride; j += 16) {
      const xhat = f32x4.mul(f32x4.sub(v128.load(xi + j), mus), rs);
      v128.store(yi + j, mulAdd(xhat, v128.load(gamma + j), v128.load(beta + j)));
    }
    if (mean) {
      store<f32>(mean + (row << 2), mu);
      store<f32>(rstd + (row << 2), r);
    }
  }
  barrier();
}

/**
 * Overwrites dx and adds to dγ and dβ. Rows are shared out for dx, columns for dγ and dβ, so that no sum has two
 * writers. dx must not be dy: the column sums still need it.
 */
export function layerNormBackward(
  dx: usize,
  dGamma: usize,
  dBeta: usize,
  dy: usize,
  x: usize,
  gamma: usize,
  mean: usize,
  rstd: usize,
  rows: usize,
  cols: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  const scale = <f32>1 / <f32>cols;

  for (let top: usize = 0; top < rows; top += BLOCK) {
    const count = min(BLOCK, rows - top);
    for (let row = top + begin(count), last = top + end(count); row < last; row++) {
      const xi = x + row * stride;
      const dyi = dy + row * stride;
      const dxi = dx + row * stride;
      const mus = v128.load32_splat(mean + (row << 2));
      const rs = v128.load32_splat(rstd + (row << 2));

      let sumG = f32x4.splat(0);
      let sumGX = f32x4.splat(0);
      for (let j: usize = 0; j < stride; j += 16) {
        const xhat = f32x4.mul(f32x4.sub(v128.load(xi + j), mus), rs);
        const g = f32x4.mul(v128.load(gamma + j), v128.load(dyi + j));
        sumG = f32x4.add(sumG, g);
        sumGX = fma(g, xhat, sumGX);
      }
      const meanG = f32x4.splat(sumLanes(sumG) * scale);
      const meanGX = f32x4.splat(sumLanes(sumGX) * scale);

      for (let j: usize = 0; j < stride; j += 16) {
        const xhat = f32x4.mul(f32x4.sub(v128.load(xi + j), mus), rs);
        const g = f32x4.mul(v128.load(gamma + j), v128.load(dyi + j));
        const centred = f32x4.sub(f32x4.sub(g, meanG), f32x4.mul(xhat, meanGX));
        v128.store(dxi + j, f32x4.mul(rs, centred));
      }
    }

    // Row by row over this rank's columns, so that memory is read in order; the sums stay in the cache.
    const first = begin(cols >> 2) << 4;
    const last = end(cols >> 2) << 4;
    for (let row = top; row < top + count; row++) {
      const xi = x + row * stride;
      const dyi = dy + row * stride;
      const mus = v128.load32_splat(mean + (row << 2));
      const rs = v128.load32_splat(rstd + (row << 2));
      for (let j = first; j < last; j += 16) {
        const d = v128.load(dyi + j);
        const xhat = f32x4.mul(f32x4.sub(v128.load(xi + j), mus), rs);
        v128.store(dGamma + j, fma(d, xhat, v128.load(dGamma + j)));
        v128.store(dBeta + j, f32x4.add(d, v128.load(dBeta + j)));
      }
    }
  }
  barrier();
}
