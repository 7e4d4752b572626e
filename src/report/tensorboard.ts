/**
 * TensorBoard's event files: records of an Event message each, with checksums of length and contents
 * (https://www.tensorflow.org/api_docs/python/tf/io/TFRecordWriter). Only what curves need is written.
 */

/** Table of CRC-32C (Castagnoli), a byte at a time, lowest bit first. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C, rotated and shifted as TFRecord wants, so that records may hold checksums themselves. */
export function maskedCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255]! ^ (crc >>> 8);
  crc = ~crc;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** The record that an event file begins with; `time` is in seconds since 1970. */
export function fileVersion(time: number): Uint8Array {
  return record([...double(1, time), ...text(3, "brain.Event:2")]);
}

/** A record of values after a step, by tag; those under one prefix, as in `train/loss`, stand together. */
export function scalars(
  time: number,
  step: number,
  values: Readonly<Record<string, number>>,
): Uint8Array {
  const summary = Object.entries(values).flatMap(([tag, value]) =>
    field(1, [...text(1, tag), ...float(2, value)]),
  );
  return record([...double(1, time), 0x10, ...varint(step), ...field(5, summary)]);
}

/** Bytes of a file up to the first record of `scalars` of a later step, or to where a killed process left off. */
export function lengthUpTo(file: Uint8Array, step: number): number {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let end = 0;
  while (end + 12 <= file.length) {
    const next = end + 16 + Number(view.getBigUint64(end, true));
    if (next > file.length) break;
    // Its step follows nine bytes of time; the version has none.
    if (file[end + 21] === 0x10 && readVarint(file, end + 22) > step) break;
    end = next;
  }
  return end;
}

function record(data: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc32c(bytes.subarray(0, 8)), true);
  bytes.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc32c(bytes.subarray(12, 12 + data.length)), true);
  return bytes;
}

// Protocol buffers: a field is its number and wire type, then its value.
function field(number: number, bytes: readonly number[]): number[] {
  return [(number << 3) | 2, ...varint(bytes.length), ...bytes];
}

function text(number: number, value: string): number[] {
  return field(number, [...new TextEncoder().encode(value)]);
}

function double(number: number, value: number): number[] {
  return [(number << 3) | 1, ...new Uint8Array(Float64Array.of(value).buffer)];
}

function float(number: number, value: number): number[] {
  return [(number << 3) | 5, ...new Uint8Array(Float32Array.of(value).buffer)];
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

function readVarint(bytes: Uint8Array, at: number): number {
  const byte = bytes[at]!;
  return byte < 128 ? byte : (byte & 127) + 128 * readVarint(bytes, at + 1);
}
