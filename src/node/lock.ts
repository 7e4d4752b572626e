import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as wait } from "node:timers/promises";
import { code, isRunning, randomHex } from "./files.ts";

/** How often a holder shows that it is alive, and how long one that does not is believed. */
const BEAT_MS = 5_000;
const DEAD_MS = 30_000;
const POLL_MS = 200;

/**
 * Does what only one process may do at a time, on one machine or several that share a disk; others wait. `path` is a file that
 * exists meanwhile. One that a killed process left is removed: at once if it ran on this machine, after half a minute if not.
 */
export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const owner = `${process.pid} ${hostname()} ${randomHex()}`;
  while (!(await take(path, owner))) {
    await removeDead(path);
    await wait(POLL_MS);
  }
  const beat = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => undefined);
  }, BEAT_MS).unref();
  try {
    return await work();
  } finally {
    clearInterval(beat);
    if ((await ownerOf(path)) === owner) await rm(path, { force: true });
  }
}

async function take(path: string, owner: string): Promise<boolean> {
  try {
    const file = await open(path, "wx");
    await file.writeFile(owner);
    await file.close();
    return true;
  } catch (error) {
    if (code(error) === "EEXIST") return false;
    throw error;
  }
}

function ownerOf(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}

async function removeDead(path: string): Promise<void> {
  const owner = await ownerOf(path);
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Infinity }));
  const [pid, host] = owner.split(" ");
  const gone = host === hostname() && !isRunning(Number(pid));
  if (!gone && Date.now() - mtimeMs < DEAD_MS) return;
  // Others see the same: whoever renames it has removed it, and the rest find nothing, or a new one that is alive.
  const aside = `${path}.${randomHex()}`;
  if ((await ownerOf(path)) !== owner) return;
  await rename(path, aside).catch(() => undefined);
  await rm(aside, { force: true });
}
