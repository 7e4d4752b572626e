/**
 * Linear layers with weights of eight bits (`int8.ts`) or four (`int4.ts`) and quantised activations (`quantize.ts`).
 *
 *   y = t · Σ w c + min · Σ w + b + residual        Σ w c: exact sums of codes, times scales
 *
 *   or, where `active` is given, GELU(y) (form: `activation.ts`), quantised: what the next layer takes
 *
 * No step fuses, so a row has the same bits in every batch and on every target.
 *
 *   quantized [rows, inputs]    active [rows, outputs]: as `quantize.ts` lays out activations    y residual [rows, outputs]
 *   y may be the residual; b and the residual may be absent    inputs, outputs % 4 == 0
 *   scratch, a rank: an unpacked panel of 8 × inputs bytes, a tile of 128, 32 rows of outputs, 128 rows of codes
 */
import { tileInt4, unpackInt4 } from "./int4";
import { tileInt8 } from "./int8";
import { geluQuantizeRows } from "./quantize";
import { mulAdd } from "./simd";
import { barrier, begin, end, rankOf } from "./team";

/** Rows that pass all panels together: enough to pay for unpacking them, few enough for GELU to find them in L2. */
const BLOCK: usize = 32;
/** The same where no GELU follows. */
const LONG_BLOCK: usize = 128;
const TILE: usize = 128;

/** Computes y, or its quantised GELU at `active` unless that is absent; `bits` of weights are 8 or 4. Ranks share tiles of four rows. */
export function linearQuantizedForward(
  y: usize,
  active: usize,
  quantized: usize,
  codes: usize,
  scales: usize,
  sums: usize,
  bias: usize,
  residual: usize,
  rows: usize,
  inputs: usize,
  outputs: usize,
  form: usize,
  bits: usize,
  scratch: usize,
): void {
  assert(bits == 8 || bits == 4, "bits must be 8 or 4");
  assert((inputs & 3) == 0 && (outputs & 3) == 0, "inputs and outputs must be multiples of 4");
  const stride = outputs << 2;
  const panels = (outputs + 7) >> 3;
  const panelBytes = inputs * bits;
  const panelScales: usize = bits == 8 ? 32 : ((inputs + 31) >> 5) << 5;
  const packedStride = (bits == 8 ? (inputs + 7) & ~7 : inputs) << 2;
  const unpacked =
    scratch + rankOf() * ((inputs << 3) + TILE + BLOCK * stride + (LONG_BLOCK >> 2) * packedStride);
  const products = unpacked + (inputs << 3);
  const block = products + TILE;
  const packed = block + BLOCK * stride;

  const tiles = (rows + 3) >> 2;
  const stop = min(end(tiles) << 2, rows);
  const most = active ? BLOCK : LONG_BLOCK;
  for (let first = begin(tiles) << 2; first < stop; first += most) {
    const last = min(first + most, stop);
    const to = active ? block : y + first * stride;
    if (bits == 8) packRows<u64>(packed, quantized, first, last, inputs);
    else packRows<u32>(packed, quantized, first, last, inputs);
    for (let panel: usize = 0; panel < panels; panel++) {
      let b = codes + panel * panelBytes;
      if (bits == 4) {
        unpackInt4(unpacked, b, inputs);
        b = unpacked;
      }
      const s = scales + panel * panelScales;
      const column = panel << 5;
      const halves: usize = (panel << 3) + 8 <= outputs ? 2 : 1;
      for (let row = first; row < last; row += 4) {
        const a = packed + ((row - first) >> 2) * packedStride;
        if (bits == 8) tileInt8(products, b, s, a, inputs);
        else tileInt4(products, b, s, a, inputs);
        storeTile(
          to + (row - first) * stride + column,
          stride,
          products,
          quantized + rows * inputs + (row << 2),
          rows << 2,
          sums + column,
          bias ? bias + column : 0,
          residual ? residual + row * stride + column : 0,
          residual ? stride : 0,
          min<usize>(4, last - row),
          halves,
        );
      }
    }
    if (active) geluQuantizeRows(active, block, first, last, rows, outputs, form);
  }
  barrier();
}

/**
 * Codes of rows `first` to `last` in the order the tiles read them: of four rows, the bytes of a T each, and so on. Past the
 * end of a row a T may hold what follows; no tile reads that.
 */
function packRows<T>(packed: usize, codes: usize, first: usize, last: usize, inputs: usize): void {
  for (let row = first; row < last; row += 4) {
    let a0 = codes + row * inputs;
    let a1 = codes + min(row + 1, last - 1) * inputs;
    let a2 = codes + min(row + 2, last - 1) * inputs;
    let a3 = codes + min(row + 3, last - 1) * inputs;
    for (const stop = a0 + inputs; a0 < stop; packed += sizeof<T>() << 2) {
      store<T>(packed, load<T>(a0));
      store<T>(packed, load<T>(a1), sizeof<T>());
      store<T>(packed, load<T>(a2), 2 * sizeof<T>());
      store<T>(packed, load<T>(a3), 3 * sizeof<T>());
      a0 += sizeof<T>();
      a1 += sizeof<T>();
      a2 += sizeof<T>();
      a3 += sizeof<T>();
    }
  }
}

/** y of `count` rows and a panel; the rows' minima lie `toMinimum` behind their scales. */
function storeTile(
  y: usize,
  stride: usize,
  products: usize,
  scale: usize,
  toMinimum: usize,
  sums: usize,
  bias: usize,
  residual: usize,
  residualStride: usize,
  count: usize,
  halves: usize,
): void {
  for (let at: usize = 0, stop = halves << 4; at < stop; at += 16) {
    const sum = v128.load(sums + at);
    const b = v128.load(bias + at);
    let to = y + at;
    let start = residual + at;
    let from = products + at;
    for (let s = scale, last = scale + (count << 2); s < last; s += 4) {
      const least = f32x4.mul(v128.load32_splat(s + toMinimum), sum);
      const value = f32x4.add(mulAdd(v128.load(from), v128.load32_splat(s), least), b);
      v128.store(to, f32x4.add(value, v128.load(start)));
      to += stride;
      start += residualStride;
      from += 32;
    }
  }
}
