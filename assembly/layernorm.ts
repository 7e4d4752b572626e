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
 *   scratch of the backward pass: 2 · cols floats for every 64 rows
 */
import { fma, mulAdd, sumLanes } from "./simd";
import { barrier, begin, end } from "./team";

/** Rows of which one rank makes the sums over rows. */
const BLOCK: usize = 64;

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
 * Overwrites dx, which may lie on dy, and adds to dγ and dβ. Blocks of rows are shared out, with sums over the rows of each of their
 * own, and then the columns of these sums: which rows are added up together does not depend on the team.
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
  scratch: usize,
): void {
  assert((cols & 3) == 0, "cols must be a multiple of 4");
  const stride = cols << 2;
  const blocks = (rows + BLOCK - 1) / BLOCK;
  for (let block = begin(blocks), last = end(blocks); block < last; block++) {
    const sumX = scratch + block * 2 * stride;
    memory.fill(sumX, 0, 2 * stride);
    const stop = min((block + 1) * BLOCK, rows);
    for (let row = block * BLOCK; row < stop; row++) {
      const at = row * stride;
      const mu = mean + (row << 2);
      const r = rstd + (row << 2);
      backwardRow(dx + at, sumX, sumX + stride, dy + at, x + at, gamma, mu, r, cols);
    }
  }
  barrier();

  const first = begin(cols >> 2) << 4;
  const last = end(cols >> 2) << 4;
  for (let block: usize = 0, sumX = scratch; block < blocks; block++, sumX += 2 * stride) {
    for (let j = first; j < last; j += 16) {
      v128.store(dGamma + j, f32x4.add(v128.load(dGamma + j), v128.load(sumX + j)));
      v128.store(dBeta + j, f32x4.add(v128.load(dBeta + j), v128.load(sumX + stride + j)));
    }
  }
  barrier();
}

/** dx of a row; adds dy · x̂ to `sumX` and dy to `sum`, while what they are made of is on its way from memory anyway. */
function backwardRow(
  dx: usize,
  sumX: usize,
  sum: usize,
  dy: usize,
  x: usize,
  gamma: usize,
  mean: usize,
  rstd: usize,
  cols: usize,
): void {
  const bytes = cols << 2;
  const mus = v128.load32_splat(mean);
  const rs = v128.load32_splat(rstd);

  // Σ g and Σ g · x̂ in two chains each, so that no addition waits for the last.
  let sumG0 = f32x4.splat(0);
  let sumG1 = sumG0;
  let sumGX0 = sumG0;
  let sumGX1 = sumG0;
  let j: usize = 0;
  for (; j + 32 <= bytes; j += 32) {
    const d0 = v128.load(dy + j);
    const d1 = v128.load(dy + j, 16);
    const xhat0 = f32x4.mul(f32x4.sub(v128.load(x + j), mus), rs);
    const xhat1 = f32x4.mul(f32x4.sub(v128.load(x + j, 16), mus), rs);
    const g0 = f32x4.mul(v128.load(gamma + j), d0);
    const g1 = f32x4.mul(v128.load(gamma + j, 16), d1);
    sumG0 = f32x4.add(sumG0, g0);
    sumG1 = f32x4.add(sumG1, g1);
    sumGX0 = fma(g0, xhat0, sumGX0);
    sumGX1 = fma(g1, xhat1, sumGX1);
    v128.store(sumX + j, fma(d0, xhat0, v128.load(sumX + j)));
    v128.store(sumX + j, fma(d1, xhat1, v128.load(sumX + j, 16)), 16);
    v128.store(sum + j, f32x4.add(d0, v128.load(sum + j)));
    v128.store(sum + j, f32x4.add(d1, v128.load(sum + j, 16)), 16);
  }
  if (j < bytes) {
    const d = v128.load(dy + j);
    const xhat = f32x4.mul(f32x4.sub(v128.load(x + j), mus), rs);
    const g = f32x4.mul(v128.load(gamma + j), d);
    sumG0 = f32x4.add(sumG0, g);
    sumGX0 = fma(g, xhat, sumGX0);
    v128.store(sumX + j, fma(d, xhat, v128.load(sumX + j)));
    v128.store(sum + j, f32x4.add(d, v128.load(sum + j)));
  }
  const scale = <f32>1 / <f32>cols;
  const r = load<f32>(rstd);
  const meanG = sumLanes(f32x4.add(sumG0, sumG1)) * scale;
  const meanGX = sumLanes(f32x4.add(sumGX0, sumGX1)) * scale;

  // r (g - mean(g) - x̂ mean(g x̂)), of x - μ
  const shift = f32x4.splat(-r * meanG);
  const slope = f32x4.splat(-r * r * meanGX);
  for (j = 0; j + 32 <= bytes; j += 32) {
    const g0 = f32x4.mul(v128.load(gamma + j), v128.load(dy + j));
    const g1 = f32x4.mul(v128.load(gamma + j, 16), v128.load(dy + j, 16));
    const centred0 = f32x4.sub(v128.load(x + j), mus);
    const centred1 = f32x4.sub(v128.load(x + j, 16), mus);
    v128.store(dx + j, fma(centred0, slope, fma(g0, rs, shift)));
    v128.store(dx + j, fma(centred1, slope, fma(g1, rs, shift)), 16);
  }
  if (j < bytes) {
    const g = f32x4.mul(v128.load(gamma + j), v128.load(dy + j));
    const centred = f32x4.sub(v128.load(x + j), mus);
    v128.store(dx + j, fma(centred, slope, fma(g, rs, shift)));
  }
}
