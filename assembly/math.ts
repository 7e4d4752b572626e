/**
 * Elementary functions on four lanes, by polynomials and rational functions. Those that can fuse take the rounding
 * as a type argument; the others never do, so they have the same bits on every target. Coefficients sit in a table: a splat constant
 * inside a loop would be rebuilt at every turn. Their addresses are sums, as V8 adds the offset of a load to a constant address in an
 * instruction of its own.
 */
import { keepMask } from "./random";
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
  -87,
]);

/**
 * eˣ with relative error below 3e-7 on [-87, 88], the smallest of them below, undefined above. x = n ln 2 + r with |r| ≤ ln 2 / 2, a degree-5
 * polynomial for eʳ, and 2ⁿ made from the bits of a rounded sum (as XNNPACK's rr2-p5 does).
 */
export function exp4<Rounding>(x: v128): v128 {
  const c = f32x4.pmax(x, v128.load32_splat(EXP + 36));
  const magic = v128.load32_splat(EXP + 4);
  const biased = multiplyAdd<Rounding>(c, v128.load32_splat(EXP), magic);
  const scale = i32x4.shl(biased, 23);
  const n = f32x4.sub(biased, magic);
  const high = multiplyAdd<Rounding>(n, v128.load32_splat(EXP + 8), c);
  const r = multiplyAdd<Rounding>(n, v128.load32_splat(EXP + 12), high);
  let p = v128.load32_splat(EXP + 16);
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP + 20));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP + 24));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP + 28));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP + 32));
  return multiplyAdd<Rounding>(p, f32x4.mul(r, scale), scale);
}

const EXP2 = memory.data<f32>([
  12583039.0, // as above
  -126,
  0.00132630886,
  0.00967148792,
  0.0555073904,
  0.240222426,
  0.693146974, // of r⁵ … r: those above times powers of ln 2
]);

/** 2ˣ as exp4 makes eˣ, but r is exact without ln 2: relative error below 3e-7 on [-126, 127], that of -126 below. */
function exp2<Rounding>(x: v128): v128 {
  const c = f32x4.pmax(x, v128.load32_splat(EXP2 + 4));
  const magic = v128.load32_splat(EXP2);
  const biased = f32x4.add(c, magic);
  const scale = i32x4.shl(biased, 23);
  const r = f32x4.sub(c, f32x4.sub(biased, magic));
  let p = v128.load32_splat(EXP2 + 8);
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP2 + 12));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP2 + 16));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP2 + 20));
  p = multiplyAdd<Rounding>(p, r, v128.load32_splat(EXP2 + 24));
  return multiplyAdd<Rounding>(p, f32x4.mul(r, scale), scale);
}

/**
 * Replaces a row of whole pairs of vectors by 2^(x - top), or 0 where dropout drops them by the bytes at `keep`, if there are any, and
 * returns the sum of the powers before that, lane by lane. Two chains side by side hide each other's latency.
 */
export function exp2Row<Rounding>(row: usize, bytes: usize, top: v128, keep: usize): v128 {
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  for (const stop = row + bytes; row < stop; row += 32) {
    let p0 = exp2<Rounding>(f32x4.sub(v128.load(row), top));
    let p1 = exp2<Rounding>(f32x4.sub(v128.load(row, 16), top));
    sum0 = f32x4.add(sum0, p0);
    sum1 = f32x4.add(sum1, p1);
    if (keep) {
      p0 = v128.and(p0, keepMask(keep));
      p1 = v128.and(p1, keepMask(keep + 4));
      keep += 8;
    }
    v128.store(row, p0);
    v128.store(row, p1, 16);
  }
  return f32x4.add(sum0, sum1);
}

const LOG = memory.data<f32>([
  7.0376836292e-2,
  -1.151461031e-1,
  1.167699874e-1,
  -1.2420140846e-1,
  1.4249322787e-1,
  -1.6668057665e-1,
  2.0000714765e-1,
  -2.4999993993e-1,
  3.3333331174e-1,
  -2.1219444e-4,
  0.693359375,
  0.70710677, // of which the bits are subtracted
  1,
  -0.5,
]);

/** ln x with relative error below 3e-7 for normal positive x (Cephes: mantissa in [√½, √2), degree-9 polynomial). */
export function log4(x: v128): v128 {
  // Biasing by √½ puts the mantissa into [√½, √2) and its exponent into the high bits.
  const bits = i32x4.sub(x, v128.load32_splat(LOG + 44));
  const exponent = i32x4.shr_s(bits, 23);
  const mantissa = i32x4.sub(x, i32x4.shl(exponent, 23));
  const n = f32x4.convert_i32x4_s(exponent);
  const r = f32x4.sub(mantissa, v128.load32_splat(LOG + 48));
  const rr = f32x4.mul(r, r);
  let p = v128.load32_splat(LOG);
  p = mulAdd(p, r, v128.load32_splat(LOG + 4));
  p = mulAdd(p, r, v128.load32_splat(LOG + 8));
  p = mulAdd(p, r, v128.load32_splat(LOG + 12));
  p = mulAdd(p, r, v128.load32_splat(LOG + 16));
  p = mulAdd(p, r, v128.load32_splat(LOG + 20));
  p = mulAdd(p, r, v128.load32_splat(LOG + 24));
  p = mulAdd(p, r, v128.load32_splat(LOG + 28));
  p = mulAdd(p, r, v128.load32_splat(LOG + 32));
  p = f32x4.mul(f32x4.mul(p, r), rr);
  p = mulAdd(n, v128.load32_splat(LOG + 36), p);
  p = mulAdd(rr, v128.load32_splat(LOG + 52), p);
  return mulAdd(n, v128.load32_splat(LOG + 40), f32x4.add(r, p));
}

const CDF = memory.data<f32>([
  5.19999981,
  -5.19999981,
  0.5,
  11.6369085,
  626.137573,
  10996.1094,
  98813.6484,
  794918.688, // of p
  224.623596,
  5387.0957,
  74399.3438,
  579772.062,
  1992566.75, // of q, whose first is 1
  -0.721347520444, // -½ log₂ e
  -1.3257480647, // log₂ of 1 / √(2π)
]);

/**
 * GELU y = x · Φ(x) of a row of whole vectors, or with `dy` its gradient dy · (Φ(x) + x φ(x)).
 *
 * Φ(x) = (1 + erf(x / √2)) / 2 has absolute error below 3e-7: ½ + c p(c²) / q(c²) with c = x clamped to ±5.19999981, p of degree 4 and q of
 * degree 5, a minimax fit of ours. φ(x) is a power of 2. Two chains side by side share the constants and hide each other's latency.
 */
export function normalGeluRow<Rounding>(y: usize, x: usize, dy: usize, bytes: usize): void {
  for (let i: usize = 0; i < bytes; i += 32) {
    const isPair = i + 32 <= bytes;
    const x0 = v128.load(x + i);
    const x1 = isPair ? v128.load(x + i, 16) : x0;
    let k = v128.load32_splat(CDF + 4);
    let c0 = f32x4.pmax(x0, k);
    let c1 = f32x4.pmax(x1, k);
    k = v128.load32_splat(CDF);
    c0 = f32x4.pmin(c0, k);
    c1 = f32x4.pmin(c1, k);
    const s0 = f32x4.mul(c0, c0);
    const s1 = f32x4.mul(c1, c1);
    k = v128.load32_splat(CDF + 32);
    let q0 = f32x4.add(s0, k);
    let q1 = f32x4.add(s1, k);
    k = v128.load32_splat(CDF + 36);
    q0 = multiplyAdd<Rounding>(q0, s0, k);
    q1 = multiplyAdd<Rounding>(q1, s1, k);
    k = v128.load32_splat(CDF + 40);
    q0 = multiplyAdd<Rounding>(q0, s0, k);
    q1 = multiplyAdd<Rounding>(q1, s1, k);
    k = v128.load32_splat(CDF + 44);
    q0 = multiplyAdd<Rounding>(q0, s0, k);
    q1 = multiplyAdd<Rounding>(q1, s1, k);
    k = v128.load32_splat(CDF + 48);
    q0 = multiplyAdd<Rounding>(q0, s0, k);
    q1 = multiplyAdd<Rounding>(q1, s1, k);
    let p0 = v128.load32_splat(CDF + 12);
    k = v128.load32_splat(CDF + 16);
    let p1 = multiplyAdd<Rounding>(p0, s1, k);
    p0 = multiplyAdd<Rounding>(p0, s0, k);
    k = v128.load32_splat(CDF + 20);
    p0 = multiplyAdd<Rounding>(p0, s0, k);
    p1 = multiplyAdd<Rounding>(p1, s1, k);
    k = v128.load32_splat(CDF + 24);
    p0 = multiplyAdd<Rounding>(p0, s0, k);
    p1 = multiplyAdd<Rounding>(p1, s1, k);
    k = v128.load32_splat(CDF + 28);
    p0 = multiplyAdd<Rounding>(p0, s0, k);
    p1 = multiplyAdd<Rounding>(p1, s1, k);
    k = v128.load32_splat(CDF + 8);
    p0 = f32x4.add(f32x4.div(f32x4.mul(c0, p0), q0), k);
    p1 = f32x4.add(f32x4.div(f32x4.mul(c1, p1), q1), k);
    if (dy) {
      const a = v128.load32_splat(CDF + 52);
      const b = v128.load32_splat(CDF + 56);
      p0 = fma(x0, exp2<Rounding>(fma(f32x4.mul(x0, x0), a, b)), p0);
      p1 = fma(x1, exp2<Rounding>(fma(f32x4.mul(x1, x1), a, b)), p1);
    }
    v128.store(y + i, f32x4.mul(dy ? v128.load(dy + i) : x0, p0));
    if (isPair) v128.store(y + i, f32x4.mul(dy ? v128.load(dy + i, 16) : x1, p1), 16);
  }
}

const LOGISTIC = memory.data<f32>([
  -2.3022082, // -2 √(2/π) log₂ e
  -0.10294324, // and that times 0.044715
  10,
  -10,
  0.2140644488169, // of the slope, 2 √(2/π) (1 + 3 · 0.044715 x²)
  1.5957691216,
  1,
]);

/** e⁻ᵛ of v = 2 √(2/π) (x + 0.044715 x³), for |x| clamped to 10, where it is as good as 0 or infinite. */
export function logisticExp4<Rounding>(x: v128): v128 {
  const c = f32x4.pmin(
    f32x4.pmax(x, v128.load32_splat(LOGISTIC + 12)),
    v128.load32_splat(LOGISTIC + 8),
  );
  const k = v128.load32_splat(LOGISTIC + 4);
  const factor = multiplyAdd<Rounding>(f32x4.mul(c, c), k, v128.load32_splat(LOGISTIC));
  return exp2<Rounding>(f32x4.mul(c, factor));
}

/**
 * (1 + tanh(v / 2)) / 2 = 1 / (1 + e⁻ᵛ) of the same v, which the tanh form of GELU puts in the place of Φ(x), with absolute error
 * below 2e-7.
 */
export function logisticCdf4<Rounding>(x: v128): v128 {
  const one = v128.load32_splat(LOGISTIC + 24);
  return f32x4.div(one, f32x4.add(one, logisticExp4<Rounding>(x)));
}

/** The slope of x · logisticCdf4(x): s (1 + x (1 - s) v') with s = logisticCdf4(x). */
export function logisticSlope4(x: v128): v128 {
  const one = v128.load32_splat(LOGISTIC + 24);
  const c = f32x4.pmin(
    f32x4.pmax(x, v128.load32_splat(LOGISTIC + 12)),
    v128.load32_splat(LOGISTIC + 8),
  );
  const e = logisticExp4<Fused>(c);
  const s = f32x4.div(one, f32x4.add(one, e));
  const slope = fma(
    f32x4.mul(c, c),
    v128.load32_splat(LOGISTIC + 16),
    v128.load32_splat(LOGISTIC + 20),
  );
  return f32x4.mul(s, fma(f32x4.mul(c, slope), f32x4.mul(e, s), one));
}

const TANH = memory.data<f32>([
  -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-8,
  1.48572235717979e-5, 6.37261928875436e-4, 4.89352455891786e-3, 1.19825839466702e-6,
  1.18534705686654e-4, 2.268434632439e-3, 4.89352518554385e-3, 7.90531110763549805,
  -7.90531110763549805,
]);

/** tanh x with absolute error below 4e-7: an odd rational function of degree 13 over 6, clamped to ±7.9 (as in Eigen). */
export function tanh4(x: v128): v128 {
  const c = f32x4.pmin(f32x4.pmax(x, v128.load32_splat(TANH + 48)), v128.load32_splat(TANH + 44));
  const s = f32x4.mul(c, c);
  let p = v128.load32_splat(TANH);
  p = mulAdd(p, s, v128.load32_splat(TANH + 4));
  p = mulAdd(p, s, v128.load32_splat(TANH + 8));
  p = mulAdd(p, s, v128.load32_splat(TANH + 12));
  p = mulAdd(p, s, v128.load32_splat(TANH + 16));
  p = mulAdd(p, s, v128.load32_splat(TANH + 20));
  p = mulAdd(p, s, v128.load32_splat(TANH + 24));
  let q = v128.load32_splat(TANH + 28);
  q = mulAdd(q, s, v128.load32_splat(TANH + 32));
  q = mulAdd(q, s, v128.load32_splat(TANH + 36));
  q = mulAdd(q, s, v128.load32_splat(TANH + 40));
  return f32x4.div(f32x4.mul(c, p), q);
}
