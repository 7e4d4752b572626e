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

/**
 * The `tokenizer.json` of a folder that has only RoBERTa's older files: `vocab.json` with an id for each piece, and
 * `merges.txt` with two pieces a line, the first to be joined first. `config` may say `add_prefix_space`.
 * @throws FormatError for a vocabulary without RoBERTa's special tokens, and a line that is no pair
 */
export function tokenizerFromMerges(
  vocab: object,
  merges: string,
  config: Readonly<Record<string, unknown>>,
  name: string,
): object {
  const ids = new Map<string, unknown>(Object.entries(vocab));
  const absent = ROBERTA_TOKENS.filter((token) => !ids.has(token));
  if (absent.length > 0) {
    throw new FormatError(
      `${name}: expected RoBERTa's special tokens among ${ids.size} pieces, found no ${absent.join(", ")}; ` +
        `a model of another family needs its tokenizer.json`,
    );
  }
  const lines = merges
    .split(/\r?\n/)
    .filter((line, i) => line !== "" && !(i === 0 && line.startsWith("#")));
  const alien = lines.find((line) => !/^[^ ]+ [^ ]+$/.test(line));
  if (alien !== undefined) {
    throw new FormatError(
      `${name}: expected merges.txt beside it to have two pieces a line, found ${JSON.stringify(alien.slice(0, 60))}`,
    );
  }
  const space = { add_prefix_space: config["add_prefix_space"] === true, trim_offsets: true };
  const pair = (token: string): readonly [string, unknown] => [token, ids.get(token)];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: ROBERTA_TOKENS.map((content) => ({
      id: ids.get(content),
      content,
      single_word: false,
      lstrip: content === "<mask>", // a mask takes the space before it
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", ...space, use_regex: true },
    post_processor: { type: "RobertaProcessing", sep: pair("</s>"), cls: pair("<s>"), ...space },
    decoder: { type: "ByteLevel", ...space, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges: lines,
    },
  };
}

const ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] as const;

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
