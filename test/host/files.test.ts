import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readFileOr, sweepTemporary, writeFileAtomic } from "../../src/node/files.ts";
import { needs } from "../needs.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "simcse-files-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("writeFileAtomic", () => {
  it("writes bytes or chunks, replaces what was there and leaves nothing beside it", async () => {
    const path = join(folder, "model");
    await writeFileAtomic(path, bytesOf("the first and longer text"));
    await writeFileAtomic(path, [bytesOf("se"), new Uint8Array(), bytesOf("cond")]);
    expect(await readFile(path, "utf8")).toBe("second");
    await writeFileAtomic(path, new Uint8Array());
    expect(await readFile(path, "utf8")).toBe("");
    expect(await readdir(folder)).toEqual(["model"]);
  });

  it("leaves the old file whole when the contents fail half way, and passes their error on", async () => {
    const path = join(folder, "model");
    await writeFileAtomic(path, bytesOf("old"));
    const failure = new Error("no more gradients");
    const chunks = function* (): Generator<Uint8Array> {
      yield bytesOf("new");
      throw failure;
    };
    await expect(writeFileAtomic(path, chunks())).rejects.toBe(failure);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["model"]);
  });

  it("leaves the old file whole when the process is killed half way, and the sweep tidies up", async () => {
    const path = join(folder, "model");
    await writeFileAtomic(path, bytesOf("old"));
    const script = `
      import { writeFileAtomic } from "./src/node/files.ts";
      await writeFileAtomic(${JSON.stringify(path)}, (function* () {
        yield new Uint8Array(100000);
        process.stdout.write("half way");
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      })());`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");

    const besides = (await readdir(folder)).filter((name) => name !== "model");
    expect(besides).toEqual([expect.stringMatching(`^model\\.tmp-${child.pid}-[0-9a-f]{8}$`)]);
    expect(await sweepTemporary(folder)).toEqual([]); // the process still runs
    child.kill("SIGKILL");
    await once(child, "close");

    expect(await readFile(path, "utf8")).toBe("old");
    expect(await sweepTemporary(folder)).toEqual(besides);
    expect(await readdir(folder)).toEqual(["model"]);
  });

  it("says that the disk is full, with path and size, and leaves the old file whole", async (test) => {
    const mount = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]);
    needs(test, mount.status === 0, "mount of a tmpfs");
    try {
      const path = join(folder, "model");
      await writeFileAtomic(path, bytesOf("old"));
      for (const contents of [
        new Uint8Array(2_300_000),
        Array.from({ length: 23 }, () => new Uint8Array(100_000)),
      ]) {
        await expect(writeFileAtomic(path, contents)).rejects.toMatchObject({
          message: expect.stringMatching(
            /^disk full: writing (2\.3|0\.1) MB to .*model; free space and resume$/,
          ),
          cause: { code: "ENOSPC" },
        });
        expect(await readFile(path, "utf8")).toBe("old");
        expect(await readdir(folder)).toEqual(["model"]);
      }
      await writeFileAtomic(path, new Uint8Array(32_768)); // there is room again
    } finally {
      spawnSync("umount", [folder]);
    }
  });

  it("says which folder is absent, or is none", async () => {
    const path = join(folder, "absent", "model");
    await expect(writeFileAtomic(path, new Uint8Array(150_000))).rejects.toThrow(
      `no folder ${join(folder, "absent")}: writing 0.0 MB to ${path}; create it first`,
    );
    await writeFile(join(folder, "absent"), "a file");
    await expect(writeFileAtomic(path, new Uint8Array())).rejects.toThrow(
      `no folder ${join(folder, "absent")}: `,
    );
  });

  it.skipIf(!existsSync("/sys/kernel"))("says where it may not write, and what to do", async () => {
    // Nobody may create files in sysfs, not even root.
    await expect(writeFileAtomic("/sys/kernel/model", bytesOf("new"))).rejects.toThrow(
      "no permission: writing 0.0 MB to /sys/kernel/model; make /sys/kernel writable or choose another folder",
    );
  });

  it("says why any other error stopped it, and removes the temporary file", async () => {
    const path = join(folder, "model");
    await mkdir(path);
    await expect(writeFileAtomic(path, new Uint8Array(1_500_000))).rejects.toThrow(
      new RegExp(`^failed: writing 1\\.5 MB to .*model; E`),
    );
    expect(await readdir(folder)).toEqual(["model"]);
  });
});

describe("sweepTemporary", () => {
  it("removes leftovers of this process number and of processes that ended, and nothing else", async () => {
    const ended = spawnSync(process.execPath, ["--version"]).pid;
    const leftovers = [`a.tmp-${process.pid}-0123abcd`, `b.bin.tmp-${ended}-89abcdef`];
    const others = ["model", "notes.tmp-old", `c.tmp-${process.ppid}-0123abcd`, "d.tmp-0-0123abcd"];
    for (const name of [...leftovers, ...others]) await writeFile(join(folder, name), "");
    expect((await sweepTemporary(folder)).toSorted()).toEqual(leftovers);
    expect((await readdir(folder)).toSorted()).toEqual(others.toSorted());
  });

  it("looks into folders inside only if asked to", async () => {
    const inner = `best/a.tmp-${process.pid}-0123abcd`;
    await mkdir(join(folder, "best"));
    await writeFile(join(folder, inner), "");
    expect(await sweepTemporary(folder)).toEqual([]);
    expect(await sweepTemporary(folder, { recursive: true })).toEqual([inner]);
    expect(await readdir(join(folder, "best"))).toEqual([]);
  });

  it("finds nothing in a folder that does not exist, and fails on a file", async () => {
    expect(await sweepTemporary(join(folder, "absent"))).toEqual([]);
    await writeFile(join(folder, "file"), "");
    await expect(sweepTemporary(join(folder, "file"))).rejects.toThrow(/ENOTDIR/);
  });
});

describe("readFileOr", () => {
  it("gives the bytes of a file", async () => {
    await writeFile(join(folder, "model"), "text");
    expect((await readFileOr(join(folder, "model"), "a model")).toString()).toBe("text");
  });

  it("does not read what has more bytes than it may have, nor a device", async () => {
    await writeFile(join(folder, "big"), "12345");
    expect((await readFileOr(join(folder, "big"), "a model", 5)).toString()).toBe("12345");
    await expect(readFileOr(join(folder, "big"), "a model", 4)).rejects.toThrow(
      `${join(folder, "big")}: expected a model of at most 4 bytes, found 5; is it another file?`,
    );
    if (existsSync("/dev/zero")) {
      await expect(readFileOr("/dev/zero", "a model", 4)).rejects.toThrow(
        "/dev/zero cannot be read (it is no file); expected a model",
      );
    }
  });

  it("says which file is absent, or is a folder, and what was expected of it", async () => {
    const path = join(folder, "model");
    await expect(readFileOr(path, "the weights of a model")).rejects.toThrow(
      `${path} does not exist; expected the weights of a model`,
    );
    await expect(readFileOr(folder, "the weights of a model")).rejects.toThrow(
      `${folder} is a folder; expected the weights of a model`,
    );
    await writeFile(path, "");
    await expect(readFileOr(join(path, "config.json"), "a configuration")).rejects.toThrow(
      /config\.json cannot be read \(ENOTDIR.*\); expected a configuration$/,
    );
  });
});
