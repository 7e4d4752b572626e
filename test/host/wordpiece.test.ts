import fc from "fast-check";
import { expect, test } from "vitest";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { type TokenizerJson, trainWordPiece } from "../../src/tokenizer/wordpiece.ts";

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

function piecesOf(json: TokenizerJson): string[] {
  const byId = Object.entries(json.model.vocab).toSorted(([, a], [, b]) => a - b);
  return byId.map(([piece]) => piece);
}

/** The pieces of a text, without [CLS] and [SEP]. */
function split(json: TokenizerJson, text: string): string[] {
  const pieces = piecesOf(json);
  const { ids } = new Tokenizer(json).encode(text, 10_000);
  return Array.from(ids.subarray(1, -1), (id) => pieces[id]!);
}

function sorted(symbols: readonly string[]): string[] {
  return [...new Set(symbols)].toSorted();
}

/** Byte-pair encoding as one would explain it: count all pairs of all words, merge the best, start again. */
function rescan(words: readonly string[], vocabSize: number, minFrequency: number): string[] {
  let spelled = words.map((text) => Array.from(text, (char, i) => (i === 0 ? char : `##${char}`)));
  const pieces = [
    ...SPECIAL,
    ...sorted(words.flatMap((text) => Array.from(text))),
    ...sorted(spelled.flatMap((symbols) => symbols.slice(1))),
  ];
  while (pieces.length < vocabSize) {
    const counts = new Map<string, number>();
    for (const symbols of spelled) {
      for (let i = 1; i < symbols.length; i++) {
        const pair = `${symbols[i - 1]} ${symbols[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const order = (pair: string): number[] => pair.split(" ").map((piece) => pieces.indexOf(piece));
    const [best] = [...counts].toSorted(([a, x], [b, y]) => {
      const [left, right] = [order(a), order(b)];
      return y - x || left[0]! - right[0]! || left[1]! - right[1]!;
    });
    if (best === undefined || best[1] < minFrequency) break;
    const [left, right] = best[0].split(" ") as [string, string];
    const merged = left + right.slice(2);
    if (!pieces.includes(merged)) pieces.push(merged);
    spelled = spelled.map((symbols) => {
      const next: string[] = [];
      for (let i = 0; i < symbols.length; i++) {
        const hit = symbols[i] === left && symbols[i + 1] === right;
        next.push(hit ? merged : symbols[i]!);
        if (hit) i++;
      }
      return next;
    });
  }
  return pieces;
}

const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 9 });

test("incremental counts learn the same pieces, in the same order, as counting anew for every merge", () => {
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 11, max: 60 }),
      fc.integer({ min: 1, max: 4 }),
      (words, vocabSize, minFrequency) => {
        const json = trainWordPiece([words.join(" ")], { vocabSize, minFrequency });
        expect(piecesOf(json)).toEqual(rescan(words, vocabSize, minFrequency));
      },
    ),
  );
});

test("special tokens have the ids 0 to 4, and ids are 0 to the size of the vocabulary less one", () => {
  const json = trainWordPiece(["low lower lowest", "new newer newest"], { vocabSize: 40 });
  expect(piecesOf(json).slice(0, 5)).toEqual(SPECIAL);
  expect(Object.values(json.model.vocab).toSorted((a, b) => a - b)).toEqual(
    piecesOf(json).map((_, id) => id),
  );
  expect(json.added_tokens.map(({ content, id }) => [content, id])).toEqual(
    SPECIAL.map((content, id) => [content, id]),
  );
});

test("the most frequent pair is merged first, and the older pieces first among equals", () => {
  const json = trainWordPiece(["hug pug pun bun hugs hug"], { vocabSize: 17, minFrequency: 2 });
  // Initials b g h n p s u, continuations ##g ##n ##s ##u; then u+g of hug hug hugs pug.
  expect(piecesOf(json).slice(5)).toEqual([
    "b",
    "g",
    "h",
    "n",
    "p",
    "s",
    "u",
    "##g",
    "##n",
    "##s",
    "##u",
    "##ug",
  ]);
});

test("the vocabulary does not depend on the order of the lines", () => {
  const lines = fc.array(fc.array(word, { maxLength: 8 }), { minLength: 2, maxLength: 12 });
  fc.assert(
    fc.property(lines, (sentences) => {
      const texts = sentences.map((words) => words.join(" "));
      const forward = trainWordPiece(texts, { vocabSize: 50 });
      expect(trainWordPiece(texts.toReversed(), { vocabSize: 50 })).toEqual(forward);
    }),
  );
});

test("every trained vocabulary encodes its own corpus without [UNK] when the alphabet is not cut", () => {
  const line = fc.string({ unit: "binary", maxLength: 60 });
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), fc.boolean(), (lines, lowercase) => {
      const json = trainWordPiece(lines, { vocabSize: 1000, lowercase });
      for (const text of lines) expect(split(json, text)).not.toContain("[UNK]");
    }),
  );
});

test("training splits words as the tokenizer does: accents, CJK, punctuation, control characters", () => {
  const text =
    "Crème BRÛLÉE, naïve—C'est 漢字カナ a\u0000b\u200Dc\tx\u00AD! $5 (e.g.\u00A0ΣΊΣΥΦΟΣ)\uFFFD";
  const words = ["creme", "brulee", ",", "naive", "—", "c", "'", "est", "漢", "字", "カナ", "abc"];
  words.push("x", "!", "$", "5", "(", "e", ".", "g", ".", "σισυφος", ")");
  expect(split(trainWordPiece([text], { vocabSize: 500, minFrequency: 1 }), text)).toEqual(words);
});

test("a cased vocabulary keeps capitals and accents", () => {
  const json = trainWordPiece(["Crème CRÈME"], {
    vocabSize: 100,
    minFrequency: 1,
    lowercase: false,
  });
  expect(split(json, "Crème CRÈME")).toEqual(["Crème", "CRÈME"]);
  expect(json.normalizer.lowercase).toBe(false);
});

test("the alphabet is the 500 most frequent characters, and words with others teach nothing", () => {
  const rare = Array.from({ length: 600 }, (_, i) => String.fromCodePoint(0x4e00 + i)).join("");
  const json = trainWordPiece([rare, "aaaa ".repeat(9)], { vocabSize: 600 });
  expect(piecesOf(json)).toHaveLength(5 + 500 + "##a aa aaaa".split(" ").length + 1);
  expect(split(json, "aaaa")).toEqual(["aaaa"]);
  expect(split(json, String.fromCodePoint(0x4e00 + 599))).toEqual(["[UNK]"]);
});

test("pairs rarer than minFrequency are not merged", () => {
  const json = trainWordPiece(["ab ab cd"], { vocabSize: 100, minFrequency: 2 });
  expect(piecesOf(json)).toContain("ab");
  expect(piecesOf(json)).not.toContain("cd");
});

test("progress ends with the number of pieces", () => {
  const reports: [number, number][] = [];
  const json = trainWordPiece(["progress in small pieces ".repeat(3)], {
    vocabSize: 500,
    onProgress: (pieces, vocabSize) => reports.push([pieces, vocabSize]),
  });
  expect(reports.at(-1)).toEqual([piecesOf(json).length, 500]);
});

test("a vocabulary too small for the single characters is a RangeError that says how large it must be", () => {
  expect(() => trainWordPiece(["abc"], { vocabSize: 9 })).toThrow(
    "vocabSize 9: expected a whole number of at least 10",
  );
  expect(() => trainWordPiece(["abc"], { vocabSize: 20.5 })).toThrow(RangeError);
  expect(() => trainWordPiece(["abc"], { vocabSize: 20, minFrequency: 0 })).toThrow(
    "minFrequency 0: expected a whole number of at least 1",
  );
});
