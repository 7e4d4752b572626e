import type { BatchOrder, TrainingBatch } from "./data.ts";

/** What a trainer takes batches from. */
export interface Batches {
  /** The batch of a number, from 1. */
  batch(number: number): TrainingBatch | Promise<TrainingBatch>;
}

/** Models to learn from, that know sentences by their numbers. */
export interface Teacher {
  /** Size of a vector. */
  readonly dimension: number;
  /** Vectors of sentences [numbers.length, dimension], end to end. */
  vectors(numbers: ArrayLike<number>): Promise<Float32Array>;
}

/** Batches with what a teacher says of their sentences, as they are in the data: no augmentation or mask changes them. */
export class TaughtBatches implements Batches {
  readonly #order: BatchOrder;
  readonly #teacher: Teacher;

  constructor(order: BatchOrder, teacher: Teacher) {
    this.#order = order;
    this.#teacher = teacher;
  }

  async batch(number: number): Promise<TrainingBatch> {
    const batch = this.#order.batch(number);
    return { ...batch, taught: await this.#teacher.vectors(batch.ids) };
  }
}
