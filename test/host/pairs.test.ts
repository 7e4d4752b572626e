import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { parsePairs, sharedWords, wordOverlap } from "../../src/evaluate/pairs.ts";

describe("parsePairs", () => {
  it("reads score, sentence and sentence", () => {
    expect(parsePairs("4.5\tA man plays.\tA man is playing.\n0\tA cat.\tA plane.\n", "p")).toEqual({
      pairs: [
        { score: 4.5, a: "A man plays.", b: "A man is playing." },
        { score: 0, a: "A cat.", b: "A plane." },
      ],
      ungraded: 0,
    });
  });

  it("reads quoted fields and line ends of a .csv, in order or by its header", () => {
    const pairs = [
      { score: 4, a: 'He said "stop", twice', b: "two\nlines" },
      { score: 1, a: "c", b: "d" },
    ];
    const [a, b] = ['"He said ""stop"", twice"', '"two\nlines"'];
    expect(parsePairs(`4,${a},${b}\r\n\n1,c,d`, "p.csv").pairs).toEqual(pairs);
    const header = `id,Sentence2,sentence1,score\n7,${b},${a},4\n8,d,c,1\n`;
    expect(parsePairs(header, "p.csv").pairs).toEqual(pairs);
  });

  it("reads the objects of a .jsonl", () => {
    const text =
      '{"sentence1":"a","score":2.5,"sentence2":"b"}\n\n{"sentence1":"c","sentence2":"d"}\n';
    expect(parsePairs(text, "p.jsonl")).toEqual({
      pairs: [{ score: 2.5, a: "a", b: "b" }],
      ungraded: 1,
    });
  });

  it("reads MRPC and LCQMC as they are published", () => {
    const mrpc =
      '\uFEFFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tA "b.\tc\r\n0\t7\t9\td\te\r\n';
    const pairs = [
      { score: 1, a: 'A "b.', b: "c" },
      { score: 0, a: "d", b: "e" },
    ];
    expect(parsePairs(mrpc, "msr_paraphrase_test.txt").pairs).toEqual(pairs);
    const [header, rows] = ["text_a\ttext_b\tlabel\n", '大家 "好\t你好\t1\n问题\t答案\t0\n'];
    const chinese = [
      { score: 1, a: '大家 "好', b: "你好" },
      { score: 0, a: "问题", b: "答案" },
    ];
    expect(parsePairs(header + rows, "test.tsv").pairs).toEqual(chinese);
    expect(parsePairs(rows, "test.txt").pairs).toEqual(chinese);
    expect(parsePairs('{"label":1,"text_a":"a","text_b":"b"}', "p.jsonl.gz").pairs).toEqual([
      { score: 1, a: "a", b: "b" },
    ]);
  });

  it("leaves out rows without a score and counts them", () => {
    expect(parsePairs("1\ta\tb\n\tc\td\n \te\tf\n", "p").ungraded).toBe(2);
  });

  it("takes a quotation mark as text", () => {
    expect(parsePairs(`1\t"Stop" he said\tHe said "stop\n2\t"a\tb"`, "p").pairs).toEqual([
      { score: 1, a: `"Stop" he said`, b: `He said "stop` },
      { score: 2, a: `"a`, b: `b"` },
    ]);
  });

  it("accepts a byte order mark, CRLF, blank lines and a last line without an end", () => {
    expect(parsePairs("\uFEFF1\ta\tb\r\n\r\n  \r\n-2e-1\t c \td", "p").pairs).toEqual([
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
      "a header with other names",
      "grade\tleft\tright\n1\ta\tb",
      `p.tsv:1: the score must be a number, found "grade"; the fields are score, sentence, sentence`,
    ],
    [
      "a row cut off under a header",
      "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\ta\tb\n0\t7\t8\ta",
      "p.tsv:3: expected 5 fields with tabs between them (as the header has), found 4",
    ],
    [
      "no score at all",
      "\ta\tb",
      "p.tsv: expected graded pairs of sentences, found 1 rows, all without a score",
    ],
    ["a hexadecimal score", "0x5\ta\tb", /^p\.tsv:1: the score must be a number, found "0x5";/],
    ["an infinite score", "1e999\ta\tb", /^p\.tsv:1: the score must be a number, found "1e999";/],
    ["an empty first sentence", "1\t \tb", "p.tsv:1: the first sentence is empty; remove the line"],
    ["an empty last sentence", "1\ta\t", "p.tsv:1: the second sentence is empty; remove the line"],
    [
      "an empty file",
      "\uFEFF\r\n",
      "p.tsv: expected graded pairs of sentences, found none; the file is empty",
    ],
  ])("refuses %s with file and line", (_, text, message) => {
    const parse = (): unknown => parsePairs(text, "p.tsv");
    expect(parse).toThrow(FormatError);
    expect(parse).toThrow(
      typeof message === "string" ? expect.objectContaining({ message }) : message,
    );
  });

  it.each([
    [
      "p.csv",
      '1,a,b\n2,"c,d\n',
      /^p\.csv:2: a quotation mark that does not open and close its field/,
    ],
    ["p.csv", "1,a,b,c", /^p\.csv:1: expected 3 fields with commas between them/],
    ["p.jsonl", "{}", /^p\.jsonl:1: expected "score", "sentence1" and "sentence2"/],
    ["p.jsonl", '\n{"score":', /^p\.jsonl:2: expected a JSON object; /],
  ])("refuses a damaged %s with file and line", (name, text, message) => {
    expect(() => parsePairs(text, name)).toThrow(message);
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
          const { pairs: read } = parsePairs(text, "p");
          expect(read.map(({ a, b }) => [a, b])).toEqual(pairs.map(({ a, b }) => [a, b]));
          expect(read.every((pair, i) => pair.score === pairs[i]!.score)).toBe(true);
        },
      ),
    );
  });
});

describe("sharedWords", () => {
  it("is F1 of bags of words: each word as often as it is there", () => {
    expect(sharedWords("A man plays a guitar.", "a MAN plays the piano!")).toBe(6 / 10);
    expect(sharedWords("the the cat", "the dog")).toBe(2 / 5);
    expect(sharedWords("the cat", "the the the")).toBe(2 / 5);
    expect(sharedWords("one", "two")).toBe(0);
    expect(sharedWords("", "")).toBe(0);
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
    expect(wordOverlap("我喜欢猫 abc", "我喜欢狗 abc")).toBe(4 / 6);
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

describe("examples/order-negation.tsv", () => {
  const name = "examples/order-negation.tsv";
  const text = readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");
  const { pairs, ungraded } = parsePairs(text, name);
  const anchors = Map.groupBy(pairs, (pair) => pair.a);

  it("is balanced: 120 pairs above 3, 120 below, one of each for an anchor", () => {
    expect(ungraded).toBe(0);
    expect(pairs.filter((pair) => pair.score > 3)).toHaveLength(120);
    expect(pairs.filter((pair) => pair.score < 3)).toHaveLength(120);
    expect(anchors.size).toBe(120);
    for (const [anchor, [same, other, ...more]] of anchors) {
      expect([same!.score, more], anchor).toEqual([5, []]);
      expect([0, 1], anchor).toContain(other!.score);
    }
  });

  it("says nothing twice, in sentences of 5 to 15 words in ASCII", () => {
    const sentences = [...anchors.keys(), ...pairs.map((pair) => pair.b)];
    expect(new Set(sentences).size).toBe(360);
    for (const sentence of sentences) expect(sentence).toMatch(/^(?:[!-~]+ ){4,14}[!-~]+[.]$/);
  });

  it("has the same words in both sentences of the 60 contrasts of word order", () => {
    const bag = (sentence: string): string[] =>
      sentence
        .toLowerCase()
        .match(/[a-z']+/g)!
        .toSorted();
    const contrasts = pairs.filter((pair) => pair.score < 3).slice(0, 60);
    for (const { a, b } of contrasts) expect(bag(b), a).toEqual(bag(a));
  });

  it("has less word overlap in every paraphrase than in the contrast of its anchor", () => {
    for (const [anchor, [same, other]] of anchors) {
      const [low, high] = [same!, other!].map(({ a, b }) => wordOverlap(a, b));
      expect(low, anchor).toBeLessThan(high!);
    }
  });
});
