/**
 * Weights of four bits, one scale for 32 inputs of an output; the products are in `linear-quantized.ts`.
 *
 *   w ≈ q · s,     q in -8 … 7     per output and group of 32 inputs (the last group may be shorter)
 *
 * The sign of s sends the weight of largest magnitude to -8. Six sizes of s are tried, from one that clips that weight to one
 * that leaves room; each gets the s of least squares for its q, Σ w q / Σ q², and the one of least error is kept.
 *
 * Sums of a group are exact in 16 bits, as a lane adds 16 products of at most 8 · 127; groups are added in float32, in order.
 *
 *   weight [outputs, inputs]    Σw [outputs], Σw = Σ s q    inputs, outputs % 4 == 0
 *   codes: panels of 8 outputs, inputs / 4 quads × 16 bytes; q + 8 of outputs 0 … 3 in the low bits, of 4 … 7 in the high
 *   scales: panels of 8 outputs, ⌈inputs / 32⌉ groups × 8
 */
import { dotPairs, mulAdd, spread } from "./simd";
import { barrier, begin, end } from "./team";

const GROUP: usize = 32;

/** s is the weight of largest magnitude over -7.2, -7.6 … -9.2 to begin with. */
const SIZES: i32 = 6;
const LEAST: f64 = 7.2;
const STEP: f64 = 0.4;

/** Quantises and packs a weight; the last panel is filled up with zeros. */
export function packInt4(
  codes: usize,
  scales: usize,
  sums: usize,
  weight: usize,
  outputs: usize,
  inputs: usize,
): void {
  assert((inputs & 3) == 0 && (outputs & 3) == 0, "inputs and outputs must be multiples of 4");
  const panels = (outputs + 7) >> 3;
  const groups = (inputs + GROUP - 1) / GROUP;
  for (let panel = begin(panels), last = end(panels); panel < last; panel++) {
    const to = codes + panel * (inputs << 2);
    const s = scales + ((panel * groups) << 5);
    memory.fill(to, 0x88, inputs << 2);
    memory.fill(s, 0, groups << 5);
    for (let j: usize = 0; j < 8; j++) {
      const o = (panel << 3) + j;
      if (o >= outputs) break;
      const row = weight + ((o * inputs) << 2);
      let sum: f64 = 0;
      for (let group: usize = 0; group < groups; group++) {
        const first = group * GROUP;
        const count = min(GROUP, inputs - first);
        const inverse = bestInverse(row + (first << 2), count);
        let products: f64 = 0;
        let squares: i32 = 0;
        let codeSum: i32 = 0;
        for (let k: usize = first, stop = first + count; k < stop; k++) {
          const w = <f64>load<f32>(row + (k << 2));
          const q = codeOf(w, inverse);
          const byte = to + ((k >> 2) << 4) + ((j & 3) << 2) + (k & 3);
          const nibble =
            j < 4 ? (load<u8>(byte) & 0xf0) | (q + 8) : (load<u8>(byte) & 15) | ((q + 8) << 4);
          store<u8>(byte, <u8>nibble);
          products += w * <f64>q;
          squares += q * q;
          codeSum += q;
        }
        const scale: f32 = squares ? <f32>(products / <f64>squares) : 0;
        store<f32>(s + (((group << 3) + j) << 2), scale);
        sum += <f64>scale * <f64>codeSum;
      }
      store<f32>(sums + (o << 2), <f32>sum);
    }
  }
  barrier();
}

/** The weight that packed codes stand for, q · s. */
export function dequantizeInt4(
  weight: usize,
  codes: usize,
  scales: usize,
  outputs: usize,
  inputs: usize,
): void {
  const groups = (inputs + GROUP - 1) / GROUP;
  for (let o = begin(outputs), last = end(outputs); o < last; o++) {
    const panel = codes + (o >> 3) * (inputs << 2) + ((o & 3) << 2);
    const s = scales + ((((o >> 3) * groups) << 3) + (o & 7)) * 4;
    const row = weight + ((o * inputs) << 2);
    const shift: u32 = (o & 7) < 4 ? 0 : 4;
    for (let k: usize = 0; k < inputs; k++) {
      const q = <i32>((load<u8>(panel + ((k >> 2) << 4) + (k & 3)) >> shift) & 15) - 8;
      store<f32>(row + (k << 2), load<f32>(s + ((k / GROUP) << 5)) * <f32>q);
    }
  }
  barrier();
}

function codeOf(w: f64, inverse: f64): i32 {
  return <i32>max<f64>(-8, min<f64>(7, nearest<f64>(w * inverse)));
}

/** 1 / s of the size whose codes q leave the least error, Σ w² - (Σ w q)² / Σ q². */
function bestInverse(w: usize, count: usize): f64 {
  let extreme: f64 = 0;
  for (let k: usize = 0; k < count; k++) {
    const x = <f64>load<f32>(w + (k << 2));
    if (abs(x) > abs(extreme)) extreme = x;
  }
  if (extreme == 0) return 0;
  let best: f64 = 0;
  let most: f64 = -1;
  for (let size = 0; size < SIZES; size++) {
    const inverse = -(LEAST + <f64>size * STEP) / extreme;
    let products: f64 = 0;
    let squares: f64 = 0;
    for (let k: usize = 0; k < count; k++) {
      const x = <f64>load<f32>(w + (k << 2));
      const q = <f64>codeOf(x, inverse);
      products += x * q;
      squares += q * q;
    }
    const explained = (products * products) / squares;
    if (explained > most) {
      most = explained;
      best = inverse;
    }
  }
  return best;
}

// In memory, as V8 makes a splat constant anew at every turn of a loop.
const NIBBLE = memory.data<u8>([15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15]);
const ZERO = memory.data<u8>([8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]);

/** A panel of codes as bytes, as a tile reads them: 8 outputs × 4 inputs a quad. */
export function unpackInt4(bytes: usize, codes: usize, inputs: usize): void {
  const nibble = v128.load(NIBBLE);
  const zero = v128.load(ZERO);
  for (const stop = codes + (inputs << 2); codes < stop; codes += 16, bytes += 32) {
    const pair = v128.load(codes);
    v128.store(bytes, i8x16.sub(v128.and(pair, nibble), zero));
    v128.store(bytes, i8x16.sub(v128.and(i16x8.shr_u(pair, 4), nibble), zero), 16);
  }
}

/**
 * Σ s Σ c q of four rows and eight outputs at `products` [4, 8]; b is an unpacked panel, and a the rows' codes as `packRows`
 * lays them out. The loop over a group is short, since V8 unrolls it better than it compiles a long one.
 */
export function tileInt4(products: usize, b: usize, scales: usize, a: usize, inputs: usize): void {
  const zero = f32x4.splat(0);
  let c00 = zero;
  let c01 = zero;
  let c10 = zero;
  let c11 = zero;
  let c20 = zero;
  let c21 = zero;
  let c30 = zero;
  let c31 = zero;
  for (const stop = a + (inputs << 2); a < stop; scales += 32) {
    let s00 = zero;
    let s01 = zero;
    let s10 = zero;
    let s11 = zero;
    let s20 = zero;
    let s21 = zero;
    let s30 = zero;
    let s31 = zero;
    for (const last = min(a + (GROUP << 2), stop); a < last; a += 16, b += 32) {
      const b0 = v128.load(b);
      const b1 = v128.load(b, 16);
      let row = spread(a, 0);
      s00 = i16x8.add(s00, dotPairs(b0, row));
      s01 = i16x8.add(s01, dotPairs(b1, row));
      row = spread(a, 1);
      s10 = i16x8.add(s10, dotPairs(b0, row));
      s11 = i16x8.add(s11, dotPairs(b1, row));
      row = spread(a, 2);
      s20 = i16x8.add(s20, dotPairs(b0, row));
      s21 = i16x8.add(s21, dotPairs(b1, row));
      row = spread(a, 3);
      s30 = i16x8.add(s30, dotPairs(b0, row));
      s31 = i16x8.add(s31, dotPairs(b1, row));
    }
    const g0 = v128.load(scales);
    const g1 = v128.load(scales, 16);
    c00 = addGroup(c00, s00, g0);
    c01 = addGroup(c01, s01, g1);
    c10 = addGroup(c10, s10, g0);
    c11 = addGroup(c11, s11, g1);
    c20 = addGroup(c20, s20, g0);
    c21 = addGroup(c21, s21, g1);
    c30 = addGroup(c30, s30, g0);
    c31 = addGroup(c31, s31, g1);
  }
  v128.store(products, c00);
  v128.store(products, c01, 16);
  v128.store(products, c10, 32);
  v128.store(products, c11, 48);
  v128.store(products, c20, 64);
  v128.store(products, c21, 80);
  v128.store(products, c30, 96);
  v128.store(products, c31, 112);
}

function addGroup(acc: v128, pairs: v128, scales: v128): v128 {
  return mulAdd(f32x4.convert_i32x4_s(i32x4.extadd_pairwise_i16x8_s(pairs)), scales, acc);
}
