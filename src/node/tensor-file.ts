import { closeSync, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { FormatError } from "../errors.ts";
import {
  headerEnd,
  parseSpans,
  type Safetensors,
  type SafetensorsSpan,
  type SafetensorsTensor,
} from "../files/safetensors.ts";
import { readBytes } from "../files/source.ts";
import { FileSource } from "./file-source.ts";

/**
 * The tensors of a safetensors file, whose bytes are read when they are asked for, straight to where they are wanted: a model
 * is never in memory twice. `what` says what the file should hold.
 * @throws FormatError as `parseSafetensors` does; FileError if there is no such file
 */
export async function openSafetensors(path: string, what: string): Promise<Safetensors> {
  await using source = await FileSource.open(path, what);
  const { length } = source;
  const start = headerEnd(await readBytes(source, 0, Math.min(8, length)), length, path);
  const { spans, metadata } = parseSpans(await readBytes(source, 0, start), length, path);
  const file = { path, stats: await stat(path) };
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, span] of spans) tensors.set(name, new FileTensor(file, span));
  return { tensors, metadata };
}

class FileTensor implements SafetensorsTensor {
  readonly dtype: SafetensorsTensor["dtype"];
  readonly shape: readonly number[];
  readonly #file: { readonly path: string; readonly stats: Stats };
  readonly #span: SafetensorsSpan;

  constructor(file: { readonly path: string; readonly stats: Stats }, span: SafetensorsSpan) {
    this.dtype = span.dtype;
    this.shape = span.shape;
    this.#file = file;
    this.#span = span;
  }

  /** All of it, read anew each time. */
  get data(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#span.end - this.#span.begin);
    this.copyTo(bytes, 0);
    return bytes;
  }

  copyTo(target: Uint8Array, from: number): void {
    const { path, stats } = this.#file;
    const fd = openSync(path, "r");
    try {
      const now = fstatSync(fd);
      if (now.ino !== stats.ino || now.size !== stats.size || now.mtimeMs !== stats.mtimeMs) {
        throw new FormatError(`${path}: was changed while it was read; open it again`);
      }
      let done = 0;
      while (done < target.length) {
        const position = this.#span.begin + from + done;
        const bytes = readSync(fd, target, done, target.length - done, position);
        if (bytes === 0)
          throw new FormatError(`${path}: ends at byte ${position}; was it cut off?`);
        done += bytes;
      }
    } finally {
      closeSync(fd);
    }
  }
}
