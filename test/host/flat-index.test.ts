import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { sha256HexOfParts } from "../../src/files/checksum.ts";
import {
  parseSafetensors,
  type SafetensorsTensor,
  serializeSafetensors,
} from "../../src/files/safetensors.ts";
import { compileKernels } from "../../src/node/binaries.ts";
import { openFlatIndex, saveIndex } from "../../src/node/index.ts";
import { FlatIndex, type ItemId, type SearchResult } from "../../src/search/flat-index.ts";
import { INDEX_PRECISIONS, type IndexPrecision } from "../../src/search/rows.ts";
import { uniform } from "../kernels/harness.ts";
import { needs } from "../needs.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-index-"));
let kernels: WebAssembly.Module;
beforeAll(async () => {
  kernels = await compileKernels("edge");
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Largest error of a score: f32 sums, codes of 8 bits, and float32 rescoring. */
const TOLERANCE: Readonly<Record<IndexPrecision, number>> = {
  float32: 1e-6,
  int8: 6e-3,
  binary: 1e-6,
};

/** Random unit vectors. */
function units(seed: number, count: number, dimension: number): Float32Array[] {
  return Array.from({ length: count }, (_, i) => {
    const vector = uniform(1000 * seed + i, dimension);
    const norm = Math.hypot(...vector);
    return vector.map((x) => x / norm);
  });
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0);
}

/** An index of random vectors with the texts "0", "1", … */
function indexOf(vectors: readonly Float32Array[], precision: IndexPrecision): FlatIndex {
  const index = new FlatIndex(kernels, vectors[0]!.length, precision);
  index.add(
    vectors.map((_, i) => String(i)),
    vectors,
  );
  return index;
}

const idsOf = (results: readonly SearchResult[]): unknown[] => results.map(({ id }) => id);

const sorted = (ids: readonly ItemId[]): ItemId[] => ids.toSorted((a, b) => Number(a) - Number(b));

describe.each(INDEX_PRECISIONS)("%s: FlatIndex", (precision) => {
  const tolerance = TOLERANCE[precision];

  it.each([1, 4, 7, 16, 64, 130])("scores as float64 does, in %i dimensions", (dimension) => {
    const vectors = units(1, 50, dimension);
    const [query] = units(2, 1, dimension) as [Float32Array];
    const index = indexOf(vectors, precision);
    const scores = index.scores(query);
    vectors.forEach((vector, i) => {
      expect(Math.abs(scores[i]! - dot(vector, query))).toBeLessThan(tolerance);
      expect(index.score(query, i)).toBe(scores[i]);
    });
  });

  it.each([1, 1023, 1024, 1025, 3000])(
    "finds each of %i rows, first and last of blocks",
    (rows) => {
      const vectors = units(3, rows, 32);
      const index = indexOf(vectors, precision);
      for (const id of [0, 1, 1022, 1023, 1024, 2047, 2048, rows - 1].filter((row) => row < rows)) {
        const [best] = index.search(vectors[id]!, { topK: 1 });
        expect(best).toMatchObject({ id, text: String(id) });
        expect(Math.abs(best!.score - 1)).toBeLessThan(tolerance);
      }
    },
  );

  it("gives the best first, and of equal scores the earlier", () => {
    const [a, b] = units(4, 2, 16) as [Float32Array, Float32Array];
    const index = indexOf([b, a, b, a, b], precision);
    expect(idsOf(index.search(a, { topK: 4 }))).toEqual([1, 3, 0, 2]);
    expect(idsOf(index.search(a, { topK: 3 }))).toEqual([1, 3, 0]);
  });

  it("obeys topK, threshold, maxScore and filter", () => {
    const vectors = units(5, 400, 16);
    const index = indexOf(vectors, precision);
    const query = vectors[7]!;
    const scores = index.scores(query);
    const ranked = Array.from(scores.keys()).toSorted((i, j) => scores[j]! - scores[i]! || i - j);
    const all = (keep: (id: number) => boolean): number[] => ranked.filter(keep);
    const threshold = scores[ranked[20]!]!;
    expect(idsOf(index.search(query))).toEqual(ranked.slice(0, 5));
    expect(index.search(query, { threshold, topK: Infinity })).toHaveLength(21);
    expect(idsOf(index.search(query, { topK: Infinity }))).toEqual(ranked);
    expect(idsOf(index.search(query, { topK: 3, maxScore: threshold }))).toEqual(
      ranked.slice(20, 23),
    );
    const filter = ({ text }: { text: string }): boolean => text.endsWith("3");
    expect(idsOf(index.search(query, { filter, topK: 10 }))).toEqual(
      all((id) => id % 10 === 3).slice(0, 10),
    );
    expect(index.search(query, { threshold: 1.5 })).toEqual([]);
  });

  it("finds in a long scan what all scores say, wherever the best lie and however many are alike", () => {
    const random = units(8, 5000, 48);
    // Nearly unit vectors, so near each other that a bound turns few away.
    const alike = units(9, 5000, 48).map((vector, i) =>
      vector.map((x, j) => random[0]![j]! + (i % 3) * 0.01 * x),
    );
    for (const vectors of [random, alike, [...random.slice(0, 2500), ...alike.slice(0, 2500)]]) {
      const index = indexOf(vectors, precision);
      for (const query of [vectors[0]!, vectors[4999]!, units(10, 1, 48)[0]!]) {
        const scores = index.scores(query);
        const ranked = Array.from(scores.keys()).toSorted(
          (i, j) => scores[j]! - scores[i]! || i - j,
        );
        const found = index.search(query, { topK: 10 });
        expect(found.map(({ score }) => score)).toEqual(found.map(({ id }) => scores[Number(id)]));
        if (precision !== "binary") expect(idsOf(found)).toEqual(ranked.slice(0, 10));
      }
    }
  });

  it("adds and removes at any time, and then equals an index built of what is left", () => {
    const vectors = units(6, 2200, 20);
    const index = indexOf(vectors, precision);
    const gone = vectors.map((_, i) => i).filter((i) => i % 3 === 0 || (i > 900 && i < 1200));
    expect(index.remove([...gone, 0, 99_999])).toBe(gone.length);
    expect(index.remove([0])).toBe(0);
    const left = vectors.map((_, i) => i).filter((i) => !gone.includes(i));
    expect(index.items.map(({ id }) => id)).toEqual(left);
    expect(index.scores(vectors[5]!)).toEqual(
      indexOf(
        left.map((i) => vectors[i]!),
        precision,
      ).scores(vectors[5]!),
    );
    const [id] = index.add(["new"], [vectors[0]!]);
    expect(id).toBe(2200);
    expect(index.search(vectors[0]!, { topK: 1 })).toMatchObject([{ id: 2200, text: "new" }]);
  });

  it("survives serialize and parse, with its ids and metadata", async () => {
    const vectors = units(7, 2100, 24);
    const index = new FlatIndex(kernels, 24, precision);
    index.add(
      vectors.map((_, i) => ({ id: `page-${i}`, text: `text ${i}`, metadata: { page: i } })),
      vectors,
    );
    index.remove(["page-3"]);
    const bytes = await index.serialize();
    const again = await FlatIndex.parse(kernels, bytes, "an.index");
    expect(again).toMatchObject({ precision, dimension: 24, size: 2099 });
    expect(again.items).toEqual(index.items);
    const options = {
      topK: 20,
      filter: (item: { metadata?: object }) => item.metadata !== undefined,
    };
    for (const query of [...vectors.slice(9, 20), ...vectors.slice(2000)]) {
      expect(again.search(query, options)).toEqual(index.search(query, options));
      expect(again.search(query, { topK: 1 })).toEqual(index.search(query, { topK: 1 }));
    }
    expect(await again.serialize()).toEqual(bytes);
  });

  it.each([24, 128])(
    "of %i dimensions is written to a file and read from it a block at a time: the same bytes",
    async (dimension) => {
      const file = join(directory, `${precision}-${dimension}.index`);
      const index = indexOf(units(9, 2100, dimension), precision);
      await saveIndex(index, file);
      expect(new Uint8Array(readFileSync(file))).toEqual(await index.serialize());
      const again = await openFlatIndex(file);
      expect(again.items).toEqual(index.items);
      expect(await again.serialize()).toEqual(await index.serialize());
    },
  );

  it("survives serialize and parse when it is empty", async () => {
    const empty = new FlatIndex(kernels, 8, precision);
    const again = await FlatIndex.parse(kernels, await empty.serialize(), "empty.index");
    expect(again.size).toBe(0);
    expect(again.search(new Float32Array(8))).toEqual([]);
  });

  it("dedupe finds what repeats an earlier item, and removing it leaves no such pair", () => {
    const [a, b, c] = units(8, 3, 64) as [Float32Array, Float32Array, Float32Array];
    const near = a.map((x, i) => x + (i === 0 ? 0.02 : 0));
    const index = indexOf([a, b, near, c, b, a], precision);
    const found = index.dedupe({ threshold: 0.98 });
    expect(found.map(({ id, of }) => [id, of])).toEqual([
      [2, 0],
      [4, 1],
      [5, 0],
    ]);
    expect(found[1]!.score).toBeCloseTo(1, 2);
    index.remove(found.map(({ id }) => id));
    expect(index.dedupe({ threshold: 0.98 })).toEqual([]);
  });

  it("cluster gathers communities, the largest first and its centre at its head", () => {
    const centres = units(9, 3, 64);
    const members = [0, 1, 2, 1, 1, 0, 1].map((c, i) => {
      const noise = units(20 + i, 1, 64)[0]!;
      const vector = centres[c]!.map((x, j) => x + 0.1 * noise[j]!);
      return vector.map((x) => x / Math.hypot(...vector));
    });
    const clusters = indexOf(members, precision).cluster({ threshold: 0.9 });
    expect(clusters.map(sorted)).toEqual([
      [1, 3, 4, 6],
      [0, 5],
    ]);
    expect(indexOf(members, precision).cluster({ threshold: 0.9, minSize: 3 })).toHaveLength(1);
    const alone = indexOf(members, precision).cluster({ threshold: 0.9, minSize: 1 });
    expect(sorted(alone.flat())).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});

describe("binary search", () => {
  it("has nearly all of the true ten best, and exact scores", () => {
    const vectors = units(30, 2000, 256);
    const exact = indexOf(vectors, "float32");
    const binary = indexOf(vectors, "binary");
    let hits = 0;
    for (const query of vectors.slice(0, 20)) {
      const found = new Map(binary.search(query, { topK: 10 }).map(({ id, score }) => [id, score]));
      for (const { id, score } of exact.search(query, { topK: 10 })) {
        if (!found.has(id)) continue;
        hits++;
        expect(found.get(id)).toBe(score);
      }
    }
    expect(hits).toBeGreaterThan(150); // random vectors are the hardest there are
  });
});

it("any sequence of adding and removing keeps ids, texts and vectors together", () => {
  const vectors = units(40, 64, 8);
  const operation = fc.oneof(
    fc.record({ add: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ remove: fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 5 }) }),
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 12 }), (operations) => {
      const index = new FlatIndex(kernels, 8);
      const model = new Map<number, number>(); // id to the number of its vector
      let next = 0;
      for (const op of operations) {
        if ("add" in op) {
          const numbers = Array.from({ length: op.add }, (_, i) => (next + i) % 64);
          const ids = index.add(
            numbers.map(String),
            numbers.map((n) => vectors[n]!),
          );
          ids.forEach((id, i) => model.set(id as number, numbers[i]!));
          next += op.add;
        } else {
          const present = op.remove.filter((id) => model.delete(id));
          expect(index.remove(op.remove)).toBe(present.length);
        }
      }
      expect(index.items.map(({ id }) => id)).toEqual([...model.keys()]);
      for (const [id, n] of model) {
        expect(index.vector(id)).toEqual(vectors[n]);
        expect(index.items.find((item) => item.id === id)!.text).toBe(String(n));
      }
    }),
  );
});

function jsonTensor(json: string): SafetensorsTensor {
  const data = new TextEncoder().encode(json);
  return { dtype: "U8", shape: [data.length], data };
}

describe("FlatIndex refuses", () => {
  const make = (): FlatIndex => indexOf(units(50, 3, 4), "float32");
  const [vector] = [Float32Array.of(1, 0, 0, 0)];

  it.each([
    [
      "a dimension of 0",
      () => new FlatIndex(kernels, 0),
      "dimension 0: expected a whole number from 1 to 8192",
    ],
    ["a dimension of 9000", () => new FlatIndex(kernels, 9000), "dimension 9000"],
    [
      "fewer vectors than items",
      () => make().add(["a", "b"], [vector]),
      "expected a vector for each of 2 items, found 1",
    ],
    [
      "a vector of another size",
      () => make().add(["a"], [vector.slice(1)]),
      "vector 0: expected a vector of 4, found 3",
    ],
    [
      "a vector with NaN",
      () => make().add(["a"], [Float32Array.of(0, NaN, 0, 0)]),
      "vector 0: component 1 is NaN",
    ],
    [
      "an id that is taken",
      () => make().add([{ id: 2, text: "a" }], [vector]),
      "id 2 is taken; remove it first",
    ],
    [
      "an id given twice",
      () =>
        make().add(
          [
            { id: "x", text: "a" },
            { id: "x", text: "b" },
          ],
          [vector, vector],
        ),
      'id "x" is taken',
    ],
    [
      "a query of another size",
      () => make().search(new Float32Array(3)),
      "query: expected a vector of 4, found 3",
    ],
    [
      "topK 0",
      () => make().search(vector, { topK: 0 }),
      "topK 0: expected a whole number from 1, or Infinity",
    ],
    ["an id it does not have", () => make().vector(7), "id 7 is not in the index"],
  ])("%s", (_, act, message) => {
    expect(act).toThrow(new RegExp(message.replaceAll(/[[\]().]/g, "\\$&")));
  });

  it("all items of a call where one is wrong", () => {
    const index = make();
    expect(() => index.add(["a", { id: 0, text: "b" }], [vector, vector])).toThrow("id 0 is taken");
    expect(index.size).toBe(3);
    expect(index.add(["a"], [vector])).toEqual([3]);
  });

  const rewrite = async (
    change: (tensors: Map<string, SafetensorsTensor>, metadata: Record<string, string>) => void,
  ): Promise<Uint8Array> => {
    const { tensors, metadata } = parseSafetensors(await make().serialize(), "");
    change(tensors, metadata);
    return serializeSafetensors(tensors, metadata);
  };

  it("a file with a changed bit, of a vector or of a text", async () => {
    for (const name of ["vectors", "items"]) {
      const bytes = await rewrite((tensors) => {
        const tensor = tensors.get(name)!;
        const data = tensor.data.map((byte, i) => (i === 5 ? byte ^ 1 : byte));
        tensors.set(name, { ...tensor, data });
      });
      await expect(FlatIndex.parse(kernels, bytes, "my.index")).rejects.toThrow(
        /^my\.index: damaged: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}; build the index again$/,
      );
    }
  });

  it.each<[string, string, SafetensorsTensor | undefined]>([
    ["items that are no JSON", "items: expected a JSON array of texts", jsonTensor("{")],
    ["items that are no list", "items: expected a JSON array of texts", jsonTensor("{}")],
    ["an item without a text", "items: expected", jsonTensor(`[{"id": 0}, {"id": 1}, {"id": 2}]`)],
    [
      "an id given twice",
      "items: expected",
      jsonTensor(`[{"id": 0, "text": ""}, {"id": 0, "text": ""}]`),
    ],
    ["no items", "items: expected", undefined],
    [
      "fewer items than vectors",
      "x: expected 3 items, one a row, found 1",
      jsonTensor(`[{"id": 0, "text": ""}]`),
    ],
  ])("a file of a right checksum with %s", async (_, message, items) => {
    const { tensors, metadata } = parseSafetensors(await make().serialize(), "");
    if (items) tensors.set("items", items);
    else tensors.delete("items");
    const header = new TextEncoder().encode("float32 4");
    const parts = ["vectors", "items"].flatMap((name) => tensors.get(name)?.data ?? []);
    const sha256 = await sha256HexOfParts([...parts, header]);
    const bytes = serializeSafetensors(tensors, { ...metadata, sha256 });
    await expect(FlatIndex.parse(kernels, bytes, "x")).rejects.toThrow(FormatError);
    await expect(FlatIndex.parse(kernels, bytes, "x")).rejects.toThrow(message);
  });

  it("other files", async () => {
    const other = serializeSafetensors([], {});
    await expect(FlatIndex.parse(kernels, other, "x")).rejects.toThrow(
      "x: expected simcse-edge index 1, found another safetensors file",
    );
    await expect(FlatIndex.parse(kernels, new Uint8Array(3), "x")).rejects.toThrow(
      "x: expected at least 8 bytes",
    );
    const cut = (await make().serialize()).subarray(0, -1);
    await expect(FlatIndex.parse(kernels, cut, "x")).rejects.toThrow(/x: .*cut off/);
  });
});

describe("an index in a file", () => {
  const dimension = 384;
  const rows = 40_000;
  const file = join(directory, "large.index");
  const megabytes = (rows * dimension * 4) / 1e6;

  it("is loaded and saved without a second copy in memory", async (test) => {
    needs(test, existsSync("/proc/self/status"), "/proc");
    const index = new FlatIndex(kernels, dimension);
    const vectors = units(10, 100, dimension);
    const some = Array.from({ length: rows }, (_, i) => vectors[i % 100]!);
    index.add(
      some.map((_, i) => `${i}`),
      some,
    );
    await saveIndex(index, file);
    const script = `
      import { openFlatIndex, saveIndex } from "./src/node/index.ts";
      import { readFileSync } from "node:fs";
      // Unlike maxRSS, not the parent's.
      const peak = () => 1024 * /VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1];
      const before = peak();
      const index = await openFlatIndex(${JSON.stringify(file)});
      await saveIndex(index, ${JSON.stringify(file)} + "2");
      console.log((peak() - before) / 1e6);`;
    const options = ["--input-type=module", "--eval", script];
    const { stdout, stderr } = spawnSync(process.execPath, options, { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(Number(stdout)).toBeGreaterThan(megabytes); // 61 MB of vectors
    expect(Number(stdout)).toBeLessThan(1.7 * megabytes);
    expect(readFileSync(`${file}2`).equals(readFileSync(file))).toBe(true);
  });

  it("names the file of which a part is missing or damaged", async () => {
    const index = indexOf(units(9, 20, 8), "float32");
    await saveIndex(index, file);
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, -3));
    await expect(openFlatIndex(file)).rejects.toThrow(new RegExp(`^${file}: .*cut off`));
    bytes[bytes.length - 500]! ^= 1;
    writeFileSync(file, bytes);
    await expect(openFlatIndex(file)).rejects.toThrow(`${file}: damaged: expected sha256`);
    await expect(openFlatIndex(directory)).rejects.toThrow(
      `${directory} is a folder; expected an index`,
    );
  });
});
