/**
 * Models by their names on a hub that speaks Hugging Face's protocol. What is downloaded lies in the cache that Python's
 * huggingface_hub has, in its layout, so that each finds what the other has fetched: blobs/<hash>, refs/<revision> with a
 * commit, and snapshots/<commit>/<file>, which link to the blobs.
 *
 * Of the environment: HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT (seconds).
 */
import { createReadStream } from "node:fs";
import { copyFile, mkdir, open, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { HubError } from "../errors.ts";
import { exists, writeFileAtomic } from "./files.ts";
import { withLock } from "./lock.ts";
import { PACKAGE } from "./package.ts";

export interface DownloadProgress {
  readonly file: string;
  /** Bytes that are there. */
  readonly done: number;
  readonly total: number;
}

/** Our own models: nano comes with the package, which stays small, and both with the repository. */
const BOXED: readonly string[] = ["simcse-edge-nano", "simcse-edge-mini"];

/** `org/name`, or `org/name@revision`: a branch, a tag or a commit. */
const NAME = /^([A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:@([\w.][\w./-]*))?$/;
const COMMIT = /^[0-9a-f]{40}$/;
/** A download goes on where it was cut off, unless it is cut off so many times at one place. */
const ATTEMPTS = 5;

let listener: ((progress: DownloadProgress) => void) | undefined;

/** Whom downloads tell how far they are: the command that runs. */
export function onDownload(tell: (progress: DownloadProgress) => void): void {
  listener = tell;
}

/**
 * The folder of a model: the one of this path, or that of a model in the package, or else that of the cache for the name of a
 * hub, downloaded if need be. With
 * a cached model and no network, the cache is taken.
 * @throws HubError naming the model and the hub: for a model that is unknown or private, bytes that do not have the hash
 * which the hub says, and without a network
 */
export async function findModel(name: string): Promise<string> {
  if (await exists(name)) return name;
  if (BOXED.includes(name)) {
    const folder = join(PACKAGE, "models", name);
    if (await exists(folder)) return folder;
    throw new HubError(
      `${name}: not in the npm package, which is kept small; copy models/${name} from the repository and give its path`,
    );
  }
  const [, repo, revision = "main"] = NAME.exec(name) ?? [];
  if (repo === undefined) return name;
  return new Download(repo, revision).folder();
}

class Download {
  readonly #name: string;
  readonly #repo: string;
  readonly #revision: string;
  readonly #endpoint: string;
  readonly #cache: string;

  constructor(repo: string, revision: string) {
    const { HF_ENDPOINT, HF_HOME, HF_HUB_CACHE } = process.env;
    this.#name = revision === "main" ? repo : `${repo}@${revision}`;
    this.#repo = repo;
    this.#revision = revision;
    this.#endpoint = (HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
    const home = HF_HOME || join(homedir(), ".cache", "huggingface");
    this.#cache = join(HF_HUB_CACHE || join(home, "hub"), `models--${repo.replace("/", "--")}`);
    if (revision.split("/").includes("..")) this.#fail(`revision ${revision} is none`);
  }

  async folder(): Promise<string> {
    if (/^(1|true|yes|on)$/i.test(process.env["HF_HUB_OFFLINE"] ?? "")) {
      return (
        (await this.#cached()) ??
        this.#fail(`no such folder, not in ${this.#cache}, and HF_HUB_OFFLINE is set; unset it`)
      );
    }
    let response: Response;
    const path = `api/models/${this.#repo}/revision/${encodeURIComponent(this.#revision)}`;
    try {
      response = await this.#fetch(path);
    } catch (cause) {
      const cached = await this.#cached();
      if (cached !== undefined) return cached;
      return this.#fail(`no such folder, and no connection (${reasonOf(cause)})`, cause);
    }
    const { sha, siblings } = await this.#json(response);
    const names = Array.isArray(siblings)
      ? siblings.map((entry) => (entry as { rfilename?: unknown } | null)?.rfilename)
      : [];
    if (typeof sha !== "string" || !COMMIT.test(sha)) return this.#fail("found no commit");
    const snapshot = join(this.#cache, "snapshots", sha);
    for (const file of this.#wanted(names)) await this.#file(sha, file, join(snapshot, file));
    if (!COMMIT.test(this.#revision)) {
      const ref = join(this.#cache, "refs", this.#revision);
      await mkdir(dirname(ref), { recursive: true });
      await writeFileAtomic(ref, new TextEncoder().encode(sha));
    }
    return snapshot;
  }

  /** The snapshot that the cache has of the revision. */
  async #cached(): Promise<string | undefined> {
    const ref = join(this.#cache, "refs", this.#revision);
    const commit = COMMIT.test(this.#revision)
      ? this.#revision
      : (await readFile(ref, "utf8").catch(() => "")).trim();
    const snapshot = join(this.#cache, "snapshots", commit);
    return COMMIT.test(commit) && (await exists(snapshot)) ? snapshot : undefined;
  }

  /** Settings, vocabularies, and of each folder's weights one format. */
  #wanted(names: readonly unknown[]): string[] {
    const files = names.map((name) => {
      const safe = typeof name === "string" && !/\\|:|^\/|(^|\/)\.\.?(\/|$)|\0/.test(name);
      return safe ? name : this.#fail(`lists the file ${JSON.stringify(name)}`);
    });
    return files.filter((file) => {
      const parts = /^(?:(\d+_\w+)\/)?([^/]+)$/.exec(file);
      if (!parts) return false; // other frameworks have folders of their own
      const [, folder, base = ""] = parts;
      const beside = (pattern: RegExp): boolean =>
        files.some((other) => dirname(other) === (folder ?? ".") && pattern.test(other));
      if (/^(model.*\.safetensors|pytorch_model.*\.bin)(\.index\.json)?$/.test(base)) {
        const st = /(^|\/)model\.safetensors(\.index\.json)?$/;
        return base.startsWith("model") || !beside(st);
      }
      return /\.json$|^(vocab|merges)\.txt$/.test(base);
    });
  }

  /** Puts a file of a commit into the snapshot. */
  async #file(commit: string, file: string, target: string): Promise<void> {
    if (await exists(target)) return;
    const path = `${this.#repo}/resolve/${commit}/${file.split("/").map(encodeURIComponent).join("/")}`;
    const head = await this.#fetch(path, { method: "HEAD", redirect: "manual" }).catch((cause) =>
      this.#fail(`${file}: no connection (${reasonOf(cause)}); try again`, cause),
    );
    if (head.status >= 400) this.#refuse(head.status);
    const etag = (head.headers.get("x-linked-etag") ?? head.headers.get("etag") ?? "").replace(
      /^(?:W\/)?"?([^"]*)"?$/,
      "$1",
    );
    if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag)) this.#fail(`${file}: found no hash of it`);
    const size = Number(head.headers.get("x-linked-size") ?? head.headers.get("content-length"));
    const blob = join(this.#cache, "blobs", etag);
    await mkdir(dirname(blob), { recursive: true });
    // Another process may download it too: one does, and what it leaves when it is killed the next goes on with.
    await withLock(`${blob}.lock`, async () => {
      if (!(await exists(blob))) await this.#blob(path, file, blob, etag, size);
    });
    await mkdir(dirname(target), { recursive: true });
    const link = `${target}.${process.pid}`;
    await symlink(relative(dirname(target), blob), link).catch(() => copyFile(blob, link));
    await rename(link, target);
  }

  /** Downloads a blob. What an earlier download left is not fetched again; the hash covers all of it. */
  async #blob(path: string, file: string, blob: string, etag: string, size: number): Promise<void> {
    const partial = `${blob}.incomplete`;
    let damaged = false;
    let failures = 0;
    for (;;) {
      const before = (await stat(partial).catch(() => undefined))?.size ?? 0;
      let problem: unknown;
      try {
        await this.#append(path, file, partial, before, size);
      } catch (cause) {
        if (cause instanceof HubError) throw cause;
        problem = cause;
      }
      const { size: now } = await stat(partial).catch(() => ({ size: 0 }));
      if (now < size || problem !== undefined) {
        failures = now > before ? 0 : failures + 1;
        if (failures < ATTEMPTS) continue;
        const why = problem === undefined ? "the connection ends early" : reasonOf(problem);
        this.#fail(`${file}: ${now} of ${size} bytes came (${why}); try again`, problem);
      }
      const found = await hashOf(partial, etag, now);
      if (found === etag) break;
      await rm(partial, { force: true });
      if (damaged) this.#fail(`${file}: damaged: expected the hash ${etag}, found ${found}`);
      damaged = true;
    }
    await rename(partial, blob);
  }

  async #append(
    path: string,
    file: string,
    partial: string,
    begin: number,
    total: number,
  ): Promise<void> {
    if (begin >= total) return;
    const idle = new AbortController();
    const ms = 1000 * Number(process.env["HF_HUB_DOWNLOAD_TIMEOUT"] || 10);
    const silent = (): void => idle.abort(new Error(`the hub is silent for ${ms / 1000} seconds`));
    let timer = setTimeout(silent, ms);
    try {
      const headers = begin > 0 ? { range: `bytes=${begin}-` } : undefined;
      const response = await this.#fetch(path, {
        signal: idle.signal,
        ...(headers && { headers }),
      });
      if (response.status >= 400) this.#refuse(response.status);
      let at = response.status === 206 ? begin : 0; // a hub that cannot go on begins again
      const handle = await open(partial, begin > 0 ? "r+" : "w");
      try {
        for await (const chunk of response.body ?? []) {
          clearTimeout(timer);
          timer = setTimeout(silent, ms);
          await handle.write(chunk as Uint8Array, 0, (chunk as Uint8Array).length, at);
          at += (chunk as Uint8Array).length;
          if (at > total) this.#fail(`${file}: more than its ${total} bytes came`);
          listener?.({ file, done: at, total });
        }
        await handle.sync();
      } finally {
        await handle.close();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async #json(response: Response): Promise<Record<string, unknown>> {
    if (response.status >= 400) this.#refuse(response.status);
    const json: unknown = await response.json().catch(() => null);
    if (typeof json === "object" && json !== null) return json as Record<string, unknown>;
    return this.#fail("found no description of a model");
  }

  #fetch(path: string, options: RequestInit = {}): Promise<Response> {
    const { HF_TOKEN } = process.env;
    const ms = 1000 * Number(process.env["HF_HUB_DOWNLOAD_TIMEOUT"] || 10);
    return fetch(`${this.#endpoint}/${path}`, {
      signal: AbortSignal.timeout(ms),
      ...options,
      headers: {
        ...(options.headers as Record<string, string> | undefined),
        "accept-encoding": "identity", // sizes and ranges are those of the file
        ...(HF_TOKEN && { authorization: `Bearer ${HF_TOKEN}` }),
      },
    });
  }

  #refuse(status: number): never {
    const why: Readonly<Record<number, string>> = {
      401: "no such folder, and unknown there or private; set HF_TOKEN to see private models",
      403: "HF_TOKEN does not open it; ask for access there",
      404: `no such folder, and no such model or revision ${this.#revision} there`,
      429: "too many requests; wait, or set HF_TOKEN",
    };
    return this.#fail(why[status] ?? `answered ${status}; try again`);
  }

  #fail(problem: string, cause?: unknown): never {
    throw new HubError(`${this.#name} at ${this.#endpoint}: ${problem}`, { cause });
  }
}

/** SHA-256 as large files have it, or git's SHA-1 of a blob. */
async function hashOf(path: string, etag: string, size: number): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash(etag.length === 64 ? "sha256" : "sha1");
  if (etag.length === 40) hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message || message : message;
}
