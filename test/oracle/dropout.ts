import { philox } from "./random.ts";

/** What names a set of dropout bits. */
export interface Bits {
  readonly rate: number;
  readonly seed: number;
  readonly step: number;
  readonly site: number;
}

/** What each element of a row is multiplied by: 0 where dropout drops it, 1 / (1 - p) where it keeps it. */
export function dropoutRow(row: number, cols: number, bits: Bits): Float64Array {
  const { rate, seed, step, site } = bits;
  const threshold = Math.round(rate * 65536);
  const groups = new Map<number, readonly number[]>();
  const words = (group: number): readonly number[] => {
    let found = groups.get(group);
    if (!found) groups.set(group, (found = philox([group, row, site, step], [seed, 0])));
    return found;
  };
  return Float64Array.from({ length: cols }, (_, column) => {
    const r = column & 31;
    const lane = r & 7;
    const word = words(4 * (column >> 5) + (lane >> 1))[r >> 3]!;
    const bits16 = lane & 1 ? word >>> 16 : word & 0xffff;
    return bits16 < threshold ? 0 : 65536 / (65536 - threshold);
  });
}

/** The mask over 1 - p of a matrix. */
export function dropoutMask(rows: number, cols: number, bits: Bits): Float64Array {
  const mask = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) mask.set(dropoutRow(row, cols, bits), row * cols);
  return mask;
}
