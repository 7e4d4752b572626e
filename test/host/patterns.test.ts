/** A tokenizer.json whose patterns or replacements would never end is refused; those of known tokenizers are not. */
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { checkPattern } from "../../src/tokenizer/patterns.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { tokenizer } from "./folders.ts";

const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

it.each<[string, string]>([
  ["GPT-2", GPT2],
  [
    "GPT-4",
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ],
  [
    "GPT-4o",
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ],
  [
    "DeepSeek",
    String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` +
      "`" +
      String.raw`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ],
  ["BLOOM", String.raw` ?[^(\s|[.,!?…。，、।۔،])]+`],
  ["XLM-RoBERTa", " {2,}"],
  ["one that strips", String.raw`^\s+|\s+$`],
  [
    "one of digits",
    String.raw`\d{1,3}(?=(\d{3})*\b)`.replace(String.raw`(\d{3})*`, String.raw`\d*`),
  ],
])("the pattern of %s is taken", (_, pattern) => {
  checkPattern(pattern);
});

it.each<[string, string]>([
  ["(a+)+$", "repeats a group that chooses or repeats"],
  ["(?:a|a)*b", "repeats a group that chooses or repeats"],
  ["(?:a|ab)+$", "repeats a group that chooses or repeats"],
  ["((a)*)*b", "repeats a group that chooses or repeats"],
  ["(?:a*){1,30}b", "repeats a group that chooses or repeats"],
  [String.raw`(?:\s*x?)*y`, "repeats a group that chooses or repeats"],
  ["a*a*b", "has repetitions that compete"],
  ["a+.*b?c", "has repetitions that compete"],
  ["a{1,1000}a{1,1000}b", "has repetitions that compete"],
  ["(?:a+x?)(?:a+)b", "has repetitions that compete"],
  ["a*a*(?!b)", "has repetitions that compete"],
  [String.raw`(a+)\1+b`, "refers back to a group"],
  ["a".repeat(2001), "has more than 2000 characters"],
])("the pattern %s is refused, as it %s", (pattern, why) => {
  expect(() => checkPattern(pattern)).toThrow(FormatError);
  expect(() => checkPattern(pattern)).toThrow(why);
});

describe("tokenizer.json", () => {
  const make = (changes: object) => () => new Tokenizer({ ...tokenizer, ...changes });
  const replace = { type: "Replace", pattern: { String: "a" }, content: "aaaaaaaaaa" };

  it("is refused for a pattern in any of its parts", () => {
    const split = { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated" };
    const message = 'tokenizer.json: the pattern "(a+)+$" repeats a group';
    expect(make({ pre_tokenizer: split })).toThrow(message);
    expect(make({ pre_tokenizer: { type: "Sequence", pretokenizers: [split] } })).toThrow(message);
    const normalizer = { ...replace, pattern: { Regex: "(a+)+$" } };
    expect(make({ normalizer: { type: "Sequence", normalizers: [normalizer] } })).toThrow(message);
  });

  it("is refused for replacements that feed each other", () => {
    const normalizers = Array.from({ length: 9 }, () => replace);
    expect(make({ normalizer: { type: "Sequence", normalizers } })).toThrow(
      "its replacements may make a text 100 times as long",
    );
    make({ normalizer: replace })();
    const apart = Array.from("!?.,;:-+*/", (sign) => ({
      type: "Replace",
      pattern: { String: sign },
      content: ` ${sign} `,
    }));
    const spaces = { type: "Replace", pattern: { Regex: String.raw`\s+` }, content: " " };
    make({ normalizer: { type: "Sequence", normalizers: [...apart, spaces] } })();
  });

  it("is refused for words without a bound", () => {
    const { model } = tokenizer as { model: object };
    expect(make({ model: { ...model, max_input_chars_per_word: 1e9 } })).toThrow(
      "expected max_input_chars_per_word up to 1000, found 1000000000",
    );
  });
});
