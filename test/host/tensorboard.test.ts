import { describe, expect, it } from "vitest";
import { fileVersion, lengthUpTo, maskedCrc32c, scalars } from "../../src/report/tensorboard.ts";

/** CRC-32C straight from its polynomial, a bit at a time. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1));
  }
  return ~crc >>> 0;
}

function mask(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

type Field = number | bigint | Uint8Array;

/** Fields of a protocol buffer by number, as its specification says. */
function fields(bytes: Uint8Array): Map<number, Field[]> {
  const found = new Map<number, Field[]>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    let value: Field;
    if ((key & 7) === 0) value = varint();
    else if ((key & 7) === 1) value = view.getFloat64((at += 8) - 8, true);
    else if ((key & 7) === 5) value = view.getFloat32((at += 4) - 4, true);
    else {
      const length = varint();
      value = bytes.subarray(at, (at += length));
    }
    found.set(key >> 3, [...(found.get(key >> 3) ?? []), value]);
  }
  return found;
}

/** Messages of an event file, each with both of its checksums as they should be. */
function events(file: Uint8Array): Map<number, Field[]>[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const found: Map<number, Field[]>[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(view.getBigUint64(at, true));
    expect(view.getUint32(at + 8, true)).toBe(mask(crc32c(file.subarray(at, at + 8))));
    const data = file.subarray(at + 12, at + 12 + length);
    expect(view.getUint32(at + 12 + length, true)).toBe(mask(crc32c(data)));
    found.push(fields(data));
    at += 16 + length;
  }
  return found;
}

const text = (value: Field | undefined): string => new TextDecoder().decode(value as Uint8Array);
const concat = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

describe("an event file", () => {
  it("has checksums as RFC 3720 publishes them, masked", () => {
    expect(maskedCrc32c(new Uint8Array(32))).toBe(mask(0x8a9136aa));
    expect(maskedCrc32c(new Uint8Array(32).fill(255))).toBe(mask(0x62a8ab43));
    expect(maskedCrc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(mask(0x46dd794e));
  });

  it("gives back its version, times, steps and values", () => {
    const file = concat(
      fileVersion(1700000000.25),
      scalars(1700000001, 1, { "train/loss": 4.125, "train/rate": 3e-5 }),
      scalars(1700000002, 300_000, { "dev/spearman": -12.5 }),
    );
    const [version, first, second] = events(file);
    expect(version!.get(1)).toEqual([1700000000.25]);
    expect(text(version!.get(3)?.[0])).toBe("brain.Event:2");
    expect(first!.get(2)).toEqual([1]);
    const values = fields(first!.get(5)![0] as Uint8Array)
      .get(1)!
      .map((bytes) => {
        const value = fields(bytes as Uint8Array);
        return [text(value.get(1)?.[0]), value.get(2)?.[0]];
      });
    expect(values).toEqual([
      ["train/loss", 4.125],
      ["train/rate", Math.fround(3e-5)],
    ]);
    expect(second!.get(1)).toEqual([1700000002]);
    expect(second!.get(2)).toEqual([300_000]);
  });

  it("is cut after a step, and before a record that a killed process left half written", () => {
    const parts = [fileVersion(1), scalars(2, 5, { a: 1 }), scalars(3, 200, { a: 2 })];
    const lengths = [0, 1, 2, 3].map((n) => concat(...parts.slice(0, n)).length);
    const file = concat(...parts);
    expect([0, 5, 199, 200].map((step) => lengthUpTo(file, step))).toEqual([
      lengths[1],
      lengths[2],
      lengths[2],
      lengths[3],
    ]);
    for (let end = lengths[2]!; end < file.length; end++) {
      expect(lengthUpTo(file.subarray(0, end), 200)).toBe(lengths[2]);
    }
    expect(lengthUpTo(new Uint8Array(), 200)).toBe(0);
  });
});
