/**
 * Vectors of fewer bytes, in the number formats of sentence-transformers' `quantize_embeddings`, bit for bit:
 *
 *   uint8    trunc((x - min) / step)            step = (max - min) / 255, for each component, in float32
 *   int8     trunc((x - min) / step - 128)
 *   ubinary  bit 1 where x > 0, eight components a byte, the first in the highest bit (`numpy.packbits`)
 *   binary   the same bytes minus 128, as int8
 *
 * A component outside its range gives the nearest end of it.
 */

/** A vector of each precision. */
export interface VectorTypes {
  float32: Float32Array;
  int8: Int8Array;
  uint8: Uint8Array;
  binary: Int8Array;
  ubinary: Uint8Array;
}
export type Precision = keyof VectorTypes;
export const PRECISIONS: readonly Precision[] = ["float32", "int8", "uint8", "binary", "ubinary"];

/** The least and the greatest value of each component, which int8 and uint8 spread over their 256 codes. */
export interface Ranges {
  readonly min: ArrayLike<number>;
  readonly max: ArrayLike<number>;
}

/**
 * Ranges of a sample of vectors [n][dimension]: take a few thousand, of the texts that will be encoded.
 *
 *     calibrate([Float32Array.of(0, 1), Float32Array.of(2, -1)]); // { min: [0, -1], max: [2, 1] }
 *
 * @throws RangeError for an empty sample
 */
export function calibrate(vectors: readonly Float32Array[]): Ranges {
  const [first] = vectors;
  if (!first) throw new RangeError("calibrate: expected at least one vector, found none");
  const min = first.slice();
  const max = first.slice();
  for (const vector of vectors) {
    vector.forEach((x, i) => {
      if (x < min[i]!) min[i] = x;
      if (x > max[i]!) max[i] = x;
    });
  }
  return { min, max };
}

/**
 * Vectors [n][dimension] in another precision; float32 gives the vectors themselves. int8 and uint8 take the `ranges` of
 * `calibrate`, or those of the vectors at hand.
 *
 *     quantizeEmbeddings([Float32Array.of(0.5, -1, 2, 0, 0, 0, 0, 1)], "ubinary"); // [Uint8Array [0b10100001]]
 *
 * @throws RangeError for fewer than two vectors without ranges, ranges of another size, or a dimension that does not fill
 * whole bytes
 */
export function quantizeEmbeddings<P extends Precision>(
  vectors: readonly Float32Array[],
  precision: P,
  ranges?: Ranges,
): VectorTypes[P][] {
  const convert = converter(vectors, precision, ranges);
  return vectors.map((vector) => convert(vector) as VectorTypes[P]);
}

function converter(
  vectors: readonly Float32Array[],
  precision: Precision,
  given: Ranges | undefined,
): (vector: Float32Array) => VectorTypes[Precision] {
  if (vectors.length === 0 || precision === "float32") return (vector) => vector;
  const { length } = vectors[0]!;
  if (precision === "binary" || precision === "ubinary") {
    if (length % 8 !== 0) {
      throw new RangeError(
        `precision "${precision}": ${length} dimensions do not fill whole bytes; use a multiple of 8`,
      );
    }
    return precision === "ubinary"
      ? packSigns
      : (vector) => Int8Array.from(packSigns(vector), (byte) => byte - 128);
  }
  if (!given && vectors.length < 2) {
    throw new RangeError(
      `precision "${precision}": one vector alone has no range to spread over 256 codes; ` +
        `pass ranges, as calibrate() makes them of a sample`,
    );
  }
  const { min, max } = given ?? calibrate(vectors);
  if (min.length !== length || max.length !== length) {
    throw new RangeError(
      `ranges: expected ${length} components, found ${min.length} and ${max.length}; calibrate with vectors of this model`,
    );
  }
  const steps = Float32Array.from(min, (low, i) => Math.fround(max[i]! - low) / 255);
  const [offset, low, high] =
    precision === "uint8" ? ([0, 0, 255] as const) : ([128, -128, 127] as const);
  // A component that never varies has a step of 0: 0 / 0 becomes code 0, as in numpy.
  const code = (x: number, i: number): number => {
    const scaled = Math.fround(Math.fround(x - min[i]!) / steps[i]!);
    return clamp(Math.trunc(Math.fround(scaled - offset)) || 0, low, high);
  };
  return precision === "uint8"
    ? (vector) => Uint8Array.from(vector, code)
    : (vector) => Int8Array.from(vector, code);
}

function clamp(x: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, x));
}

/** Bit 1 where a component is above 0, the first of eight in the highest bit; what is missing to a whole byte is 0. */
export function packSigns(vector: Float32Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(vector.length / 8));
  vector.forEach((x, i) => {
    if (x > 0) bytes[i >> 3]! |= 128 >> (i & 7);
  });
  return bytes;
}

/**
 * The first components of a vector; of a unit vector as a unit vector (Matryoshka embeddings).
 *
 *     truncate(Float32Array.of(0.6, 0, 0.8), 2); // Float32Array [1, 0]
 *
 * @throws RangeError for fewer than one dimension, or more than there are
 */
export function truncate(
  vector: Float32Array,
  dimensions: number,
  { normalize = true }: { normalize?: boolean } = {},
): Float32Array {
  if (!(Number.isInteger(dimensions) && dimensions >= 1 && dimensions <= vector.length)) {
    throw new RangeError(
      `dimensions ${dimensions}: expected a whole number from 1 to ${vector.length}`,
    );
  }
  if (dimensions === vector.length) return vector;
  const head = vector.slice(0, dimensions);
  if (!normalize) return head;
  const norm = Math.sqrt(head.reduce((sum, x) => sum + x * x, 0));
  return head.map((x) => x / Math.max(norm, 1e-12));
}
