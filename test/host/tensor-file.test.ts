import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { parseSafetensors, serializeSafetensors } from "../../src/files/safetensors.ts";
import { openSafetensors } from "../../src/node/tensor-file.ts";
import { needs } from "../needs.ts";

describe("openSafetensors", () => {
  const directory = mkdtempSync(join(tmpdir(), "simcse-tensors-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "model.safetensors");

  it("gives the tensors of a file, whole or a part, as parseSafetensors does", async () => {
    const bytes = readFileSync("test/golden/encoder.safetensors");
    const opened = await openSafetensors("test/golden/encoder.safetensors", "weights");
    const parsed = parseSafetensors(bytes, "");
    expect(opened.metadata).toEqual(parsed.metadata);
    expect([...opened.tensors.keys()]).toEqual([...parsed.tensors.keys()]);
    for (const [name, { dtype, shape, data }] of parsed.tensors) {
      const lazy = opened.tensors.get(name)!;
      expect([lazy.dtype, lazy.shape]).toEqual([dtype, shape]);
      expect(Buffer.from(lazy.data).equals(data)).toBe(true);
      const part = new Uint8Array(new SharedArrayBuffer(data.length - 8));
      lazy.copyTo!(part, 8);
      expect(Buffer.from(part).equals(data.subarray(8))).toBe(true);
    }
  });

  it("refuses a file that was changed since, and one that is cut off or absent", async () => {
    const data = new Uint8Array(64);
    const bytes = serializeSafetensors([["a", { dtype: "U8", shape: [64], data }]]);
    writeFileSync(path, bytes);
    const { tensors } = await openSafetensors(path, "weights");
    writeFileSync(path, bytes.subarray(0, -1));
    expect(() => tensors.get("a")!.data).toThrow(`${path}: was changed while it was read`);
    await expect(openSafetensors(path, "weights")).rejects.toThrow(/cut off/);
    await expect(openSafetensors(`${path}x`, "weights")).rejects.toThrow(
      `${path}x does not exist; expected weights`,
    );
  });

  it("needs no memory but where the tensors go", (test) => {
    needs(test, existsSync("/proc/self/status"), "/proc");
    const megabytes = 64;
    const shape = [megabytes * 2 ** 18];
    const data = new Uint8Array(megabytes * 2 ** 20);
    writeFileSync(path, serializeSafetensors([["a", { dtype: "F32", shape, data }]]));
    const script = `
      import { openSafetensors } from "./src/node/tensor-file.ts";
      import { copyFloat32 } from "./src/files/safetensors.ts";
      import { readFileSync } from "node:fs";
      // Unlike maxRSS, not the parent's.
      const peak = () => /VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1] / 1024;
      const memory = new WebAssembly.Memory({ initial: ${16 * megabytes}, maximum: ${16 * megabytes}, shared: true });
      const before = peak();
      const { tensors } = await openSafetensors(${JSON.stringify(path)}, "weights");
      copyFloat32(tensors.get("a"), new Float32Array(memory.buffer), 0);
      console.log(peak() - before);`;
    const options = ["--input-type=module", "--eval", script];
    const { stdout, stderr } = spawnSync(process.execPath, options, { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(Number(stdout)).toBeGreaterThan(0.9 * megabytes);
    expect(Number(stdout)).toBeLessThan(1.3 * megabytes);
  });
});
