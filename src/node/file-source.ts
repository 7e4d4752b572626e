import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { FormatError } from "../errors.ts";
import type { Part, Source } from "../files/source.ts";
import { unreadable } from "./files.ts";

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
    try {
      handle = await open(path);
      const stats = await handle.stat();
      if (stats.isFile()) return new FileSource(path, stats.size, handle);
    } catch (error) {
      await handle?.close();
      throw unreadable(error, path, what);
    }
    await handle.close();
    throw unreadable(undefined, path, what);
  }

  part(begin: number, end: number): Part {
    const hash = createHash("sha256");
    let at = begin;
    return {
      read: async (target) => {
        if (at + target.length > end) throw new Error(`internal: read past byte ${end}`);
        await this.#fill(target, at);
        hash.update(target);
        at += target.length;
      },
      sha256: () => Promise.resolve(hash.digest("hex")),
    };
  }

  async #fill(target: Uint8Array, from: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await this.#handle.read(
        target,
        done,
        target.length - done,
        from + done,
      );
      if (bytesRead === 0) {
        throw new FormatError(
          `${this.path}: expected ${this.length} bytes, found ${from + done}; was it cut while it was read?`,
        );
      }
      done += bytesRead;
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
