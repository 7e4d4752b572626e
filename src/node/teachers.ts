/** Models that a student learns from while it trains: any folder that opens, whatever its architecture and its tokens. */
import { sha256HexOfParts } from "../files/checksum.ts";
import { SentenceModel } from "../simcse.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { Sequences } from "../train/data.ts";
import type { Teacher } from "../train/teaching.ts";
import { compileKernels } from "./binaries.ts";
import { readModelFolder } from "./model-folder.ts";
import { EncoderPool } from "./pool.ts";

/** Vectors of all sentences are kept where they need no more than this. */
const KEPT_BYTES = 2 ** 29;

interface TeacherModel {
  readonly model: SentenceModel;
  /** Sentences as tokens of this model, and which of them a number means. */
  readonly texts: Sequences;
  readonly numbers: number[];
}

export class Teachers implements Teacher {
  readonly dimension: number;
  /** Of their weights and settings, in order. */
  readonly sha256: string;
  readonly #models: readonly TeacherModel[];
  #kept: { readonly vectors: Float32Array; readonly known: Uint8Array } | undefined;

  private constructor(models: readonly SentenceModel[], sha256: string) {
    this.#models = models.map((model) => ({ model, texts: new Sequences(), numbers: [] }));
    this.dimension = models.reduce((sum, model) => sum + model.dimension, 0);
    this.sha256 = sha256;
  }

  /**
   * Opens model folders, each with so many threads, which wait while the student trains.
   * @throws as `readModelFolder` does
   */
  static async open(folders: readonly string[], threads: number): Promise<Teachers> {
    const models: SentenceModel[] = [];
    const parts: Uint8Array[] = [];
    for (const name of folders) {
      const { config, tokenizerJson, tensors, weightsFile } = await readModelFolder(name);
      const pool = await EncoderPool.start(config, tensors, weightsFile, threads);
      const kernels = await compileKernels("edge");
      models.push(new SentenceModel(pool, new Tokenizer(tokenizerJson), kernels));
      const settings = JSON.stringify([config, tokenizerJson]);
      parts.push(new TextEncoder().encode(settings), ...[...tensors.values()].map((t) => t.data));
    }
    return new Teachers(models, await sha256HexOfParts(parts));
  }

  /** Takes note of the next sentence, whose number is how many came before it. */
  add(text: string): void {
    for (const { model, texts, numbers } of this.#models) {
      numbers.push(texts.add(model.tokenize(text)));
    }
  }

  /**
   * Vectors [numbers.length][dimension] of sentences, end to end: those of all teachers one after another, of a length at
   * which inner products are the mean of the teachers' cosines.
   */
  async vectors(numbers: ArrayLike<number>): Promise<Float32Array> {
    const { dimension } = this;
    const all = new Float32Array(numbers.length * dimension);
    const { vectors, known } = this.#keep();
    const absent = [...new Set(Array.from(numbers))].filter((number) => !known?.[number]);
    const fresh = new Map(absent.map((number, i) => [number, i]));
    const found = new Float32Array(absent.length * dimension);
    const share = 1 / Math.sqrt(this.#models.length);
    let column = 0;
    for (const { model, texts, numbers: own } of this.#models) {
      const ids = absent.map((number) => texts.get(own[number]!));
      // A text without tokens has none to hand over; as a string it is what it is.
      const rows = await model.encode(ids.map((tokens) => (tokens.length > 0 ? tokens : "")));
      rows.forEach((row, i) =>
        found.set(
          row.map((x) => share * x),
          i * dimension + column,
        ),
      );
      column += model.dimension;
    }
    const rowOf = (values: Float32Array, i: number): Float32Array =>
      values.subarray(i * dimension, (i + 1) * dimension);
    if (vectors && known) {
      for (const [number, i] of fresh) {
        vectors.set(rowOf(found, i), number * dimension);
        known[number] = 1;
      }
    }
    for (let i = 0; i < numbers.length; i++) {
      const at = fresh.get(numbers[i]!);
      all.set(at === undefined ? rowOf(vectors!, numbers[i]!) : rowOf(found, at), i * dimension);
    }
    return all;
  }

  /** The place of kept vectors, if there are few enough sentences. */
  #keep(): { vectors?: Float32Array; known?: Uint8Array } {
    const sentences = this.#models[0]!.numbers.length;
    if (4 * sentences * this.dimension > KEPT_BYTES) return {};
    return (this.#kept ??= {
      vectors: new Float32Array(sentences * this.dimension),
      known: new Uint8Array(sentences),
    });
  }

  /** Ends their threads. */
  async close(): Promise<void> {
    await Promise.all(this.#models.map(({ model }) => model.close()));
  }
}
