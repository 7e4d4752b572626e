/** Files that are whole or not there: a process may be killed, and a disk may fill up, at any byte. */
import type { Stats } from "node:fs";
import { open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { FileError, FormatError } from "../errors.ts";
import { checkBytes } from "../files/json.ts";

const TEMPORARY = /\.tmp-(\d+)-[0-9a-f]{8}$/;

/**
 * Writes a file under a temporary name in its folder and renames it once the disk has it, so `path` holds the old bytes or
 * the new ones, never a part. On an error the temporary file is gone and `path` untouched.
 * @throws FileError naming the path, the bytes and the remedy; what `contents` throws goes through as it is
 */
export async function writeFileAtomic(
  path: string,
  contents: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}-${randomHex()}`;
  const chunks = contents instanceof Uint8Array ? [contents] : contents;
  let bytes = 0;
  try {
    const file = await open(temporary, "wx");
    try {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        await file.writeFile(chunk);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw explain(error, path, bytes);
  }
}

/**
 * Removes what `writeFileAtomic` left in a folder when its process was killed: call it before writing there. Files of other
 * processes that still run stay. A folder that does not exist has nothing to remove.
 * @returns the files removed, by their paths in the folder
 */
export async function sweepTemporary(
  folder: string,
  { recursive = false }: { readonly recursive?: boolean } = {},
): Promise<string[]> {
  const names = await readdir(folder, { recursive }).catch((error: unknown) => {
    if (code(error) === "ENOENT") return [];
    throw error;
  });
  const leftovers = names.filter((name) => {
    const pid = Number(TEMPORARY.exec(name)?.[1] ?? NaN);
    // A container gives the resumed process the number of the killed one.
    return pid === process.pid || (pid > 0 && !isRunning(pid));
  });
  for (const name of leftovers) await rm(join(folder, name), { force: true });
  return leftovers;
}

/**
 * Reads a file; `what` says what it should hold, as in "the weights of a model". One of more than `most` bytes is not read.
 * @throws FileError naming the path and `what` if there is no such file; FormatError if it has too many bytes
 */
export async function readFileOr(
  path: string,
  what: string,
  most: number = Infinity,
): Promise<Buffer<ArrayBuffer>> {
  try {
    if (most === Infinity) return await readFile(path);
    const stats = await stat(path);
    // A device says that it has no bytes, and gives them without end.
    if (!stats.isFile()) throw noFile(stats, path, what);
    checkBytes(stats.size, most, path, what);
    return await readFile(path);
  } catch (error) {
    if (error instanceof FormatError || error instanceof FileError) throw error;
    throw unreadable(error, path, what);
  }
}

/** The error of a file that could not be read; without an `error`, because it is a folder. */
export function unreadable(error: unknown, path: string, what: string): FileError {
  const problem =
    code(error) === "ENOENT"
      ? "does not exist"
      : error === undefined || code(error) === "EISDIR"
        ? "is a folder"
        : `cannot be read (${(error as Error).message})`;
  return new FileError(`${path} ${problem}; expected ${what}`, { cause: error });
}

/** The error of a path that is a folder or a device, as its `stats` say. */
export function noFile(stats: Stats, path: string, what: string): FileError {
  return unreadable(stats.isDirectory() ? undefined : new Error("it is no file"), path, what);
}

/** Eight random digits for a name. Not of node:crypto, which costs a program 4 MB that else may never need it. */
export function randomHex(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(4))).toString("hex");
}

/** Whether there is a file or folder. */
export function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Makes a rename last through a loss of power; Windows has no such call for folders. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function explain(error: unknown, path: string, bytes: number): unknown {
  const writing = `writing ${(bytes / 1e6).toFixed(1)} MB to ${path}`;
  const options = { cause: error };
  switch (code(error)) {
    case undefined:
      return error;
    case "ENOSPC":
    case "EDQUOT":
      return new FileError(`disk full: ${writing}; free space and resume`, options);
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new FileError(
        `no permission: ${writing}; make ${dirname(path)} writable or choose another folder`,
        options,
      );
    case "ENOENT":
    case "ENOTDIR":
      return new FileError(`no folder ${dirname(path)}: ${writing}; create it first`, options);
    default:
      return new FileError(`failed: ${writing}; ${(error as Error).message}`, options);
  }
}

/** Whether a process of this machine runs. */
export function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return code(error) === "EPERM"; // it runs, under another user
  }
}

/** The code of an error of the system, as "ENOENT". */
export function code(error: unknown): string | undefined {
  return error instanceof Error && "syscall" in error
    ? (error as NodeJS.ErrnoException).code
    : undefined;
}
