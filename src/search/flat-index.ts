import { memorySource, type Source } from "../files/source.ts";
import { Best } from "./best.ts";
import { collectHash, concat, type NewHash, openIndexFile, writeIndexFile } from "./index-file.ts";
import { type IndexPrecision, MOST_DIMENSIONS, Rows } from "./rows.ts";

export type ItemId = number | string;
/** Whatever belongs to a text; it is saved as JSON. */
export type Metadata = Readonly<Record<string, unknown>>;

/** What a vector stands for. */
export interface Item {
  readonly id: ItemId;
  readonly text: string;
  readonly metadata?: Metadata;
}

/** An item to be added; without an `id` it gets the next whole number. */
export type NewItem = string | (Omit<Item, "id"> & { readonly id?: ItemId });

export interface SearchResult extends Item {
  /** Inner product with the query: the cosine, as vectors lie on the unit sphere. */
  readonly score: number;
}

export interface SearchOptions {
  /** Most results. Default 5. */
  readonly topK?: number;
  /** Least score of a result. Default: any. */
  readonly threshold?: number;
  /** Largest score of a result. Default: any. A binary index then scans its float32 rows. */
  readonly maxScore?: number;
  /** Whether an item may be a result. */
  readonly filter?: (item: Item) => boolean;
}

/** A near-duplicate of an item before it. */
export interface Duplicate {
  readonly id: ItemId;
  readonly of: ItemId;
  readonly score: number;
}

/** Binary search rescores so many times as many candidates as results, and at least so many. */
const RESCORE_FACTOR = 8;
const RESCORE_LEAST = 64;

/**
 * Search over vectors on the unit sphere by comparing the query with every row. float32 and int8 are exhaustive; binary
 * rescores the best of its signs, eight for each result and 64 at least. Equal scores come in the order of the index.
 *
 *     const index = new FlatIndex(kernels, 4);
 *     index.add(["east", "north"], [Float32Array.of(1, 0, 0, 0), Float32Array.of(0, 1, 0, 0)]);
 *     index.search(Float32Array.of(0.8, 0.6, 0, 0), { topK: 1 }); // [{ id: 0, text: "east", score: 0.8 }]
 */
export class FlatIndex {
  readonly dimension: number;
  readonly precision: IndexPrecision;
  readonly #rows: Rows;
  readonly #items: Item[] = [];
  readonly #places = new Map<ItemId, number>();
  #nextId = 0;

  /**
   * An empty index. `kernels` is the edge binary (or portable).
   * @throws RangeError for a dimension that is no whole number from 1 to 8192
   */
  constructor(
    kernels: WebAssembly.Module,
    dimension: number,
    precision: IndexPrecision = "float32",
  ) {
    if (!(Number.isInteger(dimension) && dimension >= 1 && dimension <= MOST_DIMENSIONS)) {
      throw new RangeError(
        `dimension ${dimension}: expected a whole number from 1 to ${MOST_DIMENSIONS}`,
      );
    }
    this.dimension = dimension;
    this.precision = precision;
    this.#rows = new Rows(kernels, dimension, precision);
  }

  /** Items in the index. */
  get size(): number {
    return this.#items.length;
  }

  /** Bytes of linear memory. */
  get bytes(): number {
    return this.#rows.bytes;
  }

  /** All items, in the order of the index. */
  get items(): readonly Item[] {
    return this.#items;
  }

  has(id: ItemId): boolean {
    return this.#places.has(id);
  }

  /**
   * Adds items with their vectors [items][dimension], all of them or, on an error, none.
   * @returns the ids
   * @throws RangeError for a vector of another size or with a component that is no number, an id that is taken, or more
   * vectors than items
   */
  add(items: readonly NewItem[], vectors: readonly Float32Array[]): ItemId[] {
    if (items.length !== vectors.length) {
      throw new RangeError(
        `expected a vector for each of ${items.length} items, found ${vectors.length}`,
      );
    }
    const fresh = new Set<ItemId>();
    let nextId = this.#nextId;
    const added = items.map((item, i): Item => {
      const { id = nextId, ...rest } = typeof item === "string" ? { text: item } : item;
      this.#expectVector(vectors[i]!, `vector ${i}`);
      if (this.has(id) || fresh.has(id)) {
        throw new RangeError(
          `id ${JSON.stringify(id)} is taken; remove it first, or choose another`,
        );
      }
      fresh.add(id);
      if (typeof id === "number") nextId = Math.max(nextId, id + 1);
      return { id, ...rest };
    });
    this.#rows.reserve(this.size + added.length);
    added.forEach((item, i) => {
      this.#rows.write(this.size, vectors[i]!);
      this.#append(item);
    });
    return added.map(({ id }) => id);
  }

  /**
   * Removes items and closes the gaps; the others keep their order.
   * @returns how many there were
   */
  remove(ids: Iterable<ItemId>): number {
    const gone = new Set<ItemId>();
    for (const id of ids) if (this.has(id)) gone.add(id);
    if (gone.size === 0) return 0;
    const items = this.#items.splice(0);
    this.#places.clear();
    items.forEach((item, row) => {
      if (gone.has(item.id)) return;
      if (row !== this.size) this.#rows.move(row, this.size);
      this.#append(item);
    });
    return gone.size;
  }

  /**
   * The best items for a query [dimension], best first.
   * @throws RangeError for a query of another size, or a topK that is no whole number from 1
   */
  search(
    query: Float32Array,
    { topK = 5, threshold = -Infinity, maxScore = Infinity, filter }: SearchOptions = {},
  ): SearchResult[] {
    if (!(topK >= 1 && (Number.isInteger(topK) || topK === Infinity))) {
      throw new RangeError(`topK ${topK}: expected a whole number from 1, or Infinity`);
    }
    this.#setQuery(query);
    const passes = (row: number): boolean => !filter || filter(this.#items[row]!);
    const best = new Best(topK, threshold, maxScore, passes);
    if (this.precision === "binary" && maxScore === Infinity) {
      const most = Math.max(RESCORE_FACTOR * topK, RESCORE_LEAST);
      const candidates = new Best(most, -Infinity, Infinity, passes);
      this.#rows.select("signs", 0, this.size, candidates);
      // In the order of rows, so that equal scores keep it.
      for (const { row } of candidates.take().toSorted((a, b) => a.row - b.row)) {
        this.#rows.select("values", row, row + 1, best);
      }
    } else {
      this.#rows.select("values", 0, this.size, best);
    }
    return best.take().map(({ row, score }) => ({ ...this.#items[row]!, score }));
  }

  /** Scores [size] of all items, in the order of the index; of a binary index those of its float32 rows. */
  scores(query: Float32Array): Float32Array {
    this.#setQuery(query);
    const all = new Float32Array(this.size);
    this.#rows.compare("values", 0, this.size, (scores, row) => all.set(scores, row));
    return all;
  }

  /**
   * Score of one item.
   * @throws RangeError for an id that is not in the index, or a query of another size
   */
  score(query: Float32Array, id: ItemId): number {
    this.#setQuery(query);
    const place = this.#place(id);
    let score = NaN;
    this.#rows.compare("values", place, place + 1, ([only]) => (score = only!));
    return score;
  }

  /**
   * The vector [dimension] of an item; of an int8 index as its codes have it.
   * @throws RangeError for an id that is not in the index
   */
  vector(id: ItemId): Float32Array {
    return this.#rows.read(this.#place(id));
  }

  /**
   * Items that nearly repeat one before them, with the first that they repeat and the score of the two. Removing them
   * leaves no pair of a score of `threshold` or more.
   *
   *     index.remove(index.dedupe().map(({ id }) => id));
   */
  dedupe({ threshold = 0.95 }: { threshold?: number } = {}): Duplicate[] {
    const duplicates = new Map<number, Duplicate>();
    this.#items.forEach(({ id: of }, first) => {
      if (duplicates.has(first)) return;
      this.#setQuery(this.vector(of));
      this.#rows.compare("values", first + 1, this.size, (scores, begin) => {
        for (let i = 0; i < scores.length; i++) {
          const score = scores[i]!;
          if (score < threshold || duplicates.has(begin + i)) continue;
          duplicates.set(begin + i, { id: this.#items[begin + i]!.id, of, score });
        }
      });
    });
    return [...duplicates].toSorted(([a], [b]) => a - b).map(([, duplicate]) => duplicate);
  }

  /**
   * Communities: the item with most neighbours (items of a score of `threshold` or more) takes them, then the next among
   * what is left, and so on. Largest first, the central item of each first; what has too few neighbours is in none.
   *
   *     index.cluster({ threshold: 0.8 }); // [[3, 1, 8], [0, 5]]
   */
  cluster({
    threshold = 0.75,
    minSize = 2,
  }: { threshold?: number; minSize?: number } = {}): ItemId[][] {
    const neighbours = (row: number, visit: (row: number) => void): void => {
      this.scores(this.vector(this.#items[row]!.id)).forEach((score, other) => {
        if (other === row || score >= threshold) visit(other);
      });
    };
    const counts = this.#items.map((_, row) => {
      let count = 0;
      neighbours(row, () => count++);
      return count;
    });
    const taken = new Uint8Array(this.size);
    const clusters: ItemId[][] = [];
    for (const row of counts
      .map((_, i) => i)
      .toSorted((i, j) => counts[j]! - counts[i]! || i - j)) {
      if (taken[row] || counts[row]! < minSize) continue;
      const members: number[] = [row];
      neighbours(row, (other) => {
        if (other !== row && !taken[other]) members.push(other);
      });
      if (members.length < minSize) continue;
      for (const member of members) taken[member] = 1;
      clusters.push(members.map((member) => this.#items[member]!.id));
    }
    return clusters.toSorted((a, b) => b.length - a.length);
  }

  /** The index as one safetensors file with a checksum; `parse` reads it. */
  async serialize(): Promise<Uint8Array<ArrayBuffer>> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.chunks(collectHash)) chunks.push(chunk);
    return concat(chunks);
  }

  /** The same file in chunks, each to be used before the index is changed. `newHash` gives SHA-256. */
  chunks(newHash: NewHash): AsyncGenerator<Uint8Array> {
    return writeIndexFile(this.#rows, this.#items, newHash);
  }

  /**
   * The index that `serialize` wrote, of bytes in memory or of a source that is read part by part. `file` names it in errors.
   * @throws FormatError for bytes that are damaged or no index
   */
  static async parse(
    kernels: WebAssembly.Module,
    bytes: Uint8Array | Source,
    file: string,
  ): Promise<FlatIndex> {
    const source = bytes instanceof Uint8Array ? memorySource(bytes) : bytes;
    const opened = await openIndexFile(source, file);
    const index = new FlatIndex(kernels, opened.dimension, opened.precision);
    for (const item of await opened.read(index.#rows)) index.#append(item);
    return index;
  }

  #append(item: Item): void {
    this.#places.set(item.id, this.#items.length);
    this.#items.push(item);
    if (typeof item.id === "number") this.#nextId = Math.max(this.#nextId, item.id + 1);
  }

  #place(id: ItemId): number {
    const place = this.#places.get(id);
    if (place === undefined) throw new RangeError(`id ${JSON.stringify(id)} is not in the index`);
    return place;
  }

  #setQuery(query: Float32Array): void {
    this.#expectVector(query, "query");
    this.#rows.setQuery(query);
  }

  #expectVector(vector: Float32Array, name: string): void {
    if (vector.length !== this.dimension) {
      throw new RangeError(
        `${name}: expected a vector of ${this.dimension}, found ${vector.length}`,
      );
    }
    const at = vector.findIndex((x) => !Number.isFinite(x));
    if (at < 0) return;
    throw new RangeError(`${name}: component ${at} is ${vector[at]}, expected a number`);
  }
}
