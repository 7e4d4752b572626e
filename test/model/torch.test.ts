import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { type SafetensorsTensor, toFloat32 } from "../../src/files/safetensors.ts";
import { parseTorch } from "../../src/files/torch.ts";

/** PyTorch wrote it; `test/golden/make_torch.py` says what. */
const file = new Uint8Array(readFileSync("test/golden/torch.bin"));
const tensors = parseTorch(file, "torch.bin");

const count = Array.from({ length: 24 }, (_, i) => i / 8);
const column = (j: number): number[] => [0, 1, 2, 3].map((i) => (6 * i + j) / 8);

it.each([
  ["plain", "F32", [4, 6], count],
  ["transposed", "F32", [6, 4], [0, 1, 2, 3, 4, 5].flatMap(column)],
  ["part", "F32", [2, 2], [8, 9, 14, 15]],
  ["parameter", "F32", [3], [0, 1, 2]],
  ["scalar", "F32", [], [2.5]],
  ["empty", "F32", [0, 4], []],
  ["half", "F16", [3], [1, -0.5, 65504]],
  ["brain", "BF16", [3], [1, -0.5, 3]],
  ["double", "F64", [1], [Math.fround(0.1)]],
  ["shared", "F32", [4, 6], count],
] as const)("reads what PyTorch stored: %s", (name, dtype, shape, values) => {
  const tensor = tensors.get(name)!;
  expect(tensor).toMatchObject({ dtype, shape });
  expect([...toFloat32(tensor)]).toEqual(values);
});

it("reads integers and flags, in PyTorch's order of names", () => {
  const bytes = (tensor: SafetensorsTensor | undefined): ArrayBuffer => tensor!.data.slice().buffer;
  expect([...new BigInt64Array(bytes(tensors.get("position_ids")))]).toEqual([0n, 1n, 2n, 3n]);
  expect([...tensors.get("flag")!.data]).toEqual([1, 0]);
  expect([...tensors.keys()].slice(0, 3)).toEqual(["plain", "transposed", "part"]);
});

/** The file with one run of bytes in place of another, which has the same length: a zip's checksums are not looked at. */
function replaced(from: string, to: string): Uint8Array {
  const text = Buffer.from(file).toString("latin1");
  expect(text).toContain(from);
  expect(from.length).toBe(to.length);
  return new Uint8Array(Buffer.from(text.replaceAll(from, to), "latin1"));
}

function error(bytes: Uint8Array): unknown {
  try {
    parseTorch(bytes, "model.bin");
  } catch (thrown) {
    return thrown;
  }
  return undefined;
}

describe("refuses with a FormatError", () => {
  it.each([
    ["nothing", new Uint8Array(), "expected a zip"],
    ["a pickle without a zip", Uint8Array.of(0x80, 2, 0x7d, 0x2e), "expected a zip"],
    ["a file cut off", file.subarray(0, 2000), "expected a zip"],
    [
      "a function that is not a tensor's",
      replaced("_rebuild_tensor_v2", "_rebuild_tensor_v9"),
      "attack",
    ],
    [
      "a call of the system",
      replaced("ctorch._utils\n_rebuild_parameter", "cposix_______\nsystem____________"),
      "attack",
    ],
    ["a class of another library", replaced("OrderedDict", "OrderedEvil"), "attack"],
    ["a storage of unknown type", replaced("HalfStorage", "EvilStorage"), "attack"],
    ["a compressed entry", deflated(), "compressed"],
    ["big-endian storages", replaced("little", "biggie"), "little-endian"],
  ])("%s", (_, bytes, message) => {
    expect(error(bytes)).toBeInstanceOf(FormatError);
    expect((error(bytes) as Error).message).toContain("model.bin: ");
    expect((error(bytes) as Error).message).toContain(message);
  });

  it("or reads, whatever bytes of a file are damaged or cut off", () => {
    let refused = 0;
    const check = (bytes: Uint8Array): void => {
      const thrown = error(bytes);
      if (thrown === undefined) return;
      expect(thrown).toBeInstanceOf(FormatError);
      refused++;
    };
    for (let i = 0; i < file.length; i++) {
      for (const value of [0x00, 0x29, 0x52, 0x65, 0xff, file[i]! ^ 1]) {
        const damaged = file.slice();
        damaged[i] = value;
        check(damaged);
      }
      check(file.subarray(0, i));
    }
    expect(refused).toBeGreaterThan(file.length);
  });
});

/** The file, whose directory says that its first entry is deflated. */
function deflated(): Uint8Array {
  const bytes = file.slice();
  bytes[Buffer.from(bytes).indexOf("PK\u0001\u0002", 0, "latin1") + 10] = 8;
  return bytes;
}
