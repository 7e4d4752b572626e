/** Documents in SQLite by themselves, without a model: vectors in, vectors found. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { openDocuments } from "../../src/node/documents.ts";
import { FlatIndex } from "../../src/search/flat-index.ts";
import type { DocumentStore, EmbeddedDocument } from "../../worker/documents/store.ts";
import { dice } from "../host/hostile.ts";

const INDEX_BYTES = 1_000_000;

let kernels: WebAssembly.Module;
let folder: string;

beforeAll(async () => {
  kernels = await compileKernels("edge");
  folder = await mkdtemp(join(tmpdir(), "simcse-documents-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("the store in SQLite", () => {
  const DIMENSION = 48;
  const space = { name: "test", dimension: DIMENSION };
  /** Bytes of the index of a document of 48 dimensions. */
  const ROW = 48 + 8 + 12;

  /** Unit vectors around a few directions, so that many are near each other. */
  function vectorsOf(count: number, seed: number): Float32Array[] {
    const roll = dice(seed);
    const gauss = (): number =>
      Array.from({ length: 6 }, () => roll(1e6) / 1e6).reduce((a, b) => a + b) - 3;
    const centres = Array.from({ length: 8 }, () =>
      Float32Array.from({ length: DIMENSION }, gauss),
    );
    return Array.from({ length: count }, (_, i) => {
      const vector = centres[i % 8]!.map((x) => x + 0.5 * gauss());
      const norm = Math.hypot(...vector);
      return vector.map((x) => x / norm);
    });
  }
  const documentsOf = (vectors: readonly Float32Array[]): EmbeddedDocument[] =>
    vectors.map((vector, i) => ({
      id: String(i).padStart(5, "0"),
      text: `text ${i}`,
      metadata: { tenth: i % 10, rare: i % 997 === 3 },
      vector,
    }));

  it("ranks as comparing every float32 vector does, filtered or not, score for score", async () => {
    using store = openDocuments(":memory:", kernels, 5000 * ROW);
    const vectors = vectorsOf(5000, 1);
    const documents = documentsOf(vectors);
    await store.put(space, documents);
    const exact = new FlatIndex(kernels, DIMENSION);
    exact.add(
      documents.map(({ id, text, metadata }) => ({ id, text, metadata: metadata! })),
      vectors,
    );
    for (const query of vectorsOf(12, 2)) {
      for (const [filter, passes] of [
        [undefined, () => true],
        [
          { tenth: { $lt: 2 } },
          ({ metadata }: EmbeddedDocument) => (metadata!["tenth"] as number) < 2,
        ],
        [{ rare: true }, ({ metadata }: EmbeddedDocument) => metadata!["rare"] as boolean],
      ] as const) {
        const found = await store.search(space, query, { topK: 10, threshold: 0.1, filter });
        const expected = exact
          .search(query, { topK: 10, threshold: 0.1, filter: (item) => passes(item as never) })
          .map(({ id, text, metadata, score }) => ({ id, text, metadata, score }));
        expect(found).toEqual(expected);
      }
    }
  });

  it("holds as many as its memory has room for, and says so; gaps are filled again", async () => {
    using store = openDocuments(":memory:", kernels, 100 * ROW + ROW - 1);
    const documents = documentsOf(vectorsOf(101, 3));
    expect(await store.put(space, documents)).toEqual({ full: 100 });
    expect((await store.list!(space, "", 10)).documents).toEqual([]);
    expect(await store.put(space, documents.slice(0, 100))).toEqual({});
    expect(await store.put(space, documents.slice(0, 100))).toEqual({});
    expect(await store.put(space, documents.slice(100))).toEqual({ full: 100 });
    await store.remove([documents[40]!.id, documents[7]!.id]);
    expect(await store.put(space, documents.slice(100))).toEqual({});
    const best = await store.search(space, documents[100]!.vector, { topK: 200, threshold: -1 });
    expect(best).toHaveLength(99);
    expect(best[0]!.id).toBe(documents[100]!.id);
  });

  it("is what it was when its file is opened again, without what was removed", async () => {
    const file = join(folder, "again.sqlite");
    const documents = documentsOf(vectorsOf(2400, 4));
    const query = { topK: 2400, threshold: -1 };
    // A few of the best are found another way than all.
    const searches = (store: DocumentStore): Promise<unknown[]> =>
      Promise.all([
        store.search(space, documents[1]!.vector, query),
        ...documents
          .slice(-30)
          .map(({ vector }) => store.search(space, vector, { topK: 1, threshold: -1 })),
      ]);
    let before: unknown[];
    {
      using store = openDocuments(file, kernels, 2400 * ROW);
      await store.put(space, documents);
      await store.remove(documents.filter((_, i) => i % 3 === 0).map(({ id }) => id));
      before = await searches(store);
      expect(before[0]).toHaveLength(1600);
    }
    using store = openDocuments(file, kernels, 2400 * ROW);
    expect(await searches(store)).toEqual(before);
    await store.put(space, documents.slice(0, 1));
    expect(await store.search(space, documents[1]!.vector, query)).toHaveLength(1601);
  });

  it("writes all or nothing, and the index does not run ahead of an error", async () => {
    using store = openDocuments(":memory:", kernels, INDEX_BYTES);
    const documents = documentsOf(vectorsOf(20, 5));
    await store.put(space, documents.slice(0, 10));
    const broken = { ...documents[15]!, text: undefined as unknown as string };
    await expect(store.put(space, [...documents.slice(10, 15), broken])).rejects.toThrow();
    const found = await store.search(space, documents[12]!.vector, { topK: 50, threshold: -1 });
    expect(found.map(({ id }) => id).toSorted()).toEqual(
      documents.slice(0, 10).map(({ id }) => id),
    );
    expect(await store.put(space, documents)).toEqual({});
  });

  it("refuses a file that is no database, and one that another server has open", async () => {
    const file = join(folder, "text.sqlite");
    await writeFile(file, "no database, but long enough to be taken for one by its name alone");
    const open = (path: string) => () => openDocuments(path, kernels, INDEX_BYTES);
    expect(open(file)).toThrow(`${file}: documents cannot be kept there`);
    expect(open(join(folder, "absent", "x.sqlite"))).toThrow("documents cannot be kept there");
    const shared = join(folder, "shared.sqlite");
    using _ = openDocuments(shared, kernels, INDEX_BYTES);
    expect(open(shared)).toThrow("another server's?");
  });

  it("refuses to search only a part where the memory has become too small", async () => {
    const file = join(folder, "small.sqlite");
    const documents = documentsOf(vectorsOf(20, 6));
    {
      using store = openDocuments(file, kernels, INDEX_BYTES);
      await store.put(space, documents);
    }
    using store = openDocuments(file, kernels, 10 * ROW);
    const search = store.search(space, documents[0]!.vector, { topK: 1, threshold: -1 });
    await expect(search).rejects.toThrow("raise MAX_INDEX_BYTES");
    expect(await store.get(space, "00019")).toMatchObject({ text: "text 19" });
  });
});
