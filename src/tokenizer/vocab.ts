import { FormatError } from "../errors.ts";
import { type TokenizerJson, tokenizerJson } from "./wordpiece.ts";

/**
 * The `tokenizer.json` of a folder that has only BERT's older files: `vocab.txt`, a piece a line, and
 * `tokenizer_config.json`, which may say `do_lower_case`, `strip_accents` and `tokenize_chinese_chars`.
 * @throws FormatError for a vocabulary without BERT's special tokens
 */
export function tokenizerFromVocab(
  vocab: string,
  config: Readonly<Record<string, unknown>>,
  name: string,
): TokenizerJson {
  const pieces = vocab.replace(/\r?\n$/, "").split(/\r?\n/);
  const absent = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].filter(
    (token) => !pieces.includes(token),
  );
  if (absent.length > 0) {
    throw new FormatError(
      `${name}: expected a piece a line and BERT's special tokens among ${pieces.length}, found no ${absent.join(", ")}; ` +
        `a model of another family needs its tokenizer.json`,
    );
  }
  const { strip_accents: stripAccents } = config;
  return tokenizerJson(pieces, {
    lowercase: config["do_lower_case"] !== false,
    stripAccents: typeof stripAccents === "boolean" ? stripAccents : null,
    chineseCharacters: config["tokenize_chinese_chars"] !== false,
  });
}

/** A tokenizer that lower-cases texts before all else, as sentence-transformers' `do_lower_case` asks for. */
export function lowercased(tokenizer: object): object {
  const { normalizer } = tokenizer as { normalizer?: { type?: string; lowercase?: boolean } };
  if (normalizer?.type === "BertNormalizer" && normalizer.lowercase) return tokenizer;
  const normalizers = [{ type: "Lowercase" }, ...(normalizer ? [normalizer] : [])];
  return { ...tokenizer, normalizer: { type: "Sequence", normalizers } };
}

/** A tokenizer that adds no tokens of its own to a text, as static models want it. */
export function unframed(tokenizer: object): object {
  const text = (id: "A" | "B"): object => ({ Sequence: { id, type_id: 0 } });
  const template = { single: [text("A")], pair: [text("A"), text("B")], special_tokens: {} };
  return { ...tokenizer, post_processor: { type: "TemplateProcessing", ...template } };
}
