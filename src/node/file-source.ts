import type { Hash } from "node:crypto";
import type { Stats } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { FormatError } from "../errors.ts";
import type { Part, Source } from "../files/source.ts";
import { noFile, unreadable } from "./files.ts";

/** A file that is read part by part, straight to where its bytes are wanted. */
export class FileSource implements Source {
  readonly path: string;
  readonly length: number;
  readonly #handle: FileHandle;

  private constructor(path: string, length: number, handle: FileHandle) {
    this.path = path;
    this.length = length;
    this.#handle = handle;
  }

  /**
   * Opens a file; `what` says what it should hold, as in "the weights of a model".
   * @throws FileError naming the path and `what` if there is no such file
   */
  static async open(path: string, what: string): Promise<FileSource> {
    let handle: FileHandle | undefined;
    let stats: Stats;
    try {
      handle = await open(path);
      stats = await handle.stat();
      if (stats.isFile()) return new FileSource(path, stats.size, handle);
    } catch (error) {
      await handle?.close();
      throw unreadable(error, path, what);
    }
    await handle.close();
    throw noFile(stats, path, what);
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await this.#handle.read(
        target,
        done,
        target.length - done,
        offset + done,
      );
      if (bytesRead === 0) {
        throw new FormatError(
          `${this.path}: expected ${this.length} bytes, found ${offset + done}; was it cut while it was read?`,
        );
      }
      done += bytesRead;
    }
  }

  part(begin: number, end: number): Part {
    let at = begin;
    let hash: Hash | undefined;
    const started = async (): Promise<Hash> =>
      (hash ??= (await import("node:crypto")).createHash("sha256"));
    return {
      read: async (target) => {
        if (at + target.length > end) throw new Error(`internal: read past byte ${end}`);
        await this.read(target, at);
        (await started()).update(target);
        at += target.length;
      },
      sha256: async () => (await started()).digest("hex"),
    };
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Bytes that are hashed at a time. */
const CHUNK = 2 ** 20;

/** Hex SHA-256 of a whole file. */
export async function sha256OfSource(source: FileSource): Promise<string> {
  const part = source.part(0, source.length);
  const chunk = new Uint8Array(Math.min(CHUNK, source.length));
  for (let at = 0; at < source.length; at += chunk.length) {
    await part.read(chunk.subarray(0, Math.min(chunk.length, source.length - at)));
  }
  return part.sha256();
}
