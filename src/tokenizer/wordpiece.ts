/**
 * Learns a WordPiece vocabulary (Schuster and Nakajima 2012) the way Hugging Face's BertWordPieceTrainer does: words are
 * spelled in characters, and the most frequent pair of neighbouring pieces becomes a piece until the vocabulary is full.
 */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";

/** The object of a Hugging Face `tokenizer.json` for a BERT-style encoder. */
export interface TokenizerJson {
  readonly version: "1.0";
  readonly truncation: null;
  readonly padding: null;
  readonly added_tokens: readonly {
    readonly id: number;
    readonly content: string;
    readonly single_word: boolean;
    readonly lstrip: boolean;
    readonly rstrip: boolean;
    readonly normalized: boolean;
    readonly special: boolean;
  }[];
  readonly normalizer: {
    readonly type: "BertNormalizer";
    readonly clean_text: boolean;
    readonly handle_chinese_chars: boolean;
    readonly strip_accents: boolean | null;
    readonly lowercase: boolean;
  };
  readonly pre_tokenizer: { readonly type: "BertPreTokenizer" };
  readonly post_processor: {
    readonly type: "TemplateProcessing";
    readonly single: readonly TemplateItem[];
    readonly pair: readonly TemplateItem[];
    readonly special_tokens: Readonly<
      Record<string, { id: string; ids: readonly number[]; tokens: readonly string[] }>
    >;
  };
  readonly decoder: {
    readonly type: "WordPiece";
    readonly prefix: string;
    readonly cleanup: boolean;
  };
  readonly model: {
    readonly type: "WordPiece";
    readonly unk_token: string;
    readonly continuing_subword_prefix: string;
    readonly max_input_chars_per_word: number;
    readonly vocab: Readonly<Record<string, number>>;
  };
}

type TemplateItem =
  | { readonly SpecialToken: { readonly id: string; readonly type_id: number } }
  | { readonly Sequence: { readonly id: "A" | "B"; readonly type_id: number } };

/** In the order of their ids. */
const SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;
const PREFIX = "##";
/** Longer words are [UNK] to the tokenizer. */
const MAX_WORD = 100;
/** Distinct characters that become pieces, most frequent first; words with others are [UNK]. */
const MAX_ALPHABET = 500;
/** Two piece ids as one number, in the order of the left id and then of the right one. */
const PAIR = 2 ** 26;
/** Pieces between two reports of progress. */
const REPORT = 256;

/**
 * Trains a lower-casing (unless `lowercase` is false) WordPiece tokenizer of at most `vocabSize` pieces, fewer when no
 * pair is left that occurs `minFrequency` times (default 2). A pure function of how often each word occurs: neither the
 * order of the lines nor the machine changes a piece. `onProgress` is told how many pieces there are.
 * @throws RangeError when the special tokens and single characters alone exceed `vocabSize`
 */
export function trainWordPiece(
  lines: Iterable<string>,
  options: {
    vocabSize: number;
    minFrequency?: number;
    lowercase?: boolean;
    onProgress?: (pieces: number, vocabSize: number) => void;
  },
): TokenizerJson {
  const { vocabSize, minFrequency = 2, lowercase = true, onProgress } = options;
  if (!Number.isInteger(minFrequency) || minFrequency < 1) {
    throw new RangeError(`minFrequency ${minFrequency}: expected a whole number of at least 1`);
  }
  const counts = countWords(lines, lowercase);
  const { pieces, words } = spell(counts);
  if (!(Number.isInteger(vocabSize) && vocabSize >= pieces.length)) {
    throw new RangeError(
      `vocabSize ${vocabSize}: expected a whole number of at least ${pieces.length}, which the ` +
        `${SPECIAL_TOKENS.length} special tokens and the single characters of this corpus need`,
    );
  }
  merge(pieces, words, vocabSize, minFrequency, onProgress);
  return tokenizerJson(pieces, { lowercase });
}

/** The declarations of @huggingface/tokenizers do not resolve under `nodenext`; these are the parts used. */
interface WordSplitter {
  readonly normalizer: { normalize(text: string): string };
  readonly pre_tokenizer: { pre_tokenize_text(text: string): string[] };
}

/** How often each word occurs, split by the very objects that will split the texts to encode. */
function countWords(lines: Iterable<string>, lowercase: boolean): Map<string, number> {
  const { normalizer, pre_tokenizer }: WordSplitter = new HuggingFaceTokenizer(
    tokenizerJson(SPECIAL_TOKENS, { lowercase }),
    {},
  );
  const counts = new Map<string, number>();
  for (const line of lines) {
    for (const word of pre_tokenizer.pre_tokenize_text(normalizer.normalize(line))) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return counts;
}

interface Word {
  readonly count: number;
  symbols: number[];
}

/** Spells every word that the tokenizer can encode in single characters, the first pieces of the vocabulary. */
function spell(counts: ReadonlyMap<string, number>): { pieces: string[]; words: Word[] } {
  const frequency = new Map<string, number>();
  for (const [word, count] of counts) {
    for (const char of word) frequency.set(char, (frequency.get(char) ?? 0) + count);
  }
  const alphabet = new Set(
    [...frequency]
      .toSorted(([a, x], [b, y]) => y - x || compare(a, b))
      .slice(0, MAX_ALPHABET)
      .map(([char]) => char),
  );

  const spellings: { count: number; symbols: string[] }[] = [];
  const continuations = new Set<string>();
  for (const [word, count] of counts) {
    const chars = Array.from(word);
    if (chars.length > MAX_WORD || !chars.every((char) => alphabet.has(char))) continue;
    const symbols = chars.map((char, i) => (i === 0 ? char : PREFIX + char));
    spellings.push({ count, symbols });
    for (const symbol of symbols.slice(1)) continuations.add(symbol);
  }
  const pieces = [
    ...SPECIAL_TOKENS,
    ...[...alphabet].toSorted(compare),
    ...[...continuations].toSorted(compare),
  ];
  const ids = new Map(pieces.map((piece, id) => [piece, id]));
  const words = spellings.map(({ count, symbols }) => ({
    count,
    symbols: symbols.map((symbol) => ids.get(symbol)!),
  }));
  return { pieces, words };
}

/** By code units, which no locale changes. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Appends the most frequent pair to the pieces, again and again. Only the words that hold a pair are visited when it
 * merges, and only the counts of its neighbours change, so that a merge costs what it changes.
 */
function merge(
  pieces: string[],
  words: readonly Word[],
  vocabSize: number,
  minFrequency: number,
  onProgress?: (pieces: number, vocabSize: number) => void,
): void {
  const ids = new Map(pieces.map((piece, id) => [piece, id]));
  const counts = new Map<number, number>();
  const holders = new Map<number, number[]>();
  const queue = new PairQueue();
  let grown = new Set<number>();

  const change = (left: number, right: number, by: number, w: number): void => {
    const pair = left * PAIR + right;
    counts.set(pair, (counts.get(pair) ?? 0) + by);
    if (by < 0) return;
    grown.add(pair);
    const holding = holders.get(pair);
    if (holding === undefined) holders.set(pair, [w]);
    else if (holding.at(-1) !== w) holding.push(w);
  };
  const enqueueGrown = (): void => {
    for (const pair of grown) queue.push(counts.get(pair)!, pair);
    grown = new Set();
  };

  words.forEach(({ count, symbols }, w) => {
    for (let i = 1; i < symbols.length; i++) change(symbols[i - 1]!, symbols[i]!, count, w);
  });
  enqueueGrown();

  while (pieces.length < vocabSize) {
    const top = queue.pop();
    if (top === undefined || top.count < minFrequency) break;
    const { pair } = top;
    const count = counts.get(pair) ?? 0;
    // Counts fall without a word to the queue: an entry that is out of date goes back with the count of today.
    if (count !== top.count) {
      if (count < top.count && count >= minFrequency) queue.push(count, pair);
      continue;
    }
    const left = Math.floor(pair / PAIR);
    const right = pair % PAIR;
    const piece = pieces[left]! + pieces[right]!.slice(PREFIX.length);
    // Two ways to spell a piece, such as ab + c and a + bc, share its id.
    const id = ids.get(piece) ?? pieces.push(piece) - 1;
    ids.set(piece, id);
    for (const w of holders.get(pair)!) mergeInWord(words[w]!, left, right, id, w, change);
    counts.delete(pair);
    holders.delete(pair);
    grown.delete(pair);
    enqueueGrown();
    if (pieces.length % REPORT === 0) onProgress?.(pieces.length, vocabSize);
  }
  onProgress?.(pieces.length, vocabSize);
}

function mergeInWord(
  word: Word,
  left: number,
  right: number,
  id: number,
  w: number,
  change: (left: number, right: number, by: number, w: number) => void,
): void {
  const { count, symbols } = word;
  const merged: number[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] !== left || symbols[i + 1] !== right) {
      merged.push(symbols[i]!);
      continue;
    }
    const before = merged.at(-1);
    const after = symbols[i + 2];
    if (before !== undefined) {
      change(before, left, -count, w);
      change(before, id, count, w);
    }
    if (after !== undefined) {
      change(right, after, -count, w);
      change(id, after, count, w);
    }
    merged.push(id);
    i++;
  }
  word.symbols = merged;
}

/** A binary heap of pairs: the most frequent first, and among equals the one of the oldest pieces. */
class PairQueue {
  readonly #counts: number[] = [];
  readonly #pairs: number[] = [];

  push(count: number, pair: number): void {
    let i = this.#pairs.length;
    for (let parent; i > 0; i = parent) {
      parent = (i - 1) >> 1;
      if (!this.#precedes(count, pair, parent)) break;
      this.#move(parent, i);
    }
    this.#counts[i] = count;
    this.#pairs[i] = pair;
  }

  pop(): { count: number; pair: number } | undefined {
    const count = this.#counts.pop();
    const pair = this.#pairs.pop();
    if (count === undefined || pair === undefined) return undefined;
    const size = this.#pairs.length;
    if (size === 0) return { count, pair };
    const top = { count: this.#counts[0]!, pair: this.#pairs[0]! };
    let i = 0;
    for (let child = 1; child < size; child = 2 * i + 1) {
      if (
        child + 1 < size &&
        this.#precedes(this.#counts[child + 1]!, this.#pairs[child + 1]!, child)
      ) {
        child++;
      }
      if (this.#precedes(count, pair, child)) break;
      this.#move(child, i);
      i = child;
    }
    this.#counts[i] = count;
    this.#pairs[i] = pair;
    return top;
  }

  #precedes(count: number, pair: number, other: number): boolean {
    const difference = count - this.#counts[other]!;
    return difference > 0 || (difference === 0 && pair < this.#pairs[other]!);
  }

  #move(from: number, to: number): void {
    this.#counts[to] = this.#counts[from]!;
    this.#pairs[to] = this.#pairs[from]!;
  }
}

/** The tokenizer of pieces in the order of their ids, the special tokens among them. */
export function tokenizerJson(
  pieces: readonly string[],
  {
    lowercase,
    stripAccents = null,
    chineseCharacters = true,
  }: { lowercase: boolean; stripAccents?: boolean | null; chineseCharacters?: boolean },
): TokenizerJson {
  const special = (token: (typeof SPECIAL_TOKENS)[number], type_id: number): TemplateItem => ({
    SpecialToken: { id: token, type_id },
  });
  const template = (token: (typeof SPECIAL_TOKENS)[number]) => ({
    id: token,
    ids: [pieces.indexOf(token)],
    tokens: [token],
  });
  const a: TemplateItem = { Sequence: { id: "A", type_id: 0 } };
  const b: TemplateItem = { Sequence: { id: "B", type_id: 1 } };
  const single = [special("[CLS]", 0), a, special("[SEP]", 0)];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content) => ({
      id: pieces.indexOf(content),
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: chineseCharacters,
      strip_accents: stripAccents,
      lowercase,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single,
      pair: [...single, b, special("[SEP]", 1)],
      special_tokens: { "[CLS]": template("[CLS]"), "[SEP]": template("[SEP]") },
    },
    decoder: { type: "WordPiece", prefix: PREFIX, cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: PREFIX,
      max_input_chars_per_word: MAX_WORD,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
    },
  };
}
