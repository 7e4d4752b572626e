/**
 * Discrete augmentations of a positive, instead of or beside dropout: the ablation of SimCSE's table 1. Sentences are kept
 * as tokens; a word is a piece with those that continue it. What is drawn is a function of a random stream alone.
 */
import { FormatError, UsageError } from "../errors.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { RandomStream } from "./random.ts";

/** Another form of a sentence, given as token ids between its special tokens; at least a word of it is left. */
export type Augmentation = (
  ids: Int32Array<ArrayBuffer>,
  random: RandomStream,
) => Int32Array<ArrayBuffer>;

/** What `parseAugmentation` reads. */
export const AUGMENTATIONS: readonly string[] = [
  "crop:10",
  "delete:10",
  "delete-one",
  "synonym:FILE",
  "mask:15",
  "mlm:15",
];

/** A kind of augmentation, with its percentage or its file. */
export interface AugmentationSpec {
  readonly kind: "crop" | "delete" | "delete-one" | "synonym" | "mask" | "mlm";
  readonly percent: number;
  readonly file: string;
}

/** @throws UsageError when it is none of `AUGMENTATIONS`, or its percentage is not in (0, 100) */
export function parseAugmentation(text: string): AugmentationSpec {
  const [, kind, value = ""] =
    /^(crop|delete|mask|mlm|synonym):(.+)$|^delete-one$/.exec(text) ?? [];
  if (text === "delete-one") return { kind: text, percent: 0, file: "" };
  if (kind === "synonym") return { kind, percent: 0, file: value };
  const percent = Number(value);
  if (!kind || !(percent > 0 && percent < 100)) {
    throw new UsageError(
      `--augment ${text}: expected one of ${AUGMENTATIONS.join(", ")}, with a percentage between 0 and 100`,
    );
  }
  return { kind: kind as "crop" | "delete" | "mask" | "mlm", percent, file: "" };
}

/** Synonyms of words: token ids without special tokens, by the ids of the word, with commas between them. */
export type Synonyms = ReadonlyMap<string, readonly Int32Array[]>;

/**
 * Reads lines of a word and its synonyms, with tabs between them; empty lines are skipped.
 * @throws FormatError for a line without a synonym, or with more than a word in the first place
 */
export function parseSynonyms(text: string, file: string, tokenizer: Tokenizer): Synonyms {
  // The space before it makes a byte-level piece that of a word inside a sentence.
  const pieces = (phrase: string): Int32Array =>
    Int32Array.from(tokenizer.pieces(` ${phrase}`, { special: false }), ({ id }) => id);
  const continues = tokenizer.continuations();
  const synonyms = new Map<string, Int32Array[]>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    const [word = "", ...others] = line.split("\t").map((cell) => cell.trim());
    const ids = pieces(word);
    const known = others.filter((other) => other !== "").map(pieces);
    if (known.length === 0 || wordStarts(ids, continues).length !== 1) {
      throw new FormatError(
        `${file}:${i + 1}: expected a word, a tab and one or more synonyms, found ${JSON.stringify(line.slice(0, 60))}`,
      );
    }
    const key = ids.join();
    synonyms.set(key, [...(synonyms.get(key) ?? []), ...known]);
  }
  return synonyms;
}

/** What an augmentation asks for other words. */
export interface WordSources {
  readonly synonyms?: Synonyms;
  /** The words that a masked language model puts in the places of [MASK], which the sequence has there. */
  readonly fill?: (ids: Int32Array, places: readonly number[]) => readonly number[];
}

/**
 * The augmentation that a specification names.
 * @throws UsageError where [MASK] is wanted and the tokenizer has none
 */
export function planAugmentation(
  { kind, percent }: AugmentationSpec,
  tokenizer: Tokenizer,
  maxLength: number,
  { synonyms = new Map(), fill }: WordSources = {},
): Augmentation {
  const { clsId, sepId, maskId } = tokenizer;
  const continues = tokenizer.continuations();
  const masks = kind === "mask" || kind === "mlm";
  if (masks && maskId < 0) {
    throw new UsageError(`--augment ${kind}:${percent}: the model's tokenizer has no [MASK]`);
  }
  return (ids, random) => {
    const from = ids[0] === clsId ? 1 : 0;
    const to = ids.length > from && ids.at(-1) === sepId ? ids.length - 1 : ids.length;
    const body = ids.subarray(from, to);
    if (masks) {
      const count = Math.round((body.length * percent) / 100);
      const places = draw(body.length, count, random).map((place) => from + place);
      const changed = Int32Array.from(ids);
      for (const place of places) changed[place] = maskId;
      const words = kind === "mlm" ? fill!(changed, places) : [];
      words.forEach((word, i) => (changed[places[i]!] = word));
      return changed;
    }
    const starts = wordStarts(body, continues);
    const words = starts.map((start, i) => body.subarray(start, starts[i + 1] ?? body.length));
    const changed = changeWords(kind, percent / 100, words, synonyms, random);
    const room = maxLength - from - (ids.length - to);
    const inside = changed.flatMap((word) => [...word]).slice(0, room);
    return Int32Array.of(...ids.subarray(0, from), ...inside, ...ids.subarray(to));
  };
}

function changeWords(
  kind: Exclude<AugmentationSpec["kind"], "mask" | "mlm">,
  share: number,
  words: readonly Int32Array[],
  synonyms: Synonyms,
  random: RandomStream,
): readonly Int32Array[] {
  const n = words.length;
  if (kind === "synonym") {
    const known = [...words.keys()].filter((i) => synonyms.has(words[i]!.join()));
    if (known.length === 0) return words;
    const at = known[random.below(known.length)]!;
    const others = synonyms.get(words[at]!.join())!;
    return words.with(at, others[random.below(others.length)]!);
  }
  const lost = Math.min(kind === "delete-one" ? 1 : Math.round(n * share), n - 1);
  if (lost <= 0) return words;
  if (kind === "crop") {
    const first = random.below(lost + 1);
    return words.slice(first, first + n - lost);
  }
  const deleted = new Set(draw(n, lost, random));
  return words.filter((_, i) => !deleted.has(i));
}

/** `count` different numbers below n. */
function draw(n: number, count: number, random: RandomStream): number[] {
  const numbers = Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + random.below(n - i);
    [numbers[i], numbers[j]] = [numbers[j]!, numbers[i]!];
  }
  return numbers.slice(0, count);
}

/** Where words begin among pieces; the first piece begins one whatever it is. */
function wordStarts(ids: ArrayLike<number>, continues: Uint8Array): number[] {
  return Array.from(ids, (_, i) => i).filter((i) => i === 0 || continues[ids[i]!] === 0);
}
