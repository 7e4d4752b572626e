/**
 * What a step trains on, as a pure function of (seed, step): sources of rows, and the order in which batches take them.
 */
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Augmentation } from "./augment.ts";
import { maskBatch, type MaskedBatch, type MaskingOptions } from "./masking.ts";
import { permutation, RandomStream, STREAM } from "./random.ts";

/**
 * Different sequences of whole numbers, end to end. An equal one is found instead of added, so that equal sentences have
 * equal numbers, wherever they come from, and millions of them cost four bytes a token.
 */
export class Sequences {
  #values = new Int32Array(1 << 14);
  #offsets = new Uint32Array(1 << 10);
  /** Hash table with open addressing: 0, or one more than the number of a sequence. */
  #slots = new Uint32Array(1 << 11);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** All values, in the order of the sequences. */
  get values(): Int32Array<ArrayBuffer> {
    return this.#values.subarray(0, this.#offsets[this.#size]);
  }

  get(index: number): Int32Array<ArrayBuffer> {
    return this.#values.subarray(this.#offsets[index], this.#offsets[index + 1]);
  }

  /** The number of a sequence, counted from 0 in the order in which they first came. */
  add(values: ArrayLike<number>): number {
    const slot = this.#find(values);
    const found = this.#slots[slot]!;
    if (found > 0) return found - 1;
    const index = this.#size;
    const begin = this.#offsets[index]!;
    const end = begin + values.length;
    if (end > this.#values.length) {
      const larger = new Int32Array(Math.max(2 * this.#values.length, end));
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values.set(values, begin);
    if (index + 2 > this.#offsets.length) {
      const larger = new Uint32Array(2 * this.#offsets.length);
      larger.set(this.#offsets);
      this.#offsets = larger;
    }
    this.#offsets[index + 1] = end;
    this.#slots[slot] = ++this.#size;
    if (2 * this.#size > this.#slots.length) {
      this.#slots = new Uint32Array(2 * this.#slots.length);
      for (let i = 0; i < this.#size; i++) this.#slots[this.#find(this.get(i))] = i + 1;
    }
    return index;
  }

  /** The slot of a sequence, or the free one where it belongs. */
  #find(values: ArrayLike<number>): number {
    const mask = this.#slots.length - 1;
    let hash = 0x811c9dc5; // FNV-1a, a value at a time
    for (let i = 0; i < values.length; i++) hash = Math.imul(hash ^ values[i]!, 0x01000193);
    let slot = (hash ^ (hash >>> 15)) & mask;
    for (; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const other = this.get(this.#slots[slot]! - 1);
      if (other.length === values.length && other.every((value, i) => value === values[i])) break;
    }
    return slot;
  }
}

/** A row as it comes from a file. */
export interface TextRow {
  /** Sentence, positive, hard negative: the first one to three of them. */
  readonly cells: readonly string[];
  /** Whether a document begins with it. */
  readonly begins: boolean;
}

export interface Source {
  /** Of the file, for reports. */
  readonly name: string;
  /** Its weight among all sources when the one of a batch is drawn. */
  readonly share: number;
  readonly rows: number;
  /** Sentences that a row of a batch compares: anchor and positive, or also a hard negative. */
  readonly columns: 2 | 3;
  /** Whether a positive is the sentence itself, so that an augmentation may change it. */
  readonly unsupervised: boolean;
  /** All that its cells are made of, for a checksum. */
  readonly data: readonly (Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>)[];
  /** Numbers of the sentences of a row, `columns` of them; `random` decides where the source leaves a choice. */
  cells(row: number, random: RandomStream): readonly number[];
}

/** What became of the rows of a file. */
export interface SourceReport {
  /** Those there are to train on. */
  readonly rows: number;
  /** Rows left out because a cell has no tokens, or, among neighbours, because nothing follows in their document. */
  readonly dropped: number;
  /** Sentences that were cut to the maximum length. */
  readonly truncated: number;
  /** Rows of which an earlier one of the file has all tokens; they are trained on, never as each other's negatives. */
  readonly duplicates: number;
}

export interface SourceOptions {
  readonly name: string;
  readonly share?: number;
  readonly maxLength: number;
  /** Of files of one column: the positive is one of so many sentences that follow in the document, not the sentence itself. */
  readonly neighbours?: number;
  /** A token that counts for nothing, as some static models have it. */
  readonly ignoredId?: number;
  /** Called with each sentence that gets a number of its own, in their order. */
  readonly onSentence?: (text: string) => void;
}

/** Tokenizes rows, which have equally many cells, into `sentences`. */
export async function readSource(
  rows: AsyncIterable<TextRow> | Iterable<TextRow>,
  tokenizer: Tokenizer,
  sentences: Sequences,
  { name, share = NaN, maxLength, neighbours = 0, ignoredId, onSentence }: SourceOptions,
): Promise<{ source: Source; report: SourceReport }> {
  const cellNumbers: number[] = [];
  const distinct = new Sequences();
  const documents: number[] = [];
  let dropped = 0;
  let truncated = 0;
  let document = 0;
  for await (const { cells, begins } of rows) {
    if (begins) document++;
    if (cells.some((cell) => cell.trim() === "")) {
      dropped++;
      continue;
    }
    const encodings = cells.map((cell) => tokenizer.encode(cell, maxLength));
    const texts = encodings.map(({ ids }) =>
      ignoredId === undefined ? ids : ids.filter((id) => id !== ignoredId),
    );
    if (texts.some((ids) => ids.length === 0)) {
      dropped++;
      continue;
    }
    truncated += encodings.filter((encoding) => encoding.truncated).length;
    const row = texts.map((ids, i) => {
      const { size } = sentences;
      const number = sentences.add(ids);
      if (number === size) onSentence?.(cells[i]!);
      return number;
    });
    distinct.add(row);
    cellNumbers.push(...row);
    documents.push(document);
  }
  const total = documents.length;
  const duplicates = total - distinct.size;
  const columns = total === 0 ? 1 : cellNumbers.length / total;
  const numbers = Int32Array.from(cellNumbers);
  if (columns === 1 && neighbours > 0) {
    const { anchors, reach } = followed(documents, neighbours);
    const source: Source = {
      name,
      share,
      rows: anchors.length,
      columns: 2,
      unsupervised: false,
      data: [numbers, anchors, reach],
      cells(row, random) {
        const anchor = anchors[row]!;
        return [numbers[anchor]!, numbers[anchor + 1 + random.below(reach[row]!)]!];
      },
    };
    dropped += total - anchors.length;
    return { source, report: { rows: source.rows, dropped, truncated, duplicates } };
  }
  const source: Source = {
    name,
    share,
    rows: total,
    columns: columns === 3 ? 3 : 2,
    unsupervised: columns === 1,
    data: [numbers],
    cells: (row) =>
      columns === 1
        ? [numbers[row]!, numbers[row]!]
        : [...numbers.subarray(columns * row, columns * (row + 1))],
  };
  return { source, report: { rows: source.rows, dropped, truncated, duplicates } };
}

/** The sentences that another one of their document follows, and how many do, at most `most`. */
function followed(
  documents: readonly number[],
  most: number,
): { anchors: Uint32Array<ArrayBuffer>; reach: Uint32Array<ArrayBuffer> } {
  const anchors: number[] = [];
  const reach: number[] = [];
  for (let i = 0; i < documents.length; i++) {
    let n = 0;
    while (n < most && documents[i + n + 1] === documents[i]) n++;
    if (n === 0) continue;
    anchors.push(i);
    reach.push(n);
  }
  return { anchors: Uint32Array.from(anchors), reach: Uint32Array.from(reach) };
}

/** Batches in which every row comes once: whole ones only, unless a source is smaller than one. */
export function batchesPerEpoch(sources: readonly Source[], batchSize: number): number {
  return sources.reduce((sum, source) => sum + batchesOf(source, batchSize), 0);
}

function batchesOf({ rows }: Source, batchSize: number): number {
  return Math.max(1, Math.floor(rows / batchSize));
}

/** Token sequences of a batch: the anchors, then the positives, then the hard negatives. */
export interface TrainingBatch {
  readonly sequences: readonly Int32Array[];
  /** [sequences]: equal for equal sentences, which must not be each other's negatives. */
  readonly ids: Int32Array;
  readonly columns: 2 | 3;
  /** Of the batch, for errors. */
  readonly source: string;
  /** Masked copies of the sequences, where something is to be guessed. */
  readonly masked?: MaskedBatch;
  /** What teachers say of the sequences, [sequences, dimension]. */
  readonly taught?: Float32Array;
}

/** What changes sentences from batch to batch. */
export interface BatchChanges {
  /** Of the positives of unsupervised sources. */
  readonly augmentation?: Augmentation;
  readonly masking?: MaskingOptions;
  /** Nothing is compared, and each different sentence of a batch is masked once. */
  readonly alone?: boolean;
}

/**
 * The order of the data, a pure function of (seed, number of the batch). A batch is of one source, drawn by share; without shares each
 * is drawn as often as it has batches. A source goes through its rows in epochs, each a permutation of its own.
 */
export class BatchOrder {
  readonly #sentences: Sequences;
  readonly #sources: readonly Source[];
  readonly #batchSize: number;
  readonly #seed: number;
  readonly #shares: readonly number[];
  readonly #changes: BatchChanges;
  readonly #orders: { epoch: number; order: Uint32Array }[];
  /** Batches each source gave up to and with number `#counted`. */
  #taken: number[] = [];
  #counted = Infinity;

  constructor(
    sentences: Sequences,
    sources: readonly Source[],
    batchSize: number,
    seed: number,
    changes: BatchChanges = {},
  ) {
    this.#changes = changes;
    this.#sentences = sentences;
    this.#sources = sources;
    this.#batchSize = batchSize;
    this.#seed = seed;
    this.#orders = sources.map(() => ({ epoch: -1, order: new Uint32Array(0) }));
    const shares = sources.map((source) =>
      Number.isNaN(source.share) ? batchesOf(source, batchSize) : source.share,
    );
    const sum = shares.reduce((a, b) => a + b, 0);
    this.#shares = shares.map((share) => share / sum);
  }

  /** The batch of a number, from 1. */
  batch(number: number): TrainingBatch {
    const index = this.#advance(number);
    const source = this.#sources[index]!;
    const random = new RandomStream(this.#seed, STREAM.choice, number);
    const rows = Array.from(this.#rows(index, this.#taken[index]! - 1), (row) =>
      source.cells(row, random),
    );
    const numbers = Array.from({ length: source.columns }, (_, c) => rows.map((row) => row[c]!));
    const ids = Int32Array.from(numbers.flat());
    const sequences = Array.from(ids, (id) => this.#sentences.get(id));
    const { augmentation, masking, alone = false } = this.#changes;
    if (augmentation && source.unsupervised) {
      for (let row = 0; row < rows.length; row++) {
        const own = new RandomStream(this.#seed, STREAM.augment + (row << 8), number);
        const positive = rows.length + row;
        sequences[positive] = augmentation(sequences[positive]!, own);
      }
    }
    const different = (): Int32Array[] => [
      ...new Map(sequences.map((s, i) => [ids[i]!, s])).values(),
    ];
    return {
      sequences: alone ? [] : sequences,
      ids,
      columns: source.columns,
      source: source.name,
      ...(masking && {
        masked: maskBatch(alone ? different() : sequences, masking, this.#seed, number),
      }),
    };
  }

  /** The source of a batch, and how many batches each has given by then. */
  #advance(number: number): number {
    if (number <= this.#counted) {
      this.#taken = this.#sources.map(() => 0);
      this.#counted = 0;
    }
    let index = 0;
    while (this.#counted < number) {
      index = this.#draw(++this.#counted);
      this.#taken[index]!++;
    }
    return index;
  }

  #draw(number: number): number {
    if (this.#sources.length === 1) return 0;
    let rest = new RandomStream(this.#seed, STREAM.source, number).uniform();
    const index = this.#shares.findIndex((share) => (rest -= share) < 0);
    return index < 0 ? this.#shares.length - 1 : index;
  }

  /** Rows of the `n`-th batch of a source, from 0. */
  #rows(index: number, n: number): Uint32Array {
    const source = this.#sources[index]!;
    const perEpoch = batchesOf(source, this.#batchSize);
    const epoch = Math.floor(n / perEpoch);
    const state = this.#orders[index]!;
    if (epoch !== state.epoch) {
      // The first source keeps its own stream whether or not others are mixed in.
      const random = new RandomStream(this.#seed, STREAM.order + (index << 8), epoch);
      state.order = permutation(source.rows, random);
      state.epoch = epoch;
    }
    const first = (n % perEpoch) * this.#batchSize;
    return state.order.subarray(first, first + this.#batchSize);
  }
}
