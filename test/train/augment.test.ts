import { describe, expect, it } from "vitest";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { trainWordPiece } from "../../src/tokenizer/wordpiece.ts";
import { parseAugmentation, parseSynonyms, planAugmentation } from "../../src/train/augment.ts";
import { BatchOrder, readSource, Sequences } from "../../src/train/data.ts";
import { RandomStream } from "../../src/train/random.ts";

const tokenizer = new Tokenizer(
  trainWordPiece(["one two six ten one two six ten", "one two six ten a b c d e f"], {
    vocabSize: 200,
  }),
);
const ids = (text: string): Int32Array<ArrayBuffer> =>
  Int32Array.from(tokenizer.encode(text, 32).ids);
const pieces = new Map(
  tokenizer.pieces("one two six ten a b c d e f").map(({ id, text }) => [id, text]),
);
const textOf = (tokens: Int32Array): string =>
  [...tokens.subarray(1, -1)].map((id) => pieces.get(id) ?? `<${id}>`).join(" ");

/** What a hundred streams make of a text. */
function forms(spec: string, text: string, synonyms = ""): Int32Array[] {
  const known = parseSynonyms(synonyms, "synonyms.tsv", tokenizer);
  const change = planAugmentation(parseAugmentation(spec), tokenizer, 32, { synonyms: known });
  return Array.from({ length: 100 }, (_, i) => change(ids(text), new RandomStream(1, 5, i)));
}

const TEN = "one two six ten a b c d e f";

describe("an augmentation", () => {
  it("keeps the special tokens, and never makes a sentence empty", () => {
    for (const spec of ["crop:90", "delete:99", "delete-one", "mask:99"]) {
      for (const form of [...forms(spec, "one"), ...forms(spec, TEN)]) {
        expect(form[0]).toBe(tokenizer.clsId);
        expect(form.at(-1)).toBe(tokenizer.sepId);
        expect(form.length).toBeGreaterThan(2);
      }
    }
    const crop = planAugmentation(parseAugmentation("crop:50"), tokenizer, 32);
    expect([...crop(ids(""), new RandomStream(1, 5, 0))]).toEqual([...ids("")]);
  });

  it("crop:20 keeps a contiguous span of eight words of ten, from each place there is", () => {
    const found = new Set(forms("crop:20", TEN).map(textOf));
    const words = TEN.split(" ");
    expect(found).toEqual(new Set([0, 1, 2].map((i) => words.slice(i, i + 8).join(" "))));
  });

  it("delete:30 keeps seven words of ten in their order, delete-one nine", () => {
    for (const [spec, left] of [
      ["delete:30", 7],
      ["delete-one", 9],
    ] as const) {
      const found = forms(spec, TEN).map((form) => textOf(form).split(" "));
      for (const words of found) {
        expect(words.length).toBe(left);
        expect(TEN.split(" ").filter((word) => words.includes(word))).toEqual(words);
      }
      expect(new Set(found.map(String)).size).toBeGreaterThan(left === 9 ? 9 : 30);
    }
  });

  it("treats the pieces of a word as one", () => {
    const word = ids("oxenix"); // no word of the vocabulary: o ##x ##e ##n ##i ##x
    expect(word.length).toBeGreaterThan(3);
    const found = new Set(forms("delete-one", "a oxenix").map((form) => [...form].join()));
    expect(found).toEqual(new Set([ids("a"), word].map((form) => [...form].join())));
  });

  it("synonym replaces one known word by one of its synonyms, within the maximum length", () => {
    const found = new Set(forms("synonym:x", "one a b", "one\ttwo\tsix ten\n\nb\tc\n").map(textOf));
    expect(found).toEqual(new Set(["two a b", "six ten a b", "one a c"]));
    expect(new Set(forms("synonym:x", "a d", "one\ttwo").map(textOf))).toEqual(new Set(["a d"]));
    const known = parseSynonyms("one\ta b c d", "synonyms.tsv", tokenizer);
    const spec = parseAugmentation("synonym:x");
    const tight = planAugmentation(spec, tokenizer, 5, { synonyms: known });
    expect(textOf(tight(ids("one two"), new RandomStream(1, 5, 0)))).toBe("a b c");
  });

  it("mask:20 puts [MASK] in place of two tokens of ten", () => {
    for (const form of forms("mask:20", TEN)) {
      expect(form.length).toBe(12);
      expect(form.filter((id) => id === tokenizer.maskId).length).toBe(2);
    }
  });

  it("that is unknown or of no percentage says what there is", () => {
    for (const text of ["crop", "crop:0", "mask:100", "delete:x", "shuffle:10", "synonym:"]) {
      expect(() => parseAugmentation(text)).toThrow(
        /--augment .*expected one of crop:10, delete:10/,
      );
    }
    expect(() => parseSynonyms("a\tb\none two\tsix", "s.tsv", tokenizer)).toThrow(
      /s.tsv:2: expected/,
    );
    expect(() => parseSynonyms("a", "s.tsv", tokenizer)).toThrow(/s.tsv:1: expected a word, a tab/);
  });
});

describe("mlm:20", () => {
  it("asks for two words of ten, by a copy that has [MASK] there, and keeps the others", () => {
    const asked: [Int32Array, readonly number[]][] = [];
    const fill = (masked: Int32Array, places: readonly number[]): number[] => {
      asked.push([masked.slice(), places]);
      return places.map((place) => 1000 + place);
    };
    const change = planAugmentation(parseAugmentation("mlm:20"), tokenizer, 32, { fill });
    const before = ids(TEN);
    for (let i = 0; i < 20; i++) {
      const after = change(ids(TEN), new RandomStream(1, 5, i));
      const [masked, places] = asked.at(-1)!;
      expect(places.length).toBe(2);
      before.forEach((id, place) => {
        const chosen = places.includes(place);
        expect(masked[place]).toBe(chosen ? tokenizer.maskId : id);
        expect(after[place]).toBe(chosen ? 1000 + place : id);
      });
    }
    expect(new Set(asked.map(([, places]) => places.join())).size).toBeGreaterThan(5);
  });
});

describe("a batch", () => {
  const batches = async (seed: number, cells: readonly string[][]) => {
    const sentences = new Sequences();
    const rows = cells.map((row) => ({ cells: row, begins: false }));
    const { source } = await readSource(rows, tokenizer, sentences, { name: "t", maxLength: 32 });
    const change = planAugmentation(parseAugmentation("delete-one"), tokenizer, 32);
    return new BatchOrder(sentences, [source], cells.length, seed, { augmentation: change });
  };

  it("changes positives alone, by seed and step alone", async () => {
    const order = await batches(3, [[TEN], ["one two six"]]);
    const first = order.batch(1);
    expect(first.sequences.map(({ length }) => length).toSorted((a, b) => a - b)).toEqual([
      4, 5, 11, 12,
    ]);
    expect(
      [first.sequences[0]!.length, first.sequences[1]!.length].toSorted((a, b) => a - b),
    ).toEqual([5, 12]);
    expect([...first.ids.subarray(0, 2)]).toEqual([...first.ids.subarray(2)]);
    const later = order.batch(9);
    expect(later.sequences).not.toEqual(first.sequences);
    expect(order.batch(1)).toEqual(first);
  });

  it("of pairs is left as it is", async () => {
    const order = await batches(3, [
      [TEN, TEN],
      ["one two", "six ten"],
    ]);
    expect(
      order
        .batch(1)
        .sequences.map(({ length }) => length)
        .toSorted((a, b) => a - b),
    ).toEqual([4, 4, 12, 12]);
  });
});
