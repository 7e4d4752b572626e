/**
 * Elementary functions on four lanes, by polynomials and rational functions. Those that can fuse take the rounding
 * as a type argument; the others never do, so they have the same bits on every target. Coefficients sit in a table: a splat constant
 * inside a loop would be rebuilt at every turn. Their addresses are sums, as V8 adds the offset of a load to a constant address in an
 * instruction of its own.
 */
import { keepMask, keepMaskOf } from "./random";
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
 * returns the sum of the powers before that, lane by lane. Four chains go side by side, as six do in `sixGelus`.
 */
export function exp2Row<Rounding>(row: usize, bytes: usize, top: v128, keep: usize): v128 {
  let sum = f32x4.splat(0);
  const stop = row + bytes;
  for (; row + 64 <= stop; row += 64) {
    const magic = v128.load32_splat(EXP2);
    let k = v128.load32_splat(EXP2 + 4);
    let r0 = f32x4.pmax(f32x4.sub(v128.load(row), top), k);
    let r1 = f32x4.pmax(f32x4.sub(v128.load(row, 16), top), k);
    let r2 = f32x4.pmax(f32x4.sub(v128.load(row, 32), top), k);
    let r3 = f32x4.pmax(f32x4.sub(v128.load(row, 48), top), k);
    let s0 = f32x4.add(r0, magic);
    let s1 = f32x4.add(r1, magic);
    let s2 = f32x4.add(r2, magic);
    let s3 = f32x4.add(r3, magic);
    r0 = f32x4.sub(r0, f32x4.sub(s0, magic));
    r1 = f32x4.sub(r1, f32x4.sub(s1, magic));
    r2 = f32x4.sub(r2, f32x4.sub(s2, magic));
    r3 = f32x4.sub(r3, f32x4.sub(s3, magic));
    s0 = i32x4.shl(s0, 23);
    s1 = i32x4.shl(s1, 23);
    s2 = i32x4.shl(s2, 23);
    s3 = i32x4.shl(s3, 23);
    let p0 = v128.load32_splat(EXP2 + 8);
    let p1 = p0;
    let p2 = p0;
    let p3 = p0;
    for (let at = EXP2 + 12; at < EXP2 + 28; at += 4) {
      k = v128.load32_splat(at);
      p0 = multiplyAdd<Rounding>(p0, r0, k);
      p1 = multiplyAdd<Rounding>(p1, r1, k);
      p2 = multiplyAdd<Rounding>(p2, r2, k);
      p3 = multiplyAdd<Rounding>(p3, r3, k);
    }
    p0 = multiplyAdd<Rounding>(p0, f32x4.mul(r0, s0), s0);
    p1 = multiplyAdd<Rounding>(p1, f32x4.mul(r1, s1), s1);
    p2 = multiplyAdd<Rounding>(p2, f32x4.mul(r2, s2), s2);
    p3 = multiplyAdd<Rounding>(p3, f32x4.mul(r3, s3), s3);
    sum = f32x4.add(sum, f32x4.add(f32x4.add(p0, p1), f32x4.add(p2, p3)));
    if (keep) {
      const bytes = v128.load(keep);
      p0 = v128.and(p0, keepMaskOf(bytes, 0));
      p1 = v128.and(p1, keepMaskOf(bytes, 1));
      p2 = v128.and(p2, keepMaskOf(bytes, 2));
      p3 = v128.and(p3, keepMaskOf(bytes, 3));
      keep += 16;
    }
    v128.store(row, p0);
    v128.store(row, p1, 16);
    v128.store(row, p2, 32);
    v128.store(row, p3, 48);
  }
  if (row < stop) {
    let p0 = exp2<Rounding>(f32x4.sub(v128.load(row), top));
    let p1 = exp2<Rounding>(f32x4.sub(v128.load(row, 16), top));
    sum = f32x4.add(sum, f32x4.add(p0, p1));
    if (keep) {
      p0 = v128.and(p0, keepMask(keep));
      p1 = v128.and(p1, keepMask(keep + 4));
    }
    v128.store(row, p0);
    v128.store(row, p1, 16);
  }
  return sum;
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

const GELU = memory.data<f32>([
  2.35930438e-5,
  -0.000178347254,
  0.000780033472,
  -0.00120842492,
  0.00353329093,
  0.00515150791,
  0.0317493193,
  0.118202351,
  0.237218305,
  1.18920708, // of p
]);

const GELU_SLOPE = memory.data<f32>([
  5.71855089e-5,
  -0.000228092627,
  0.00145712926,
  0.000849598844,
  0.00700766267,
  0.0897650421,
  -0.020954106,
  1, // of p
  -0.0205569118,
  0.247869,
  -0.839805484,
  0.500000179, // of u
  0.5,
  -0.0,
  7.5,
]);

/** Type arguments: x Φ(x), or its slope. */
type Value = f32;
type Slope = i32;

/**
 * GELU y = x · Φ(x) of a row of whole vectors.
 *
 * With t = |x|, x Φ(x) = max(x, 0) - t Φ(-t), and Φ(x) + x φ(x) = ½ ± (½ - g) with g = Φ(-t) - t φ(t). Φ(-t) is 1 / p(t)⁴ and g is
 * u(t) / p(t)⁴, minimax fits of ours: a fourth power falls like the tail of a normal distribution, so that polynomials of small degree will do.
 * Φ has absolute error below 3e-7, and the slope below 4e-7. What is no number stays none, and infinities become none.
 */
export function normalGeluRow<Rounding>(y: usize, x: usize, bytes: usize): void {
  gelus<Rounding, Value>(y, x, 0, bytes);
}

/** Its gradient dy · (Φ(x) + x φ(x)). */
export function normalSlopeRow(dx: usize, dy: usize, x: usize, bytes: usize): void {
  gelus<Fused, Slope>(dx, x, dy, bytes);
}

function gelus<Rounding, Kind>(y: usize, x: usize, dy: usize, bytes: usize): void {
  let i: usize = 0;
  for (; i + 96 <= bytes; i += 96)
    sixGelus<Rounding, Kind>(y + i, x + i, dy + i, 16, 32, 48, 64, 80);
  if (i < bytes) {
    const last = bytes - i - 16;
    const o1 = min<usize>(16, last);
    const o2 = min<usize>(32, last);
    const o3 = min<usize>(48, last);
    const o4 = min<usize>(64, last);
    sixGelus<Rounding, Kind>(y + i, x + i, dy + i, o1, o2, o3, o4, last);
  }
}

/**
 * Those of six vectors, the first at y and x, the others so many bytes further; they may be the same ones, as all are read before one is written.
 * Six chains go side by side, as one alone waits for its own results. Steps in loops keep them so: of steps written out, the optimiser
 * makes one expression for each chain.
 */
@inline
function sixGelus<Rounding, Kind>(
  y: usize,
  x: usize,
  dy: usize,
  o1: usize,
  o2: usize,
  o3: usize,
  o4: usize,
  o5: usize,
): void {
  const table = isFloat<Kind>() ? GELU : GELU_SLOPE;
  const end = table + (isFloat<Kind>() ? 40 : 32);
  const t0 = distance<Kind>(v128.load(x));
  const t1 = distance<Kind>(v128.load(x + o1));
  const t2 = distance<Kind>(v128.load(x + o2));
  const t3 = distance<Kind>(v128.load(x + o3));
  const t4 = distance<Kind>(v128.load(x + o4));
  const t5 = distance<Kind>(v128.load(x + o5));
  let k = v128.load32_splat(table);
  let p0 = k;
  let p1 = k;
  let p2 = k;
  let p3 = k;
  let p4 = k;
  let p5 = k;
  for (let at = table + 4; at < end; at += 4) {
    k = v128.load32_splat(at);
    p0 = multiplyAdd<Rounding>(p0, t0, k);
    p1 = multiplyAdd<Rounding>(p1, t1, k);
    p2 = multiplyAdd<Rounding>(p2, t2, k);
    p3 = multiplyAdd<Rounding>(p3, t3, k);
    p4 = multiplyAdd<Rounding>(p4, t4, k);
    p5 = multiplyAdd<Rounding>(p5, t5, k);
  }
  for (let square = 0; square < 2; square++) {
    p0 = f32x4.mul(p0, p0);
    p1 = f32x4.mul(p1, p1);
    p2 = f32x4.mul(p2, p2);
    p3 = f32x4.mul(p3, p3);
    p4 = f32x4.mul(p4, p4);
    p5 = f32x4.mul(p5, p5);
  }
  if (isFloat<Kind>()) {
    const zero = i32x4.splat(0);
    p0 = f32x4.sub(i32x4.max_s(v128.load(x), zero), f32x4.div(t0, p0));
    p1 = f32x4.sub(i32x4.max_s(v128.load(x + o1), zero), f32x4.div(t1, p1));
    p2 = f32x4.sub(i32x4.max_s(v128.load(x + o2), zero), f32x4.div(t2, p2));
    p3 = f32x4.sub(i32x4.max_s(v128.load(x + o3), zero), f32x4.div(t3, p3));
    p4 = f32x4.sub(i32x4.max_s(v128.load(x + o4), zero), f32x4.div(t4, p4));
    p5 = f32x4.sub(i32x4.max_s(v128.load(x + o5), zero), f32x4.div(t5, p5));
  } else {
    let u0 = v128.load32_splat(end);
    let u1 = u0;
    let u2 = u0;
    let u3 = u0;
    let u4 = u0;
    let u5 = u0;
    for (let at = end + 4; at < end + 16; at += 4) {
      k = v128.load32_splat(at);
      u0 = multiplyAdd<Rounding>(u0, t0, k);
      u1 = multiplyAdd<Rounding>(u1, t1, k);
      u2 = multiplyAdd<Rounding>(u2, t2, k);
      u3 = multiplyAdd<Rounding>(u3, t3, k);
      u4 = multiplyAdd<Rounding>(u4, t4, k);
      u5 = multiplyAdd<Rounding>(u5, t5, k);
    }
    p0 = slopeTimes(v128.load(dy), f32x4.div(u0, p0), v128.load(x));
    p1 = slopeTimes(v128.load(dy + o1), f32x4.div(u1, p1), v128.load(x + o1));
    p2 = slopeTimes(v128.load(dy + o2), f32x4.div(u2, p2), v128.load(x + o2));
    p3 = slopeTimes(v128.load(dy + o3), f32x4.div(u3, p3), v128.load(x + o3));
    p4 = slopeTimes(v128.load(dy + o4), f32x4.div(u4, p4), v128.load(x + o4));
    p5 = slopeTimes(v128.load(dy + o5), f32x4.div(u5, p5), v128.load(x + o5));
  }
  v128.store(y, p0);
  v128.store(y + o1, p1);
  v128.store(y + o2, p2);
  v128.store(y + o3, p3);
  v128.store(y + o4, p4);
  v128.store(y + o5, p5);
}

/** |x|, which the polynomials of the slope take up to 7.5: there, unlike t / p(t)⁴, u(t) / p(t)⁴ would have no limit in numbers. */
@inline
function distance<Kind>(x: v128): v128 {
  const t = f32x4.abs(x);
  return isFloat<Kind>() ? t : f32x4.pmin(t, v128.load32_splat(GELU_SLOPE + 56));
}

/** dy · (½ ± (½ - g)) with the sign of x. */
@inline
function slopeTimes(dy: v128, g: v128, x: v128): v128 {
  const half = v128.load32_splat(GELU_SLOPE + 48);
  const sign = v128.and(x, v128.load32_splat(GELU_SLOPE + 52));
  return f32x4.mul(dy, f32x4.add(half, v128.xor(f32x4.sub(half, g), sign)));
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
