import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import {
  copyFloat32,
  parseSafetensors,
  type SafetensorsDtype,
  type SafetensorsTensor,
  serializeSafetensors,
  toFloat32,
} from "../../src/files/safetensors.ts";

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

/** A file with the header given, its length in front, and so many bytes of data. */
function file(header: string, dataLength = 0): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + dataLength);
  new DataView(bytes.buffer).setUint32(0, header.length, true);
  bytes.set(latin1(header), 8);
  return bytes;
}

const f32 = (shape: string, offsets: string): string =>
  `{"dtype":"F32","shape":${shape},"data_offsets":${offsets}}`;

const SIZES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I8: 1, U8: 1, BOOL: 1 } as const;
const tensor: fc.Arbitrary<SafetensorsTensor> = fc
  .record({
    dtype: fc.constantFrom(...(Object.keys(SIZES) as SafetensorsDtype[])),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    seed: fc.nat(255),
  })
  .map(({ dtype, shape, seed }) => {
    const length = shape.reduce((product, n) => product * n, SIZES[dtype]);
    return { dtype, shape, data: Uint8Array.from({ length }, (_, i) => (seed + 37 * i) & 255) };
  });
const names = fc
  .oneof(
    fc.string({ unit: "grapheme" }),
    fc.constantFrom("__proto__", "constructor", "toString", "0", "1", 'a"b\\', "encoder.layer.0"),
  )
  .filter((name) => name !== "__metadata__");
const tensorLists = fc.uniqueArray(fc.tuple(names, tensor), {
  selector: ([name]) => name,
  maxLength: 6,
});
const metadata = fc.uniqueArray(fc.tuple(names, fc.string()), {
  selector: ([name]) => name,
  maxLength: 3,
});

const deep = (open: string, close: string): string =>
  open.repeat(100_000) + "1" + close.repeat(100_000);

const one = (name: string, dtype: SafetensorsDtype): [string, SafetensorsTensor] => [
  name,
  { dtype, shape: [1], data: new Uint8Array(SIZES[dtype]) },
];

const stored = (dtype: SafetensorsDtype, values: ArrayBufferView): SafetensorsTensor => ({
  dtype,
  shape: [values.byteLength / SIZES[dtype]],
  data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});

describe("parseSafetensors", () => {
  it("reads the bytes of the specification's example", () => {
    const header = `{"__metadata__":{"format":"pt"},"t":${f32("[1,2]", "[0,8]")}}`;
    const bytes = file(header, 8);
    new DataView(bytes.buffer).setFloat32(bytes.length - 8, 1.5, true);
    const { tensors, metadata: read } = parseSafetensors(bytes, "m");
    expect({ ...read }).toEqual({ format: "pt" });
    expect([...tensors.keys()]).toEqual(["t"]);
    const t = tensors.get("t")!;
    expect(t).toMatchObject({ dtype: "F32", shape: [1, 2] });
    expect([...toFloat32(t)]).toEqual([1.5, 0]);
  });

  it("accepts no tensors, rank 0, empty tensors, white space and any order of the header", () => {
    expect(parseSafetensors(file("{}"), "m").tensors.size).toBe(0);
    const header = `{ "b" : ${f32("[]", "[4,8]")},\n"e":${f32("[0,3]", "[4,4]")}, "a":${f32("[1]", "[0,4]")} }  `;
    const { tensors } = parseSafetensors(file(header, 8), "m");
    expect([...tensors.keys()]).toEqual(["a", "e", "b"]); // by offset
    expect(tensors.get("e")!.data.length).toBe(0);
  });

  it("gives views of the bytes, also where these begin within a buffer", () => {
    const bytes = file(`{"t":${f32("[1]", "[0,4]")}}`, 4);
    const within = new Uint8Array(bytes.length + 3);
    within.set(bytes, 3);
    const { data } = parseSafetensors(within.subarray(3), "m").tensors.get("t")!;
    within[within.length - 1] = 7;
    expect([...data]).toEqual([0, 0, 0, 7]);
  });

  const cases: [problem: string, bytes: Uint8Array, message: string | RegExp][] = [
    [
      "a file shorter than 8 bytes",
      latin1("\x02\0\0\0\0\0\0"),
      "m: expected at least 8 bytes of safetensors, found 7; is the file cut off?",
    ],
    [
      "a header above 4 MiB",
      latin1("\x01\0\x40\0\0\0\0\0{}"),
      "m: the header claims 4194305 bytes, above the limit of 4194304; is it safetensors?",
    ],
    [
      "a header length of 2^64 - 1",
      latin1("\xff\xff\xff\xff\xff\xff\xff\xff{}"),
      "m: the header claims 18446744073709551615 bytes, above the limit of 4194304; is it safetensors?",
    ],
    [
      "a header past the end",
      latin1("\x03\0\0\0\0\0\0\0{}"),
      "m: the header claims 3 bytes, found only 2; is the file cut off?",
    ],
    ["an empty header", file(""), `m: the header must be a JSON object and begin with "{"`],
    ["a list as header", file("[]"), `m: the header must be a JSON object and begin with "{"`],
    [
      "white space before the header",
      file(" {}"),
      `m: the header must be a JSON object and begin with "{"`,
    ],
    ["a header that is no JSON", file(`{"t"`), /^m: the header is no JSON: /],
    ["text after the header", file("{}{}"), /^m: the header is no JSON: /],
    ["a header that is no UTF-8", file(`{"\xff":1}`), /^m: the header is no JSON: /],
    [
      "a tensor named twice",
      file(`{"t":${f32("[1]", "[0,4]")},"\\u0074":${f32("[1]", "[0,4]")}}`, 4),
      "m: t: the header has this key twice",
    ],
    [
      "a field given twice",
      file(`{"t":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
      "m: dtype: the header has this key twice",
    ],
    [
      "metadata given twice",
      file(`{"__metadata__":{},"__metadata__" :{}}`),
      "m: __metadata__: the header has this key twice",
    ],
    ["metadata that are no object", file(`{"__metadata__":null}`), "m: __metadata__ is no object"],
    [
      "metadata that are no strings",
      file(`{"__metadata__":{"step":1}}`),
      `m: __metadata__ "step" must be a string, found 1`,
    ],
    ["a tensor that is no object", file(`{"t":[1]}`), "m: t: expected an object, found [1]"],
    [
      "an unknown dtype",
      file(`{"t":{"dtype":"F8","shape":[8],"data_offsets":[0,8]}}`, 8),
      `m: t: dtype is "F8"; should be one of: F64, F32, F16, BF16, I64, I32, I8, U8, BOOL`,
    ],
    [
      "a dtype that every object has",
      file(`{"t":{"dtype":"constructor","shape":[1],"data_offsets":[0,8]}}`, 8),
      /^m: t: dtype is "constructor"; should be one of: /,
    ],
    ["no dtype", file(`{"t":{}}`), /^m: t: dtype is nothing; should be one of: /],
    [
      "no shape",
      file(`{"t":{"dtype":"F32","data_offsets":[0,4]}}`, 4),
      "m: t: shape must be a list of whole numbers, found nothing",
    ],
    [
      "a negative size",
      file(`{"t":${f32("[2,-1]", "[0,4]")}}`, 4),
      "m: t: shape must be a list of whole numbers, found [2, -1]",
    ],
    [
      "a fraction as size",
      file(`{"t":${f32("[1.5]", "[0,4]")}}`, 4),
      "m: t: shape must be a list of whole numbers, found [1.5]",
    ],
    [
      "a size past 2^53",
      file(`{"t":${f32("[9007199254740993]", "[0,4]")}}`, 4),
      "m: t: shape must be a list of whole numbers, found [9007199254740992]",
    ],
    [
      "a shape whose product passes 2^53",
      file(`{"t":${f32("[4294967296,4294967296,4294967296]", "[0,0]")}}`),
      "m: t: shape [4294967296, 4294967296, 4294967296] has more than 2^53 elements",
    ],
    [
      "no range",
      file(`{"t":{"dtype":"F32","shape":[1]}}`, 4),
      "m: t: data_offsets must be two whole numbers, found nothing",
    ],
    [
      "a range of three numbers",
      file(`{"t":${f32("[1]", "[0,4,8]")}}`, 8),
      "m: t: data_offsets must be two whole numbers, found [0, 4, 8]",
    ],
    [
      "a range before the data",
      file(`{"t":${f32("[1]", "[-4,0]")}}`),
      "m: t: data_offsets must be two whole numbers, found [-4, 0]",
    ],
    [
      "a range that ends before it begins",
      file(`{"t":${f32("[1]", "[8,4]")}}`, 8),
      "m: t: data_offsets [8, 4] end before they begin",
    ],
    [
      "a range past the end",
      file(`{"t":${f32("[2]", "[0,8]")}}`, 7),
      "m: t: data_offsets [0, 8] pass the end of 7 bytes of data; is the file cut off?",
    ],
    [
      "a range of another size than the shape",
      file(`{"t":${f32("[2,3]", "[0,20]")}}`, 20),
      "m: t: F32 [2, 3] takes 24 bytes, but data_offsets [0, 20] hold 20",
    ],
    [
      "ranges that overlap",
      file(`{"a":${f32("[2]", "[0,8]")},"b":${f32("[1]", "[4,8]")}}`, 8),
      "m: b: begins at byte 4, within a, which ends at 8",
    ],
    [
      "a range used twice",
      file(`{"a":${f32("[1]", "[0,4]")},"b":${f32("[1]", "[0,4]")}}`, 4),
      "m: b: begins at byte 0, within a, which ends at 4",
    ],
    [
      "a hole between ranges",
      file(`{"a":${f32("[1]", "[0,4]")},"b":${f32("[1]", "[8,12]")}}`, 12),
      "m: b: begins at byte 8, but a ends at 4: a hole",
    ],
    [
      "a hole before the first range",
      file(`{"a":${f32("[1]", "[4,8]")}}`, 8),
      "m: a: begins at byte 4, but the header ends at 0: a hole",
    ],
    [
      "trailing bytes",
      file(`{"a":${f32("[1]", "[0,4]")}}`, 6),
      "m: 2 bytes follow the last tensor, which ends at 4",
    ],
    ["data without a tensor", file("{}", 3), "m: 3 bytes follow the last tensor, which ends at 0"],
  ];
  it.each(cases)("refuses %s, naming file, tensor and numbers", (_, bytes, message) => {
    const parse = (): unknown => parseSafetensors(bytes, "m");
    expect(parse).toThrow(FormatError);
    expect(parse).toThrow(
      typeof message === "string" ? expect.objectContaining({ message }) : message,
    );
  });

  it("survives a header that nests a hundred thousand levels", () => {
    for (const header of [
      `{"t":${deep("[", "]")}}`,
      deep(`{"t":`, "}"),
      `{"t":{"dtype":"F32","shape":${deep("[", "]")},"data_offsets":[0,4]}}`,
    ]) {
      expect(() => parseSafetensors(file(header, 4), "m")).toThrow(FormatError);
    }
  });

  it("parses any mutation of a file or refuses it with a FormatError, nothing else", () => {
    const mutation = fc.record({
      permille: fc.nat(999),
      remove: fc.constantFrom(null, null, null, 0, 1, 3), // null overwrites
      insert: fc.oneof(
        fc.uint8Array({ maxLength: 3 }),
        fc
          .constantFrom(`"`, "\\", "{", "}", "[", "]", ",", ":", "-", "9", "null", `"dtype":`)
          .map(latin1),
      ),
    });
    let parsed = 0;
    let refused = 0;
    fc.assert(
      fc.property(
        tensorLists,
        metadata,
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        (list, meta, mutations) => {
          let bytes: Uint8Array = serializeSafetensors(list, Object.fromEntries(meta));
          for (const { permille, remove, insert } of mutations) {
            const position = Math.floor((permille * bytes.length) / 1000);
            bytes = Uint8Array.from([
              ...bytes.subarray(0, position),
              ...insert,
              ...bytes.subarray(position + (remove ?? insert.length)),
            ]);
          }
          try {
            for (const { shape, dtype, data } of parseSafetensors(bytes, "m").tensors.values()) {
              expect(data.length).toBe(shape.reduce((product, n) => product * n, SIZES[dtype]));
            }
            parsed++;
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError);
            refused++;
          }
        },
      ),
      { numRuns: 3000 },
    );
    expect(Math.min(parsed, refused)).toBeGreaterThan(50);
  });
});

describe("serializeSafetensors", () => {
  it("is inverted by parseSafetensors, for any names, dtypes and shapes", () => {
    fc.assert(
      fc.property(tensorLists, metadata, (list, meta) => {
        const read = parseSafetensors(
          serializeSafetensors(list, Object.fromEntries(meta)),
          "written",
        );
        expect(new Map(Object.entries(read.metadata))).toEqual(new Map(meta));
        expect(read.tensors.size).toBe(list.length);
        for (const [name, written] of list) expect(read.tensors.get(name)).toEqual(written);
      }),
    );
  });

  it("begins the data at a multiple of 64 bytes, and every tensor at one of its elements", () => {
    fc.assert(
      fc.property(tensorLists, (list) => {
        const bytes = serializeSafetensors(list);
        const headerLength = new DataView(bytes.buffer).getUint32(0, true);
        expect((8 + headerLength) % 64).toBe(0);
        for (const { dtype, data } of parseSafetensors(bytes, "written").tensors.values()) {
          expect(data.byteOffset % SIZES[dtype]).toBe(0);
        }
      }),
    );
  });

  it("writes these very bytes", () => {
    const bytes = serializeSafetensors(
      [
        ["b", { dtype: "I8", shape: [3], data: latin1("xyz") }],
        ["a", { dtype: "F16", shape: [], data: latin1("\x00\x3c") }],
      ],
      { format: "pt" },
    );
    const header =
      `{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]},` +
      `"b":{"dtype":"I8","shape":[3],"data_offsets":[2,5]}}`;
    expect(Buffer.from(bytes).toString("latin1")).toBe(
      `\xb8\0\0\0\0\0\0\0${header.padEnd(0xb8)}\0\x3cxyz`,
    );
  });

  it("keeps the order of tensors with elements of one size", () => {
    const bytes = serializeSafetensors([
      one("z", "F32"),
      one("i", "I8"),
      one("10", "F32"),
      one("a", "I32"),
    ]);
    expect([...parseSafetensors(bytes, "written").tensors.keys()]).toEqual(["z", "10", "a", "i"]);
  });

  it("refuses a name used twice or reserved, and data of another size than their shape", () => {
    const t: SafetensorsTensor = { dtype: "I8", shape: [1], data: new Uint8Array(1) };
    expect(() =>
      serializeSafetensors([
        ["t", t],
        ["t", t],
      ]),
    ).toThrow(new RangeError("t: two tensors have this name"));
    expect(() => serializeSafetensors([["__metadata__", t]])).toThrow(
      new RangeError("__metadata__ is reserved by safetensors; give the tensor another name"),
    );
    expect(() => serializeSafetensors([["t", { ...t, shape: [2, 3] }]])).toThrow(
      new RangeError("t: I8 [2, 3] takes 6 bytes, found 1"),
    );
  });

  it("writes what PyTorch's file holds, tensor by tensor", () => {
    const golden = "test/golden/encoder.safetensors";
    expect(existsSync(golden)).toBe(true);
    const { tensors, metadata: read } = parseSafetensors(readFileSync(golden), golden);
    const again = parseSafetensors(serializeSafetensors(tensors, read), "written");
    expect([...again.tensors]).toEqual([...tensors]);
    expect({ ...again.metadata }).toEqual({ format: "pt" });
  });
});

describe("toFloat32", () => {
  it("widens every F16 as the definition of binary16 says", () => {
    const wide = toFloat32(
      stored(
        "F16",
        Uint16Array.from({ length: 65536 }, (_, bits) => bits),
      ),
    );
    const literals: [bits: number, value: number][] = [
      [0x0000, 0],
      [0x8000, -0],
      [0x0001, 2 ** -24],
      [0x03ff, 1023 * 2 ** -24],
      [0x0400, 2 ** -14],
      [0x3c00, 1],
      [0x3c01, 1 + 2 ** -10],
      [0xc000, -2],
      [0x7bff, 65504],
      [0x7c00, Infinity],
      [0xfc00, -Infinity],
      [0x7e00, NaN],
    ];
    for (const [bits, value] of literals) expect(wide[bits]).toBe(value);
    for (let bits = 1; bits < 0x7c00; bits++) {
      expect(wide[bits]! > wide[bits - 1]!).toBe(true);
      expect(wide[bits | 0x8000]).toBe(-wide[bits]!);
    }
  });

  it("widens BF16 by 16 zero bits", () => {
    const bits = Uint16Array.of(0x3f80, 0xbf80, 0x4049, 0x0001, 0x8000, 0x7f80, 0xff80, 0x7fc0);
    expect([...toFloat32(stored("BF16", bits))]).toEqual([
      1,
      -1,
      3.140625,
      2 ** -133,
      -0,
      Infinity,
      -Infinity,
      NaN,
    ]);
  });

  it("copies F32 bit for bit, also from an odd address", () => {
    const values = Float32Array.of(1.5, -0, NaN, 1e-45);
    const odd = new Uint8Array(17);
    odd.set(new Uint8Array(values.buffer), 1);
    const copy = toFloat32({ dtype: "F32", shape: [4], data: odd.subarray(1) });
    expect(copy).toEqual(values);
    odd.fill(0);
    expect(copy).toEqual(values);
  });

  it("rounds F64 to the nearest F32", () => {
    expect([...toFloat32(stored("F64", Float64Array.of(0.1, -1e-50, 1e300)))]).toEqual([
      Math.fround(0.1),
      -0,
      Infinity,
    ]);
  });

  it("refuses integers under the name given", () => {
    expect(() => toFloat32(stored("I32", Int32Array.of(1)), "ids")).toThrow(
      new FormatError("ids: expected F64, F32, F16 or BF16, found I32"),
    );
  });
});

describe("copyFloat32", () => {
  it.each(["F32", "F16", "BF16", "F64"] as const)(
    "of %s gives what toFloat32 gives, from any element on, across its chunks",
    (dtype) => {
      const count = 2 ** 20 + 5;
      const data = Uint8Array.from({ length: SIZES[dtype] * count }, (_, i) => (31 * i + 7) & 63);
      const whole = toFloat32({ dtype, shape: [count], data });
      const part = new Float32Array(count - 2);
      copyFloat32({ dtype, shape: [count], data }, part, 2);
      expect(Buffer.from(part.buffer).equals(Buffer.from(whole.buffer, 8))).toBe(true);
    },
  );
});
