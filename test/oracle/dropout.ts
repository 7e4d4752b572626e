import { philox } from "./random.ts";

/** What names a set of dropout bits. */
export interface Bits {
  readonly rate: number;
  readonly seed: number;
  readonly step: number;
  readonly site: number;
}

/** The bit of a counter that gives the lower halves of the bits of its elements. */
const LOWER = 0x80000000;

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
  const byte = (group: number, column: number): number =>
    (words(group)[(column & 15) >> 2]! >>> (8 * (column & 3))) & 0xff;
  return Float64Array.from({ length: cols }, (_, column) => {
    const group = column >> 4;
    const bits16 = 256 * byte(group, column) + byte((group | LOWER) >>> 0, column);
    return bits16 < threshold ? 0 : 65536 / (65536 - threshold);
  });
}

/** The mask over 1 - p of a matrix. */
export function dropoutMask(rows: number, cols: number, bits: Bits): Float64Array {
  const mask = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) mask.set(dropoutRow(row, cols, bits), row * cols);
  return mask;
}
