/**
 * A stand-in for an index of Vectorize that does what its documentation says, as far as documents use it: limits, an error for
 * the whole call past one, changes in their order that are seen later, scores by cosine, filters before the best are taken,
 * by metadata indexes that were made before. Numbers of errors are made up, but for 40007.
 * https://developers.cloudflare.com/vectorize/
 */
import type { Filter } from "../../worker/documents/filter.ts";
import type { VectorizeIndex } from "../../worker/documents/vectorize.ts";

interface Vector {
  readonly id: string;
  readonly values: readonly number[];
  readonly namespace?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}
type Values = string | number | boolean;

const bytes = (text: string): number => Buffer.byteLength(text);
function expect(holds: boolean, operation: string, code: number, problem: string): void {
  if (!holds) throw new Error(`VECTOR_${operation}_ERROR (code = ${code}): ${problem}`);
}

export class FakeVectorize implements VectorizeIndex {
  readonly #dimensions: number;
  readonly #indexed: ReadonlySet<string>;
  readonly #vectors = new Map<string, Vector>();
  #queue: (() => void)[] = [];
  #mutations = 0;
  /** How many ids or vectors came with each change. */
  readonly batches: number[] = [];

  /** `indexed` are the properties that have a metadata index: ten at most. */
  constructor(dimensions: number, indexed: readonly string[]) {
    expect(dimensions <= 1536, "CREATE", 40001, "more than 1536 dimensions");
    expect(indexed.length <= 10, "CREATE", 40002, "more than 10 metadata indexes");
    this.#dimensions = dimensions;
    this.#indexed = new Set(indexed);
  }

  /** Lets all changes so far be seen. */
  settle(): void {
    for (const change of this.#queue.splice(0)) change();
  }

  async upsert(vectors: readonly Vector[]): Promise<{ mutationId: string }> {
    // A binding sends JSON.
    const sent = vectors.map((vector) => JSON.parse(JSON.stringify(vector)) as Vector);
    expect(sent.length >= 1 && sent.length <= 1000, "UPSERT", 40003, `${sent.length} vectors`);
    for (const { id, values, namespace = "", metadata = {} } of sent) {
      expect(id !== "" && bytes(id) <= 64, "UPSERT", 40008, "an id of more than 64 bytes");
      expect(bytes(namespace) <= 64, "UPSERT", 40009, "a namespace of more than 64 bytes");
      expect(values.length === this.#dimensions, "UPSERT", 40012, `${values.length} dimensions`);
      expect(values.every(Number.isFinite), "UPSERT", 40013, "a value that is no number");
      const size = bytes(JSON.stringify(metadata));
      expect(size <= 10 * 1024, "UPSERT", 40011, `${size} bytes of metadata`);
      for (const [key, value] of Object.entries(metadata)) expectValue(key, value, true);
    }
    return this.#later(sent.length, () => {
      for (const vector of sent) this.#vectors.set(vector.id, vector);
    });
  }

  async deleteByIds(ids: readonly string[]): Promise<{ mutationId: string }> {
    expect(ids.length <= 100, "DELETE", 40007, `too many ids: at most 100, got ${ids.length}`);
    return this.#later(ids.length, () => {
      for (const id of ids) this.#vectors.delete(id);
    });
  }

  async getByIds(ids: readonly string[]): Promise<Vector[]> {
    expect(ids.length <= 20, "GET", 40007, `too many ids: at most 20, got ${ids.length}`);
    return ids.flatMap((id) => this.#vectors.get(id) ?? []);
  }

  async query(
    vector: readonly number[],
    options: Parameters<VectorizeIndex["query"]>[1],
  ): ReturnType<VectorizeIndex["query"]> {
    const { topK, namespace, returnValues, returnMetadata, filter = {} } = options;
    expect(vector.length === this.#dimensions, "QUERY", 40006, `${vector.length} dimensions`);
    const most = returnValues || returnMetadata === "all" ? 20 : 100;
    expect(topK >= 1 && topK <= most, "QUERY", 40025, `topK ${topK}, at most ${most}`);
    expect(bytes(JSON.stringify(filter)) < 2048, "QUERY", 40026, "a filter of 2048 bytes");
    for (const field of Object.keys(filter)) {
      expect(this.#indexed.has(field), "QUERY", 40027, `no metadata index of ${field}`);
    }
    const matches = Array.from(this.#vectors.values())
      .filter((stored) => stored.namespace === namespace)
      .filter(({ metadata = {} }) =>
        Object.entries(filter).every(([field, condition]) =>
          meets(propertyOf(metadata, field), condition),
        ),
      )
      .map(({ values, ...stored }) => ({ ...stored, score: cosine(values, vector) }))
      .toSorted((a, b) => b.score - a.score)
      .slice(0, topK);
    return { matches };
  }

  #later(size: number, change: () => void): { mutationId: string } {
    this.batches.push(size);
    this.#queue.push(change);
    return { mutationId: `mutation ${++this.#mutations}` };
  }
}

function expectValue(key: string, value: unknown, outermost: boolean): void {
  const name = key !== "" && !key.startsWith("$") && !/["|.]/.test(key);
  expect(name && key.length <= 512, "UPSERT", 40014, "a key that is none");
  if (["string", "number", "boolean"].includes(typeof value)) return;
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return;
  const object = typeof value === "object" && value !== null && !Array.isArray(value);
  expect(object && outermost, "UPSERT", 40015, "a value of metadata that is none");
  for (const [inner, entry] of Object.entries(value as object)) expectValue(inner, entry, false);
}

/** What a metadata index has of a field: scalars only, and of strings the first 64 bytes. */
function propertyOf(
  metadata: Readonly<Record<string, unknown>>,
  field: string,
): Values | undefined {
  let value: unknown = metadata;
  for (const key of field.split(".")) value = (value as Record<string, unknown> | undefined)?.[key];
  if (typeof value === "string") return Buffer.from(value).subarray(0, 64).toString();
  return typeof value === "number" || typeof value === "boolean" ? value : undefined;
}

function meets(value: Values | undefined, condition: Filter[string]): boolean {
  if (typeof condition !== "object") return value === condition;
  return Object.entries(condition).every(([operator, operand]) => {
    if (operator === "$in") return (operand as unknown[]).includes(value);
    if (operator === "$nin") return !(operand as unknown[]).includes(value);
    if (operator === "$eq") return value === operand;
    if (operator === "$ne") return value !== operand;
    if (value === undefined || typeof value !== typeof operand) return false;
    if (operator === "$lt") return value < operand;
    if (operator === "$lte") return value <= operand;
    if (operator === "$gt") return value > operand;
    expect(operator === "$gte", "QUERY", 40028, "an operator that is none");
    return value >= operand;
  });
}

function cosine(a: readonly number[], b: readonly number[]): number {
  const dot = a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  return dot / (Math.hypot(...a) * Math.hypot(...b));
}
