/**
 * Elementary functions on four lanes, by polynomials and rational functions. Those that can fuse take the rounding
 * as a type argument; the others never do, so they have the same bits on every target. None branches. Coefficients sit in a table: a splat constant inside a loop would be rebuilt at
 * every turn.
 */
import { mulAdd, multiplyAdd } from "./simd";

const EXP = memory.data<f32>([
  1.44269502, // 1 / ln 2
  12583039.0, // 1.5 · 2²³ + 127: a sum with it has n + 127 in its low bits
  -0.693145752, // -ln 2, the part whose products with n are exact
  -1.42860677e-6, // and the rest
  0.00828929059,
  0.0418978222,
  0.166676521,
  0.499991506,
  0.999999702, // of r⁵ … r
]);

/**
 * eˣ with relative error below 3e-7 on [-87, 88], the smallest of them below, undefined above. x = n ln 2 + r with |r| ≤ ln 2 / 2, a degree-5
 * polynomial for eʳ, and 2ⁿ made from the bits of a rounded sum (as XNNPACK's rr2-p5 does).
 */
export function exp4<Rounding>(x: v128): v128 {
  const c = f32x4.pmax(x, f32x4.splat(-87));
  const magic = v128.load32_splat(EXP, 4);
  const biased = multiplyAdd<Rounding>(c, v128.load32_splat(EXP), magic);
  const scale = i32x4.shl(biased, 23);
  const n = f32x4.sub(biased, magic);
  const high = multiplyAdd<Rounding>(n, v128.load32_splat(EXP, 8), c);
  const r = multiplyAdd<Rounding>(n, v128.load32_splat(EXP, 12), high);
  let p = v128.load32_splat(EXP, 16);
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP, 20));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP, 24));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP, 28));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP, 32));
  return multiplyAdd<Rounding>(p, f32x4.mul(r, scale), scale);
}

const LOG = memory.data<f32>([
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1,
  -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1, -2.1219444e-4, 0.693359375,
]);

/** ln x with relative error below 3e-7 for normal positive x (Cephes: mantissa in [√½, √2), degree-9 polynomial). */
export function log4(x: v128): v128 {
  // Biasing by √½ puts the mantissa into [√½, √2) and its exponent into the high bits.
  const bits = i32x4.sub(x, i32x4.splat(0x3f3504f3));
  const exponent = i32x4.shr_s(bits, 23);
  const mantissa = i32x4.sub(x, i32x4.shl(exponent, 23));
  const n = f32x4.convert_i32x4_s(exponent);
  const r = f32x4.sub(mantissa, f32x4.splat(1));
  const rr = f32x4.mul(r, r);
  let p = v128.load32_splat(LOG);
  p = mulAdd(p, r, v128.load32_splat(LOG, 4));
  p = mulAdd(p, r, v128.load32_splat(LOG, 8));
  p = mulAdd(p, r, v128.load32_splat(LOG, 12));
  p = mulAdd(p, r, v128.load32_splat(LOG, 16));
  p = mulAdd(p, r, v128.load32_splat(LOG, 20));
  p = mulAdd(p, r, v128.load32_splat(LOG, 24));
  p = mulAdd(p, r, v128.load32_splat(LOG, 28));
  p = mulAdd(p, r, v128.load32_splat(LOG, 32));
  p = f32x4.mul(f32x4.mul(p, r), rr);
  p = mulAdd(n, v128.load32_splat(LOG, 36), p);
  p = mulAdd(rr, f32x4.splat(-0.5), p);
  return mulAdd(n, v128.load32_splat(LOG, 40), f32x4.add(r, p));
}

const ERF = memory.data<f32>([
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5,
  -7.34990630326855e-4, -2.95459980854025e-3, -1.60960333262415e-2, -1.45660718464996e-5,
  -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2,
]);

/** erf x with absolute error below 4e-7: an odd rational function of degree 13 over 8, clamped to ±4 (as in Eigen). */
export function erf4(x: v128): v128 {
  const c = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-4)), f32x4.splat(4));
  const s = f32x4.mul(c, c);
  let p = v128.load32_splat(ERF);
  p = mulAdd(p, s, v128.load32_splat(ERF, 4));
  p = mulAdd(p, s, v128.load32_splat(ERF, 8));
  p = mulAdd(p, s, v128.load32_splat(ERF, 12));
  p = mulAdd(p, s, v128.load32_splat(ERF, 16));
  p = mulAdd(p, s, v128.load32_splat(ERF, 20));
  p = mulAdd(p, s, v128.load32_splat(ERF, 24));
  let q = v128.load32_splat(ERF, 28);
  q = mulAdd(q, s, v128.load32_splat(ERF, 32));
  q = mulAdd(q, s, v128.load32_splat(ERF, 36));
  q = mulAdd(q, s, v128.load32_splat(ERF, 40));
  q = mulAdd(q, s, v128.load32_splat(ERF, 44));
  return f32x4.div(f32x4.mul(c, p), q);
}

const TANH = memory.data<f32>([
  -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-8,
  1.48572235717979e-5, 6.37261928875436e-4, 4.89352455891786e-3, 1.19825839466702e-6,
  1.18534705686654e-4, 2.268434632439e-3, 4.89352518554385e-3,
]);

/** tanh x with absolute error below 4e-7: an odd rational function of degree 13 over 6, clamped to ±7.9 (as in Eigen). */
export function tanh4(x: v128): v128 {
  const c = f32x4.pmin(
    f32x4.pmax(x, f32x4.splat(-7.90531110763549805)),
    f32x4.splat(7.90531110763549805),
  );
  const s = f32x4.mul(c, c);
  let p = v128.load32_splat(TANH);
  p = mulAdd(p, s, v128.load32_splat(TANH, 4));
  p = mulAdd(p, s, v128.load32_splat(TANH, 8));
  p = mulAdd(p, s, v128.load32_splat(TANH, 12));
  p = mulAdd(p, s, v128.load32_splat(TANH, 16));
  p = mulAdd(p, s, v128.load32_splat(TANH, 20));
  p = mulAdd(p, s, v128.load32_splat(TANH, 24));
  let q = v128.load32_splat(TANH, 28);
  q = mulAdd(q, s, v128.load32_splat(TANH, 32));
  q = mulAdd(q, s, v128.load32_splat(TANH, 36));
  q = mulAdd(q, s, v128.load32_splat(TANH, 40));
  return f32x4.div(f32x4.mul(c, p), q);
}
