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

    let j: usize = 0;
    for (; j + 64 <= stride; j += 64) {
      const xhat0 = f32x4.mul(f32x4.sub(v128.load(xi + j), mus), rs);
      const xhat1 = f32x4.mul(f32x4.sub(v128.load(xi + j, 16), mus), rs);
      const xhat2 = f32x4.mul(f32x4.sub(v128.load(xi + j, 32), mus), rs);
      const xhat3 = f32x4.mul(f32x4.sub(v128.load(xi + j, 48), mus), rs);
      v128.store(yi + j, mulAdd(xhat0, v128.load(gamma + j), v128.load(beta + j)));
      v128.store(yi + j, mulAdd(xhat1, v128.load(gamma + j, 16), v128.load(beta + j, 16)), 16);
      v128.store(yi + j, mulAdd(xhat2, v128.load(gamma + j, 32), v128.load(beta + j, 32)), 32);
      v128.store(yi + j, mulAdd(xhat3, v128.load(gamma + j, 48), v128.load(beta + j, 48)), 48);
    }
    for (; j < stride; j += 16) {
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
      const r = load<f32>(rstd + (row << 2));

      // Σ g and Σ g · (x - μ) in two chains each, so that no addition waits for the last.
      let sumG0 = f32x4.splat(0);
      let sumG1 = sumG0;
      let sumGX0 = sumG0;
      let sumGX1 = sumG0;
      let j: usize = 0;
      for (; j + 32 <= stride; j += 32) {
        const g0 = f32x4.mul(v128.load(gamma + j), v128.load(dyi + j));
        const g1 = f32x4.mul(v128.load(gamma + j, 16), v128.load(dyi + j, 16));
        sumG0 = f32x4.add(sumG0, g0);
        sumG1 = f32x4.add(sumG1, g1);
        sumGX0 = fma(g0, f32x4.sub(v128.load(xi + j), mus), sumGX0);
        sumGX1 = fma(g1, f32x4.sub(v128.load(xi + j, 16), mus), sumGX1);
      }
      if (j < stride) {
        const g = f32x4.mul(v128.load(gamma + j), v128.load(dyi + j));
        sumG0 = f32x4.add(sumG0, g);
        sumGX0 = fma(g, f32x4.sub(v128.load(xi + j), mus), sumGX0);
      }
      const meanG = sumLanes(f32x4.add(sumG0, sumG1)) * scale;
      const meanGX = sumLanes(f32x4.add(sumGX0, sumGX1)) * scale * r; // of g · x̂

      const rs = f32x4.splat(r);
      const shift = f32x4.splat(-r * meanG);
      const slope = f32x4.splat(-r * r * meanGX);
      for (j = 0; j + 32 <= stride; j += 32) {
        const g0 = f32x4.mul(v128.load(gamma + j), v128.load(dyi + j));
        const g1 = f32x4.mul(v128.load(gamma + j, 16), v128.load(dyi + j, 16));
        const centred0 = f32x4.sub(v128.load(xi + j), mus);
        const centred1 = f32x4.sub(v128.load(xi + j, 16), mus);
        v128.store(dxi + j, fma(centred0, slope, fma(g0, rs, shift)));
        v128.store(dxi + j, fma(centred1, slope, fma(g1, rs, shift)), 16);
      }
      if (j < stride) {
        const g = f32x4.mul(v128.load(gamma + j), v128.load(dyi + j));
        const centred = f32x4.sub(v128.load(xi + j), mus);
        v128.store(dxi + j, fma(centred, slope, fma(g, rs, shift)));
      }
    }

    // Row by row over this rank's columns, so that memory is read in order; the sums stay in the cache, and pass through registers
    // once for four rows.
    const first = begin(cols >> 2) << 4;
    const last = end(cols >> 2) << 4;
    let row = top;
    for (const stop = top + count; row + 4 <= stop; row += 4) {
      const xi = x + row * stride;
      const dyi = dy + row * stride;
      const mu0 = v128.load32_splat(mean + (row << 2));
      const mu1 = v128.load32_splat(mean + (row << 2), 4);
      const mu2 = v128.load32_splat(mean + (row << 2), 8);
      const mu3 = v128.load32_splat(mean + (row << 2), 12);
      const r0 = v128.load32_splat(rstd + (row << 2));
      const r1 = v128.load32_splat(rstd + (row << 2), 4);
      const r2 = v128.load32_splat(rstd + (row << 2), 8);
      const r3 = v128.load32_splat(rstd + (row << 2), 12);
      for (let j = first; j < last; j += 16) {
        let sumX = v128.load(dGamma + j);
        let sum = v128.load(dBeta + j);
        let xj = xi + j;
        let dyj = dyi + j;
        let d = v128.load(dyj);
        sumX = fma(d, f32x4.mul(f32x4.sub(v128.load(xj), mu0), r0), sumX);
        sum = f32x4.add(sum, d);
        d = v128.load((dyj += stride));
        sumX = fma(d, f32x4.mul(f32x4.sub(v128.load((xj += stride)), mu1), r1), sumX);
        sum = f32x4.add(sum, d);
        d = v128.load((dyj += stride));
        sumX = fma(d, f32x4.mul(f32x4.sub(v128.load((xj += stride)), mu2), r2), sumX);
        sum = f32x4.add(sum, d);
        d = v128.load(dyj + stride);
        sumX = fma(d, f32x4.mul(f32x4.sub(v128.load(xj + stride), mu3), r3), sumX);
        sum = f32x4.add(sum, d);
        v128.store(dGamma + j, sumX);
        v128.store(dBeta + j, sum);
      }
    }
    for (const stop = top + count; row < stop; row++) {
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
