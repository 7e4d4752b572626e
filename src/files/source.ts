import { sha256Hex } from "./checksum.ts";

/** Bytes that are read part by part: of memory, or of a file (`src/node/file-source.ts`), which is never whole in memory. */
export interface Source {
  readonly length: number;
  /** The bytes [begin, end). */
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
  return {
    length: bytes.length,
    part: (begin, end) => {
      const part = bytes.subarray(begin, end);
      let at = 0;
      return {
        read: (target) => {
          target.set(part.subarray(at, at + target.length));
          at += target.length;
          return Promise.resolve();
        },
        sha256: () => sha256Hex(part as Uint8Array<ArrayBuffer>),
      };
    },
  };
}

/** All of a part, where it is small. */
export async function readPart(
  source: Source,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - begin);
  await source.part(begin, end).read(bytes);
  return bytes;
}
