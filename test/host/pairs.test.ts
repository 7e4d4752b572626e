import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { parsePairs, wordOverlap } from "../../src/evaluate/pairs.ts";

describe("parsePairs", () => {
  it("reads score, sentence and sentence", () => {
    expect(parsePairs("4.5\tA man plays.\tA man is playing.\n0\tA cat.\tA plane.\n", "p")).toEqual([
      { score: 4.5, a: "A man plays.", b: "A man is playing." },
      { score: 0, a: "A cat.", b: "A plane." },
    ]);
  });

  it("takes a quotation mark as text", () => {
    expect(parsePairs(`1\t"Stop" he said\tHe said "stop\n2\t"a\tb"`, "p")).toEqual([
      { score: 1, a: `"Stop" he said`, b: `He said "stop` },
      { score: 2, a: `"a`, b: `b"` },
    ]);
  });

  it("accepts a byte order mark, CRLF, blank lines and a last line without an end", () => {
    expect(parsePairs("\uFEFF1\ta\tb\r\n\r\n  \r\n-2e-1\t c \td", "p")).toEqual([
      { score: 1, a: "a", b: "b" },
      { score: -0.2, a: "c", b: "d" },
    ]);
  });

  it.each([
    [
      "two fields",
      "1\ta\tb\n\n2\tc",
      "p.tsv:3: expected 3 fields with tabs between them (score, sentence, sentence), found 2",
    ],
    [
      "four fields",
      "1\ta\tb\tc",
      "p.tsv:1: expected 3 fields with tabs between them (score, sentence, sentence), found 4",
    ],
    [
      "a header",
      "score\tsentence1\tsentence2\n1\ta\tb",
      `p.tsv:1: the score must be a number, found "score"; a table has no header, and its first field is the score`,
    ],
    ["no score", "\ta\tb", /^p\.tsv:1: the score must be a number, found "";/],
    ["tabs alone", "1\ta\tb\n\t\t", /^p\.tsv:2: the score must be a number, found "";/],
    ["a hexadecimal score", "0x5\ta\tb", /^p\.tsv:1: the score must be a number, found "0x5";/],
    ["an infinite score", "1e999\ta\tb", /^p\.tsv:1: the score must be a number, found "1e999";/],
    ["an empty first sentence", "1\t \tb", "p.tsv:1: the first sentence is empty; remove the line"],
    ["an empty last sentence", "1\ta\t", "p.tsv:1: the second sentence is empty; remove the line"],
    [
      "an empty file",
      "\uFEFF\r\n",
      "p.tsv: expected lines of score, sentence, sentence, found none; the file is empty",
    ],
  ])("refuses %s with file and line", (_, text, message) => {
    const parse = (): unknown => parsePairs(text, "p.tsv");
    expect(parse).toThrow(FormatError);
    expect(parse).toThrow(
      typeof message === "string" ? expect.objectContaining({ message }) : message,
    );
  });

  it("inverts writing, for any sentences without tabs and line ends", () => {
    const sentence = fc
      .string({ unit: "grapheme" })
      .map((text) => text.replace(/[\t\r\n]/g, "").trim())
      .filter((text) => text !== "");
    const score = fc.double({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(
        fc.array(fc.record({ score, a: sentence, b: sentence }), { minLength: 1 }),
        (pairs) => {
          const text = pairs.map((pair) => `${pair.score}\t${pair.a}\t${pair.b}\n`).join("");
          const read = parsePairs(text, "p");
          expect(read.map(({ a, b }) => [a, b])).toEqual(pairs.map(({ a, b }) => [a, b]));
          expect(read.every((pair, i) => pair.score === pairs[i]!.score)).toBe(true);
        },
      ),
    );
  });
});

describe("wordOverlap", () => {
  it("is the words in common over the words of both", () => {
    expect(wordOverlap("A man plays a guitar.", "a MAN plays the piano!")).toBe(3 / 6);
    expect(wordOverlap("one two", "three")).toBe(0);
    expect(wordOverlap("Don't stop 2 day", "don t stop 2 day")).toBe(1);
  });

  it("knows letters, marks and digits of any script", () => {
    expect(wordOverlap("Äpfel & Öl", "äpfel, öl")).toBe(1);
    expect(wordOverlap("हिन्दी भाषा", "हिन्दी")).toBe(1 / 2);
    expect(wordOverlap("Привет, мир", "привет")).toBe(1 / 2);
  });

  it("is 0 where there are no words", () => {
    expect(wordOverlap("!!!", "!!!")).toBe(0);
    expect(wordOverlap("", "word")).toBe(0);
  });

  it("is symmetric, within [0, 1], and 1 of a sentence with itself", () => {
    fc.assert(
      fc.property(fc.lorem(), fc.lorem(), (a, b) => {
        expect(wordOverlap(a, b)).toBe(wordOverlap(b, a));
        expect(wordOverlap(a, b)).toBeGreaterThanOrEqual(0);
        expect(wordOverlap(a, b)).toBeLessThanOrEqual(1);
        expect(wordOverlap(a, a)).toBe(1);
      }),
    );
  });
});
