import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { FormatError } from "../errors.ts";
import { checkPatterns } from "./patterns.ts";

/** A text as the encoder reads it. */
export interface Encoding {
  /** Token ids, special tokens included, at most the maximum length. */
  readonly ids: Int32Array;
  /**
   * Tokens without truncation, special tokens included. Of a text with more than 100 characters per token of the
   * maximum length only a beginning is read: a lower bound.
   */
  readonly length: number;
  readonly truncated: boolean;
}

/** Characters read at first, per token of the maximum length: more than prose ever has. */
const CHARACTERS_PER_TOKEN = 100;
/** Most pieces of a word in WordPiece, and so the most that can differ between a text and a beginning of it. */
const LAST_WORD = 100;

/** The declarations of @huggingface/tokenizers do not resolve under `nodenext`; these are the parts used. */
interface Inner {
  encode(
    text: string,
    options?: { add_special_tokens: boolean },
  ): { ids: number[]; tokens: string[] };
  get_added_tokens_decoder(): Map<number, { special: boolean }>;
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string, number>;
  readonly model: { readonly vocab: readonly string[] };
}

/** What a `tokenizer.json` may leave out and @huggingface/tokenizers demands. */
const DEFAULTS = {
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
};

/**
 * Texts to token ids by the rules of a Hugging Face `tokenizer.json` of the BERT ([CLS] text [SEP]) or RoBERTa family
 * (<s> text </s>), or of a static model, whose template adds nothing to a text. Every string has an encoding, also one with lone surrogates or NULs, or with nothing at all.
 *
 *     const tokenizer = new Tokenizer(trainWordPiece(["a cat", "a cat"], { vocabSize: 100 }));
 *     tokenizer.encode("A cat", 32).ids; // Int32Array(4) [ 2, 5, 11, 3 ]
 */
export class Tokenizer {
  /** One past the largest id: the rows that the table of word embeddings needs. */
  readonly vocabSize: number;
  readonly padId: number;
  readonly unkId: number;
  readonly clsId: number;
  readonly sepId: number;
  readonly maskId: number;
  readonly #inner: Inner;
  /** Whether a text stands between [CLS] and [SEP]; special tokens of a static model are -1 where there are none. */
  readonly #framed: boolean;

  /**
   * `json` is a parsed `tokenizer.json`, `config` a parsed `tokenizer_config.json`, which these families can do without.
   * @throws FormatError when it is none, lacks a special token, does not put [CLS] and [SEP] round a text, or has patterns whose
   * time is not bounded by the square of a text's length
   */
  constructor(json: object, config: object = {}) {
    checkVocabulary(json);
    checkPatterns(json);
    const model: Record<string, unknown> = { ...(json as { model: object }).model };
    try {
      this.#inner = new HuggingFaceTokenizer({ ...DEFAULTS, ...json, model }, config);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new FormatError(`tokenizer.json: @huggingface/tokenizers cannot use it: ${reason}`, {
        cause: error,
      });
    }
    // It keeps what it was made of; of its vocabulary it has made maps.
    delete model["vocab"];
    delete model["merges"];
    this.vocabSize = this.#inner.model.vocab.length;
    const frame = this.#tried();
    this.#framed = frame.length > 0 || !isTemplate(json);
    this.padId = this.#special("[PAD]", "<pad>");
    this.unkId = this.#special("[UNK]", "<unk>");
    this.clsId = this.#special("[CLS]", "<s>");
    this.sepId = this.#special("[SEP]", "</s>");
    this.maskId = this.#special("[MASK]", "<mask>");
    if (!this.#framed) return;
    if (frame.length !== 2 || frame[0] !== this.clsId || frame[1] !== this.sepId) {
      throw new FormatError(
        `tokenizer.json: expected a post_processor that makes the empty text ` +
          `[${this.clsId}, ${this.sepId}], the ids of [CLS] and [SEP], found [${frame.join(", ")}]; ` +
          `use the tokenizer of a BERT or RoBERTa encoder`,
      );
    }
  }

  /**
   * Token ids of a text: [CLS] stays first and [SEP] last, what is between them is cut to fit. Of a very long text only a
   * beginning is tokenized: 100 characters per token, then twice as many until the tokens suffice whatever follows. The
   * ids are those of the whole text, unless byte-level BPE splits a single word into more than 100 pieces.
   * @throws RangeError when `maxLength` has no room for [CLS] and [SEP]
   */
  encode(text: string, maxLength: number): Encoding {
    if (!Number.isInteger(maxLength) || maxLength < 2) {
      throw new RangeError(
        `maxLength ${maxLength}: expected a whole number of at least 2, the room of [CLS] and [SEP]`,
      );
    }
    let read = CHARACTERS_PER_TOKEN * maxLength;
    let tokens = this.#inner.encode(text.slice(0, read)).ids;
    while (read < text.length && tokens.length < maxLength + LAST_WORD) {
      read *= 2;
      tokens = this.#inner.encode(text.slice(0, read)).ids;
    }
    const truncated = tokens.length > maxLength;
    const ids = Int32Array.from(truncated ? tokens.slice(0, maxLength) : tokens);
    if (truncated && this.#framed) ids[maxLength - 1] = this.sepId;
    return { ids, length: tokens.length, truncated };
  }

  /**
   * Token ids of the end of a text: as `encode`, but what does not fit is cut off the beginning. The whole text is tokenized,
   * however long it is.
   */
  encodeEnd(text: string, maxLength: number): Int32Array {
    const { ids } = this.#inner.encode(text);
    if (ids.length <= maxLength) return Int32Array.from(ids);
    const end = Int32Array.from(ids.slice(-maxLength));
    if (this.#framed) end[0] = this.clsId;
    return end;
  }

  /** The pieces of a whole text, as its vocabulary spells them, between special tokens or without. */
  pieces(
    text: string,
    { special = true }: { special?: boolean } = {},
  ): { readonly id: number; readonly text: string; readonly special: boolean }[] {
    const { ids, tokens } = this.#inner.encode(text, { add_special_tokens: special });
    const added = this.#inner.get_added_tokens_decoder();
    return ids.map((id, i) => ({ id, text: tokens[i]!, special: added.get(id)?.special ?? false }));
  }

  /** What the empty text becomes, once a text has gone through every part: they fail on use, not when they are made. */
  #tried(): number[] {
    try {
      this.#inner.encode("A text, once.");
      return this.#inner.encode("").ids;
    } catch (cause) {
      throw new FormatError(
        `tokenizer.json: expected one that encodes a text; ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  /** [vocabSize]: 1 for a piece that continues a word: "##ing" in WordPiece, one without the mark of a space elsewhere. */
  continuations(): Uint8Array {
    const continues = new Uint8Array(this.vocabSize);
    const vocabulary = [...this.#inner.get_vocab()];
    const added = this.#inner.get_added_tokens_decoder();
    const spaced = vocabulary.some(([piece]) => /^[Ġ▁]./u.test(piece));
    for (const [piece, id] of vocabulary) {
      const inside = spaced ? !/^[Ġ▁]/u.test(piece) : piece.startsWith("##");
      continues[id] = inside && !added.has(id) ? 1 : 0;
    }
    return continues;
  }

  #special(bert: string, roberta: string): number {
    const id = this.#inner.token_to_id(bert) ?? this.#inner.token_to_id(roberta);
    if (id !== undefined) return id;
    if (!this.#framed) return -1;
    throw new FormatError(
      `tokenizer.json: expected ${bert} or ${roberta} in its vocabulary of ${this.vocabSize}, found ` +
        `neither; use the tokenizer of a BERT or RoBERTa encoder`,
    );
  }
}

/** A tokenizer may forget its frame, but not by a template that spells out there is none. */
function isTemplate(json: object): boolean {
  const { post_processor: processor } = json as { post_processor?: { type?: unknown } | null };
  return processor?.type === "TemplateProcessing";
}

/** More ids than any vocabulary has: a list of so many is still no burden. */
const MOST_IDS = 2 ** 24;

/** An id that is no row of a table would only be noticed by a kernel. */
function checkVocabulary(json: unknown): void {
  const object = typeof json === "object" && json !== null ? json : {};
  const model = "model" in object ? object.model : undefined;
  const added: unknown = "added_tokens" in object ? object.added_tokens : undefined;
  const vocab = typeof model === "object" && model !== null && "vocab" in model && model.vocab;
  if (typeof vocab !== "object" || vocab === null) {
    const keys = Object.keys(object).slice(0, 8).join(", ");
    throw new FormatError(
      `tokenizer.json: expected an object with model.vocab, found ${keys === "" ? "no keys" : `the keys ${keys}`}; ` +
        `save the tokenizer with the "tokenizers" library (fast, not vocab.txt)`,
    );
  }
  const check = (id: unknown, token: unknown, where: string): void => {
    if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < MOST_IDS) return;
    throw new FormatError(
      `tokenizer.json: expected a whole number below ${MOST_IDS} as the id of ${JSON.stringify(token)} in ${where}, ` +
        `found ${JSON.stringify(id)}`,
    );
  };
  for (const token of Array.isArray(added) ? (added as readonly unknown[]) : []) {
    const { id, content } = (token ?? {}) as { id?: unknown; content?: unknown };
    check(id, content, "added_tokens");
  }
  if (Array.isArray(vocab)) return;
  for (const token in vocab) check((vocab as Record<string, unknown>)[token], token, "model.vocab");
}
