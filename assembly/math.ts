/**
 * Elementary functions on four lanes, by polynomials and rational functions. Those that can fuse take the rounding
 * as a type argument; the others never do, so they have the same bits on every target. None branches. Coefficients sit in a table: a splat constant inside a loop would be rebuilt at
 * every turn.
 */
import { fma, Fused, mulAdd, multiplyAdd } from "./simd";

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

/** Replaces eight numbers by e^(x - top) and returns their sum, lane by lane; the constants of exp4 are loaded once. */
export function expShifted8<Rounding>(address: usize, top: v128): v128 {
  const least = f32x4.splat(-87);
  const c0 = f32x4.pmax(f32x4.sub(v128.load(address), top), least);
  const c1 = f32x4.pmax(f32x4.sub(v128.load(address, 16), top), least);
  const magic = v128.load32_splat(EXP, 4);
  let k = v128.load32_splat(EXP);
  const biased0 = multiplyAdd<Rounding>(c0, k, magic);
  const biased1 = multiplyAdd<Rounding>(c1, k, magic);
  const scale0 = i32x4.shl(biased0, 23);
  const scale1 = i32x4.shl(biased1, 23);
  const n0 = f32x4.sub(biased0, magic);
  const n1 = f32x4.sub(biased1, magic);
  k = v128.load32_splat(EXP, 8);
  let r0 = multiplyAdd<Rounding>(n0, k, c0);
  let r1 = multiplyAdd<Rounding>(n1, k, c1);
  k = v128.load32_splat(EXP, 12);
  r0 = multiplyAdd<Rounding>(n0, k, r0);
  r1 = multiplyAdd<Rounding>(n1, k, r1);
  let p0 = v128.load32_splat(EXP, 16);
  k = v128.load32_splat(EXP, 20);
  let p1 = multiplyAdd<Rounding>(p0, r1, k);
  p0 = multiplyAdd<Rounding>(p0, r0, k);
  k = v128.load32_splat(EXP, 24);
  p0 = multiplyAdd<Rounding>(p0, r0, k);
  p1 = multiplyAdd<Rounding>(p1, r1, k);
  k = v128.load32_splat(EXP, 28);
  p0 = multiplyAdd<Rounding>(p0, r0, k);
  p1 = multiplyAdd<Rounding>(p1, r1, k);
  k = v128.load32_splat(EXP, 32);
  p0 = multiplyAdd<Rounding>(p0, r0, k);
  p1 = multiplyAdd<Rounding>(p1, r1, k);
  p0 = multiplyAdd<Rounding>(p0, f32x4.mul(r0, scale0), scale0);
  p1 = multiplyAdd<Rounding>(p1, f32x4.mul(r1, scale1), scale1);
  v128.store(address, p0);
  v128.store(address, p1, 16);
  return f32x4.add(p0, p1);
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

const CDF = memory.data<f32>([
  -1.50599506025019e-12, 3.0611994126502e-10, -4.64265103925388e-8, -2.51575617099127e-6,
  -6.49646073515868e-5, -0.000522304390077821, -0.00569080715759501, -9.10379490406225e-7,
  -2.66717569098631e-5, -0.000420706743595508, -0.00368666458360234, -0.0142647390514189,
  5.656854249, -5.656854249, 0.5,
]);

/**
 * Φ(x) = (1 + erf(x / √2)) / 2 with absolute error below 3e-7: Eigen's odd rational function of degree 13 over 8 for erf,
 * clamped to ±4, with the factors of √2 and 2 inside its coefficients.
 */
export function normalCdf4<Rounding>(x: v128): v128 {
  const c = f32x4.pmin(f32x4.pmax(x, v128.load32_splat(CDF, 52)), v128.load32_splat(CDF, 48));
  const s = f32x4.mul(c, c);
  let p = v128.load32_splat(CDF);
  p = multiplyAdd<Rounding>(p, s, v128.load32_splat(CDF, 4));
  p = multiplyAdd<Rounding>(p, s, v128.load32_splat(CDF, 8));
  p = multiplyAdd<Rounding>(p, s, v128.load32_splat(CDF, 12));
  p = multiplyAdd<Rounding>(p, s, v128.load32_splat(CDF, 16));
  p = multiplyAdd<Rounding>(p, s, v128.load32_splat(CDF, 20));
  p = multiplyAdd<Rounding>(p, s, v128.load32_splat(CDF, 24));
  let q = v128.load32_splat(CDF, 28);
  q = multiplyAdd<Rounding>(q, s, v128.load32_splat(CDF, 32));
  q = multiplyAdd<Rounding>(q, s, v128.load32_splat(CDF, 36));
  q = multiplyAdd<Rounding>(q, s, v128.load32_splat(CDF, 40));
  q = multiplyAdd<Rounding>(q, s, v128.load32_splat(CDF, 44));
  return f32x4.add(f32x4.div(f32x4.mul(c, p), q), v128.load32_splat(CDF, 56));
}

const LOGISTIC = memory.data<f32>([
  -1.5957691216, // -2 √(2/π)
  -0.0713548162726, // and that times 0.044715
  10,
  -10,
  0.2140644488169, // of the slope, 2 √(2/π) (1 + 3 · 0.044715 x²)
  1.5957691216,
]);

/** e⁻ᵛ of v = 2 √(2/π) (x + 0.044715 x³), for |x| clamped to 10, where it is as good as 0 or infinite. */
export function logisticExp4<Rounding>(x: v128): v128 {
  const c = f32x4.pmin(
    f32x4.pmax(x, v128.load32_splat(LOGISTIC, 12)),
    v128.load32_splat(LOGISTIC, 8),
  );
  const k = v128.load32_splat(LOGISTIC, 4);
  const factor = multiplyAdd<Rounding>(f32x4.mul(c, c), k, v128.load32_splat(LOGISTIC));
  return exp4<Rounding>(f32x4.mul(c, factor));
}

/**
 * (1 + tanh(v / 2)) / 2 = 1 / (1 + e⁻ᵛ) of the same v, which the tanh form of GELU puts in the place of Φ(x), with absolute error
 * below 2e-7.
 */
export function logisticCdf4<Rounding>(x: v128): v128 {
  const one = f32x4.splat(1);
  return f32x4.div(one, f32x4.add(one, logisticExp4<Rounding>(x)));
}

/** The slope of x · logisticCdf4(x): s (1 + x (1 - s) v') with s = logisticCdf4(x). */
export function logisticSlope4(x: v128): v128 {
  const one = f32x4.splat(1);
  const c = f32x4.pmin(
    f32x4.pmax(x, v128.load32_splat(LOGISTIC, 12)),
    v128.load32_splat(LOGISTIC, 8),
  );
  const e = logisticExp4<Fused>(c);
  const s = f32x4.div(one, f32x4.add(one, e));
  const slope = fma(
    f32x4.mul(c, c),
    v128.load32_splat(LOGISTIC, 16),
    v128.load32_splat(LOGISTIC, 20),
  );
  return f32x4.mul(s, fma(f32x4.mul(c, slope), f32x4.mul(e, s), one));
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
