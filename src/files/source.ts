import { sha256Hex } from "./checksum.ts";

/** Bytes that are read part by part: of memory, or of a file (`src/node/file-source.ts`), which is never whole in memory. */
export interface Source {
  readonly length: number;
  /** Fills `target` with the bytes from `offset` on. */
  read(target: Uint8Array, offset: number): Promise<void>;
  /** The bytes [begin, end), hashed while they are read. */
  part(begin: number, end: number): Part;
}

/** A part of a source, read from front to back. */
export interface Part {
  /** Fills `target` with the next bytes. */
  read(target: Uint8Array): Promise<void>;
  /** Hex SHA-256 of all of it, once all of it has been read. */
  sha256(): Promise<string>;
}

/** Bytes in memory. */
export function memorySource(bytes: Uint8Array): Source {
  const read = (target: Uint8Array, offset: number): Promise<void> => {
    target.set(bytes.subarray(offset, offset + target.length));
    return Promise.resolve();
  };
  return {
    length: bytes.length,
    read,
    part: (begin, end) => {
      let at = begin;
      return {
        read: (target) => {
          at += target.length;
          return read(target, at - target.length);
        },
        sha256: () => sha256Hex(bytes.subarray(begin, end) as Uint8Array<ArrayBuffer>),
      };
    },
  };
}

/** The bytes [begin, end) in an array of their own. */
export async function readBytes(
  source: Source,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - begin);
  await source.read(bytes, begin);
  return bytes;
}
