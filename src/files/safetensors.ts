/**
 * The safetensors format (https://github.com/huggingface/safetensors): the length of the header (8 bytes, little-endian),
 * a JSON header of dtype, shape and byte range by tensor, then the data without holes.
 */
import { FormatError } from "../errors.ts";
import { checkValues, duplicateKey, keysOf, SETTINGS } from "./json.ts";

const ELEMENT_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;
const ALIGNMENT = 64; // of the data within a file we write: a cache line

export type SafetensorsDtype = keyof typeof ELEMENT_BYTES;

export interface SafetensorsTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Little-endian elements, row by row. */
  readonly data: Uint8Array;
  /** Fills `target` with bytes of `data` from `from` on, where reading all of it would cost memory. */
  copyTo?(target: Uint8Array, from: number): void;
}

export interface Safetensors {
  /** In the order of their data. */
  readonly tensors: Map<string, SafetensorsTensor>;
  /** Has no prototype, so every key is the file's own. */
  readonly metadata: Record<string, string>;
}

/** Where a tensor lies: bytes [begin, end) of its file. */
export interface SafetensorsSpan extends Omit<SafetensorsTensor, "data"> {
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads a file at least as strictly as the reference implementation does. The data of the tensors are views of `bytes`.
 *
 * Refused are: a file shorter than 8 bytes; a header that is too long, of too many values, past the end, no JSON, no object,
 * or has a key twice; metadata that are no strings; a tensor whose dtype is unknown, whose shape is no list of sizes or too large,
 * whose byte range is none, past the end, or of another size than its shape; ranges that overlap or leave bytes out.
 * @throws FormatError naming the file, the tensor and its numbers
 */
export function parseSafetensors(bytes: Uint8Array, name: string): Safetensors {
  const start = headerEnd(bytes.subarray(0, 8), bytes.length, name);
  const { spans, metadata } = parseSpans(bytes.subarray(0, start), bytes.length, name);
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [key, { dtype, shape, begin, end }] of spans) {
    const data = new Uint8Array(bytes.buffer, bytes.byteOffset + begin, end - begin);
    tensors.set(key, { dtype, shape, data });
  }
  return { tensors, metadata };
}

/**
 * Where the header ends in a file of `length` bytes that begins with these eight.
 * @throws FormatError for a header that is too long or past the end, and for a file shorter than 8 bytes
 */
export function headerEnd(bytes: Uint8Array, length: number, name: string): number {
  if (bytes.length < 8) {
    throw new FormatError(
      `${name}: expected at least 8 bytes of safetensors, found ${bytes.length}; is the file cut off?`,
    );
  }
  const claimed = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (claimed > SETTINGS.bytes) {
    throw new FormatError(
      `${name}: the header claims ${claimed} bytes, above the limit of ${SETTINGS.bytes}; is it safetensors?`,
    );
  }
  if (8 + Number(claimed) > length) {
    throw new FormatError(
      `${name}: the header claims ${claimed} bytes, found only ${length - 8}; is the file cut off?`,
    );
  }
  return 8 + Number(claimed);
}

/**
 * What lies where in a file of `length` bytes, by its beginning up to `headerEnd`: in the order of the data.
 * @throws FormatError as `parseSafetensors` does
 */
export function parseSpans(
  bytes: Uint8Array,
  length: number,
  name: string,
): { spans: Map<string, SafetensorsSpan>; metadata: Record<string, string> } {
  const fail = (problem: string): never => {
    throw new FormatError(`${name}: ${problem}`);
  };
  const dataStart = bytes.length;
  const dataLength = length - dataStart;

  const { keys } = checkValues(bytes.subarray(8), SETTINGS.values, name, "a header");
  const header = parseHeader(bytes.subarray(8), keys, fail);
  const metadata = Object.create(null) as Record<string, string>;
  const found: [key: string, span: SafetensorsSpan][] = [];
  for (const [key, value] of Object.entries(header)) {
    if (key === "__metadata__") {
      const entries = Object.entries(isObject(value) ? value : fail("__metadata__ is no object"));
      for (const [field, text] of entries) {
        metadata[field] =
          typeof text === "string"
            ? text
            : fail(`__metadata__ ${show(field)} must be a string, found ${show(text)}`);
      }
      continue;
    }
    if (!isObject(value)) return fail(`${key}: expected an object, found ${show(value)}`);
    const { dtype, shape, data_offsets: range } = value;
    if (!isDtype(dtype)) {
      const known = Object.keys(ELEMENT_BYTES).join(", ");
      return fail(`${key}: dtype is ${show(dtype)}; should be one of: ${known}`);
    }
    if (!isSizes(shape)) {
      return fail(`${key}: shape must be a list of whole numbers, found ${show(shape)}`);
    }
    const elements = shape.reduce((product, n) => Math.min(product * n, 2 ** 53), 1);
    if (elements === 2 ** 53) {
      return fail(`${key}: shape ${show(shape)} has more than 2^53 elements`);
    }
    if (!isSizes(range) || range.length !== 2) {
      return fail(`${key}: data_offsets must be two whole numbers, found ${show(range)}`);
    }
    const [begin, end] = range as [number, number];
    if (begin > end) {
      return fail(`${key}: data_offsets [${begin}, ${end}] end before they begin`);
    }
    if (end > dataLength) {
      return fail(
        `${key}: data_offsets [${begin}, ${end}] pass the end of ${dataLength} bytes of data; is the file cut off?`,
      );
    }
    if (end - begin !== elements * ELEMENT_BYTES[dtype]) {
      return fail(
        `${key}: ${dtype} ${show(shape)} takes ${elements * ELEMENT_BYTES[dtype]} bytes, ` +
          `but data_offsets [${begin}, ${end}] hold ${end - begin}`,
      );
    }
    found.push([key, { dtype, shape, begin: dataStart + begin, end: dataStart + end }]);
  }

  found.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = dataStart;
  let previous = "the header";
  for (const [key, { begin, end }] of found) {
    const at = (byte: number): number => byte - dataStart;
    if (begin < covered) {
      fail(`${key}: begins at byte ${at(begin)}, within ${previous}, which ends at ${at(covered)}`);
    }
    if (begin > covered) {
      fail(`${key}: begins at byte ${at(begin)}, but ${previous} ends at ${at(covered)}: a hole`);
    }
    covered = end;
    previous = key;
  }
  if (covered !== length) {
    fail(`${length - covered} bytes follow the last tensor, which ends at ${covered - dataStart}`);
  }
  return { spans: new Map(found), metadata };
}

/**
 * Writes a file; the same tensors in the same order give the same bytes. Larger elements go first, so that all data are
 * aligned, and otherwise the order is kept; the data begin at a multiple of 64 bytes.
 * @throws RangeError for a name used twice or reserved, and for data of another size than their shape
 */
export function serializeSafetensors(
  tensors: Iterable<readonly [name: string, tensor: SafetensorsTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const all = [...tensors];
  for (const [name, { dtype, shape, data }] of all) {
    const expected = bytesOf(dtype, shape);
    if (data.length === expected) continue;
    throw new RangeError(
      `${name}: ${dtype} ${show(shape)} takes ${expected} bytes, found ${data.length}`,
    );
  }
  const { header, order } = serializeHeader(all, metadata);
  const bytes = new Uint8Array(
    order.reduce((sum, [, { data }]) => sum + data.length, header.length),
  );
  bytes.set(header);
  let offset = header.length;
  for (const [, { data }] of order) {
    bytes.set(data, offset);
    offset += data.length;
  }
  return bytes;
}

/**
 * The beginning of a file, up to its data, and the order in which these follow.
 * @throws RangeError for a name used twice or reserved
 */
export function serializeHeader<T extends Omit<SafetensorsTensor, "data">>(
  tensors: readonly (readonly [name: string, tensor: T])[],
  metadata: Readonly<Record<string, string>>,
): { header: Uint8Array<ArrayBuffer>; order: (readonly [name: string, tensor: T])[] } {
  const order = tensors.toSorted(([, a], [, b]) => ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype]);
  const entries = new Map<string, object>();
  let dataLength = 0;
  for (const [name, { dtype, shape }] of order) {
    if (name === "__metadata__") {
      throw new RangeError(`__metadata__ is reserved by safetensors; give the tensor another name`);
    }
    if (entries.has(name)) throw new RangeError(`${name}: two tensors have this name`);
    const end = dataLength + bytesOf(dtype, shape);
    entries.set(name, { dtype, shape, data_offsets: [dataLength, end] });
    dataLength = end;
  }
  const json = new TextEncoder().encode(
    JSON.stringify({
      ...(Object.keys(metadata).length > 0 && { __metadata__: metadata }),
      ...Object.fromEntries(entries),
    }),
  );
  const dataStart = Math.ceil((8 + json.length) / ALIGNMENT) * ALIGNMENT;
  const header = new Uint8Array(dataStart).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(dataStart - 8), true);
  header.set(json, 8);
  return { header, order };
}

function bytesOf(dtype: SafetensorsDtype, shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, ELEMENT_BYTES[dtype]);
}

/**
 * The elements of a tensor of floats, always a copy. F16 and BF16 widen without loss, F64 is rounded.
 * @throws FormatError for a tensor of integers, under the `name` given
 */
export function toFloat32(tensor: SafetensorsTensor, name = "tensor"): Float32Array<ArrayBuffer> {
  // A copy, as the file's bytes may not be aligned.
  const { buffer } = new Uint8Array(tensor.data);
  switch (tensor.dtype) {
    case "F32":
      return new Float32Array(buffer);
    case "F64":
      return Float32Array.from(new Float64Array(buffer));
    case "BF16":
      return new Float32Array(
        Uint32Array.from(new Uint16Array(buffer), (bits) => bits << 16).buffer,
      );
    case "F16":
      return Float32Array.from(new Uint16Array(buffer), halfToNumber);
    default:
      throw new FormatError(`${name}: expected F64, F32, F16 or BF16, found ${tensor.dtype}`);
  }
}

/** Elements that are converted at a time. */
const CHUNK = 2 ** 20;

/**
 * Fills `target` with the elements of a tensor of floats from the `from`-th on, without a copy of all of them.
 * @throws as `toFloat32`
 */
export function copyFloat32(
  tensor: SafetensorsTensor,
  target: Float32Array,
  from: number,
  name = "tensor",
): void {
  const { dtype } = tensor;
  const size = ELEMENT_BYTES[dtype];
  const copy = (bytes: Uint8Array, begin: number): Uint8Array => {
    if (tensor.copyTo) tensor.copyTo(bytes, begin);
    else bytes.set(tensor.data.subarray(begin, begin + bytes.length));
    return bytes;
  };
  if (dtype === "F32") {
    copy(new Uint8Array(target.buffer, target.byteOffset, target.byteLength), size * from);
    return;
  }
  for (let at = 0; at < target.length; at += CHUNK) {
    const count = Math.min(CHUNK, target.length - at);
    const data = copy(new Uint8Array(size * count), size * (from + at));
    target.set(toFloat32({ dtype, shape: [count], data }, name), at);
  }
}

/** The value of IEEE 754 binary16 bits. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/** `keys` are those that the text has. */
function parseHeader(
  bytes: Uint8Array,
  keys: number,
  fail: (problem: string) => never,
): Record<string, unknown> {
  if (bytes[0] !== 0x7b) return fail(`the header must be a JSON object and begin with "{"`);
  let json: string;
  let header: unknown;
  try {
    json = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    header = JSON.parse(json);
  } catch (error) {
    return fail(`the header is no JSON: ${(error as Error).message}`);
  }
  if (keysOf(header) === keys) return header as Record<string, unknown>;
  return fail(`${duplicateKey(json)}: the header has this key twice`);
}

/** A value of the header for an error: short, whatever the file holds. */
function show(value: unknown): string {
  if (Array.isArray(value)) {
    const items = value.slice(0, 8).map((item) => (Array.isArray(item) ? "[…]" : show(item)));
    return `[${items.join(", ")}${value.length > 8 ? ", …" : ""}]`;
  }
  return isObject(value) ? "an object" : (JSON.stringify(value) ?? "nothing").slice(0, 60);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDtype(value: unknown): value is SafetensorsDtype {
  return typeof value === "string" && Object.hasOwn(ELEMENT_BYTES, value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
