import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { trainWordPiece } from "../../src/tokenizer/wordpiece.ts";

const json = trainWordPiece(
  [
    "the low tower is lower than the lowest of the towers",
    "she sells sea shells by the sea shore, and the shells she sells are sea shells",
  ],
  { vocabSize: 80 },
);
const tokenizer = new Tokenizer(json);
const { vocab } = json.model;
const ids = (text: string, maxLength = 1000): number[] => [
  ...tokenizer.encode(text, maxLength).ids,
];

/** Greedy longest match, word by word, as Schuster and Nakajima describe it. */
function greedy(words: readonly string[]): number[] {
  return words.flatMap((word) => {
    const pieces: number[] = [];
    for (let start = 0, end; start < word.length; start = end) {
      const piece = (to: number): string => (start === 0 ? "" : "##") + word.slice(start, to);
      for (end = word.length; end > start && vocab[piece(end)] === undefined;) end--;
      if (end === start) return [vocab["[UNK]"]!];
      pieces.push(vocab[piece(end)]!);
    }
    return pieces;
  });
}

const word = fc.string({
  unit: fc.constantFrom(..."t h e l o w r s a n z".split(" ")),
  minLength: 1,
  maxLength: 12,
});
const words = fc.array(word, { maxLength: 20 });

test("ids are the same as a greedy longest-match oracle", () => {
  fc.assert(
    fc.property(words, (list) => {
      expect(ids(list.join(" "))).toEqual([2, ...greedy(list), 3]);
    }),
  );
});

test("truncation cuts the text, keeps [CLS] first and [SEP] last, and reports the whole length", () => {
  fc.assert(
    fc.property(words, fc.integer({ min: 2, max: 30 }), (list, maxLength) => {
      const whole = ids(list.join(" "));
      const cut = tokenizer.encode(list.join(" "), maxLength);
      const expected =
        whole.length > maxLength ? [...whole.slice(0, maxLength - 1), tokenizer.sepId] : whole;
      expect([...cut.ids]).toEqual(expected);
      expect(cut.length).toBe(whole.length);
      expect(cut.truncated).toBe(whole.length > maxLength);
    }),
  );
});

test("every string has an encoding: empty, blank, NUL, lone surrogates, any code units", () => {
  expect(ids("")).toEqual([2, 3]);
  expect(ids(" \t\r\n\u0000\uFEFF")).toEqual([2, 3]);
  expect(ids("\uD800the\uDC00\u0000 sea\uDFFF")).toEqual(ids("the sea"));
  const units = fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 80 });
  fc.assert(
    fc.property(units, (codes) => {
      const list = ids(String.fromCharCode(...codes));
      expect(list.every((id) => id >= 0 && id < tokenizer.vocabSize)).toBe(true);
      expect([list[0], list.at(-1)]).toEqual([2, 3]);
    }),
  );
});

test("a very long text is read only as far as its tokens need", () => {
  const encoding = tokenizer.encode("the sea ".repeat(100_000), 8);
  expect([...encoding.ids]).toEqual(ids("the sea the sea the sea", 8));
  expect(encoding.truncated).toBe(true);
  expect(encoding.length).toBeLessThan(1000);
});

test("cutting a very long text by characters never changes its ids", () => {
  const maxLength = 4;
  const gap = fc.constantFrom("", " ", "\u0000".repeat(300), " ".repeat(900), "a".repeat(150), "z");
  const parts = fc.array(fc.tuple(word, gap), { minLength: 20, maxLength: 200 });
  fc.assert(
    fc.property(parts, (list) => {
      const text = list.flat().join("");
      const whole = ids(text, text.length + 2);
      const cut = tokenizer.encode(text, maxLength);
      const expected = whole.length > maxLength ? [...whole.slice(0, maxLength - 1), 3] : whole;
      expect([...cut.ids]).toEqual(expected);
      expect(cut.truncated).toBe(whole.length > maxLength);
    }),
  );
});

test("a vocabulary survives JSON, and its special ids are those of the file", () => {
  const parsed = new Tokenizer(JSON.parse(JSON.stringify(json)) as object);
  expect(parsed.encode("the lowest shore", 16)).toEqual(tokenizer.encode("the lowest shore", 16));
  expect(parsed).toMatchObject({ padId: 0, unkId: 1, clsId: 2, sepId: 3, maskId: 4 });
  expect(parsed.vocabSize).toBe(Object.keys(vocab).length);
});

const roberta = {
  added_tokens: ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map((content, id) => ({
    id,
    content,
    special: true,
    normalized: false,
  })),
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
  post_processor: { type: "RobertaProcessing", sep: ["</s>", 2], cls: ["<s>", 0] },
  decoder: { type: "ByteLevel" },
  model: {
    type: "BPE",
    unk_token: "<unk>",
    vocab: { "<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, a: 5, b: 6, Ġ: 7, ab: 8 },
    merges: ["a b"],
  },
};

test("a RoBERTa tokenizer is framed by <s> and </s>", () => {
  const bpe = new Tokenizer(roberta);
  expect([...bpe.encode("ab ba\uD800", 16).ids].slice(0, 5)).toEqual([0, 8, 7, 6, 5]);
  expect([...bpe.encode("ab ba", 4).ids]).toEqual([0, 8, 7, 2]);
  expect(bpe).toMatchObject({ clsId: 0, padId: 1, sepId: 2, unkId: 3, maskId: 4, vocabSize: 9 });
});

function error(input: object): unknown {
  try {
    return new Tokenizer(input);
  } catch (thrown) {
    return thrown;
  }
}

test("a json that is no tokenizer is a FormatError that says what is missing", () => {
  expect(error({})).toEqual(
    new FormatError(
      `tokenizer.json: expected an object with model.vocab, found no keys; ` +
        `save the tokenizer with the "tokenizers" library (fast, not vocab.txt)`,
    ),
  );
  const { "[CLS]": _, ...withoutCls } = vocab;
  const cases: [object, string][] = [
    [JSON.parse("null") as object, "found no keys"],
    [{ model_type: "bert", hidden_size: 8 }, "found the keys model_type, hidden_size"],
    [{ ...json, added_tokens: [], model: { ...json.model, vocab: withoutCls } }, "[CLS] or <s>"],
    [{ ...json, model: { ...json.model, vocab: { ...vocab, sea: -1 } } }, 'id of "sea"'],
    [{ ...json, normalizer: { type: "Rot13" } }, "@huggingface/tokenizers cannot use it"],
    [{ ...json, post_processor: null }, "expected a post_processor"],
  ];
  for (const [input, message] of cases) {
    expect(error(input)).toBeInstanceOf(FormatError);
    expect((error(input) as Error).message).toContain(message);
  }
});

test("a maximum length without room for [CLS] and [SEP] is a RangeError", () => {
  for (const maxLength of [1, 0, -4, 2.5, Number.NaN]) {
    expect(() => tokenizer.encode("the sea", maxLength)).toThrow(RangeError);
  }
});
