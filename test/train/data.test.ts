import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { trainWordPiece } from "../../src/tokenizer/wordpiece.ts";
import {
  BatchOrder,
  readSource,
  Sequences,
  type Source,
  type SourceOptions,
  batchesPerEpoch,
} from "../../src/train/data.ts";

const words = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split(" ");
const tokenizer = new Tokenizer(
  trainWordPiece([words.join(" "), words.join(" ")], { vocabSize: 100 }),
);

async function source(
  sentences: Sequences,
  cells: readonly (readonly string[])[],
  options: Partial<SourceOptions> = {},
  begins: readonly number[] = [],
) {
  const rows = cells.map((row, i) => ({ cells: row, begins: begins.includes(i) }));
  return readSource(rows, tokenizer, sentences, { name: "test", maxLength: 16, ...options });
}

describe("Sequences", () => {
  it("give equal sequences equal numbers, and each back as it was", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 6 })), (lists) => {
        const sequences = new Sequences();
        const numbers = lists.map((list) => sequences.add(list));
        const distinct = [...new Set(lists.map((list) => list.join()))];
        expect(numbers).toEqual(lists.map((list) => distinct.indexOf(list.join())));
        expect(numbers.map((number) => [...sequences.get(number)])).toEqual(lists);
        expect(sequences.size).toBe(distinct.length);
      }),
    );
  });

  it("grow to many sequences", () => {
    const sequences = new Sequences();
    for (let i = 0; i < 50_000; i++) sequences.add([i, i >> 3, 7]);
    expect(sequences.add([40_000, 5000, 7])).toBe(40_000);
    expect([...sequences.get(49_999)]).toEqual([49_999, 6249, 7]);
    expect(sequences.values.length).toBe(150_000);
  });
});

describe("a source", () => {
  it("reports rows that were dropped, cut, or are there already", async () => {
    const rows = [
      ["a", "b"],
      ["a", " "],
      ["b", "a"],
      ["a", "b"],
      ["c", words.join(" ")],
    ];
    const { report } = await source(new Sequences(), rows);
    expect(report).toEqual({ rows: 4, dropped: 1, truncated: 1, duplicates: 1 });
  });

  it("of neighbours pairs a sentence only with those that follow it in its document", async () => {
    const sentences = new Sequences();
    const { source: pairs, report } = await source(
      sentences,
      words.slice(0, 9).map((word) => [word]),
      { neighbours: 2 },
      [0, 4, 5],
    );
    // Documents: a b c d | e | f g h i
    expect(report).toEqual({ rows: 6, dropped: 3, truncated: 0, duplicates: 0 });
    const order = new BatchOrder(sentences, [pairs], 6, 1);
    const seen = new Set<string>();
    for (let step = 1; step <= 50; step++) {
      const { ids } = order.batch(step);
      for (let i = 0; i < 6; i++) seen.add(`${words[ids[i]!]}${words[ids[i + 6]!]}`);
    }
    expect(seen).toEqual(new Set("ab ac bc bd cd fg fh gh gi hi".split(" ")));
  });
});

describe("a batch", () => {
  it("of one column holds every sentence twice, of three anchors, positives and hard negatives", async () => {
    const sentences = new Sequences();
    const one = await source(sentences, [["a"], ["b"]]);
    const three = await source(sentences, [
      ["a", "b", "c"],
      ["a", "d", "c"],
    ]);
    const single = new BatchOrder(sentences, [one.source], 2, 1).batch(1);
    expect(single.columns).toBe(2);
    expect([...single.ids.subarray(2)]).toEqual([...single.ids.subarray(0, 2)]);
    const triplets = new BatchOrder(sentences, [three.source], 2, 1).batch(1);
    expect(triplets.columns).toBe(3);
    expect([...triplets.ids.subarray(0, 2)]).toEqual([0, 0]);
    expect(triplets.ids.subarray(2, 4).toSorted()).toEqual(Int32Array.of(1, 3));
    expect([...triplets.ids.subarray(4)]).toEqual([2, 2]);
    expect(triplets.sequences.map((tokens) => tokens[1])).toEqual(
      [...triplets.ids].map((id) => tokenizer.encode(words[id]!, 8).ids[1]),
    );
  });

  async function mixture(
    shares: readonly (number | undefined)[],
  ): Promise<{ sentences: Sequences; sources: Source[] }> {
    const sentences = new Sequences();
    const sources: Source[] = [];
    for (const [i, share] of shares.entries()) {
      const rows = words.slice(8 * i, 8 * i + (i === 0 ? 8 : 4)).map((word) => [word]);
      const options = { name: `source ${i}`, ...(share !== undefined && { share }) };
      sources.push((await source(sentences, rows, options)).source);
    }
    return { sentences, sources };
  }

  it("is a pure function of seed and step, whatever was asked before", async () => {
    const { sentences, sources } = await mixture([0.7, 0.3]);
    const inOrder = new BatchOrder(sentences, sources, 3, 5);
    const batches = Array.from({ length: 40 }, (_, i) => inOrder.batch(i + 1));
    const jumping = new BatchOrder(sentences, sources, 3, 5);
    for (const step of [40, 7, 8, 1, 39, 22]) {
      expect(jumping.batch(step)).toEqual(batches[step - 1]);
    }
    const other = new BatchOrder(sentences, sources, 3, 6);
    const others = batches.map((_, i) => other.batch(i + 1));
    expect(others).not.toEqual(batches);
  });

  it("is of one source, drawn by its share", async () => {
    const { sentences, sources } = await mixture([7, 3]);
    const order = new BatchOrder(sentences, sources, 2, 1);
    const first = Array.from({ length: 4000 }, (_, i) => order.batch(i + 1).source).filter(
      (name) => name === "source 0",
    ).length;
    expect(first / 4000).toBeCloseTo(0.7, 1);
  });

  it("without shares comes as often as its source has batches, and an epoch has all of them", async () => {
    const { sentences, sources } = await mixture([undefined, undefined]);
    expect(batchesPerEpoch(sources, 2)).toBe(6);
    const order = new BatchOrder(sentences, sources, 2, 1);
    const first = Array.from({ length: 3000 }, (_, i) => order.batch(i + 1).source).filter(
      (name) => name === "source 0",
    ).length;
    expect(first / 3000).toBeCloseTo(4 / 6, 1);
  });

  it("takes every row once before any comes again, also within a mixture", async () => {
    const { sentences, sources } = await mixture([0.5, 0.5]);
    const order = new BatchOrder(sentences, sources, 2, 9);
    const seen = [[], []] as number[][];
    for (let step = 1; step <= 60; step++) {
      const { ids, source: name } = order.batch(step);
      seen[Number(name.at(-1))]!.push(...ids.subarray(0, 2));
    }
    for (const [i, rows] of [8, 4].entries()) {
      for (let at = 0; at + rows <= seen[i]!.length; at += rows) {
        expect(new Set(seen[i]!.slice(at, at + rows)).size).toBe(rows);
      }
    }
  });

  it("of a source smaller than a batch is all of it", async () => {
    const { sentences, sources } = await mixture([undefined]);
    expect(new BatchOrder(sentences, sources, 100, 1).batch(3).sequences.length).toBe(16);
  });
});
