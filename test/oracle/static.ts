/** What a static model in training computes, in float64. */

export interface StaticBatch {
  readonly tokenIds: ArrayLike<number>;
  readonly offsets: ArrayLike<number>;
  /** Row of the table of each token. */
  readonly rows: ArrayLike<number>;
  readonly hidden: number;
}

/** Calls `visit` for every token: its id, where its row of the table begins, its sentence, and 1 / n of that. */
function eachToken(
  { tokenIds, offsets, rows, hidden }: StaticBatch,
  visit: (id: number, row: number, sentence: number, share: number) => void,
): void {
  for (let s = 0; s + 1 < offsets.length; s++) {
    for (let t = offsets[s]!; t < offsets[s + 1]!; t++) {
      const id = tokenIds[t]!;
      visit(id, rows[id]! * hidden, s, 1 / (offsets[s + 1]! - offsets[s]!));
    }
  }
}

/** y = 1 / n · Σ weight · row. */
export function staticMean(
  batch: StaticBatch,
  table: ArrayLike<number>,
  weights: ArrayLike<number>,
): Float64Array {
  const { hidden, offsets } = batch;
  const y = new Float64Array((offsets.length - 1) * hidden);
  eachToken(batch, (id, row, s, share) => {
    for (let j = 0; j < hidden; j++) y[s * hidden + j]! += share * weights[id]! * table[row + j]!;
  });
  return y;
}
