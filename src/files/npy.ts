/** NumPy's format of one array (NEP 1), which `numpy.load` and FAISS read. */

const DTYPES = { Float32Array: "<f4", Int8Array: "|i1", Uint8Array: "|u1" } as const;

/**
 * The bytes of a matrix [rows][cols], in parts: a header of a multiple of 64 bytes, then the rows.
 *
 *     await writeFileAtomic("vectors.npy", npy([Float32Array.of(1, 2)], 2)); // numpy.load gives [[1., 2.]]
 *
 * `cols` and `type` matter where there are no rows to tell.
 */
export function* npy(
  rows: readonly (Float32Array | Int8Array | Uint8Array)[],
  cols: number,
  type: keyof typeof DTYPES = "Float32Array",
): Generator<Uint8Array> {
  const [first] = rows;
  const descr = DTYPES[first ? (first.constructor.name as keyof typeof DTYPES) : type];
  const dictionary = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${rows.length}, ${cols}), }`;
  const length = Math.ceil((10 + dictionary.length + 1) / 64) * 64;
  const header = new TextEncoder().encode(
    `\u0000NUMPY\u0001\u0000..${dictionary.padEnd(length - 11)}\n`,
  );
  header[0] = 0x93;
  new DataView(header.buffer).setUint16(8, length - 10, true);
  yield header;
  for (const { buffer, byteOffset, byteLength } of rows) {
    yield new Uint8Array(buffer, byteOffset, byteLength);
  }
}
