export interface Found {
  readonly row: number;
  readonly score: number;
}

/** Keeps the best of many scores: twice as many as wanted at most, so that sorting is rare. */
export class Best {
  readonly #count: number;
  readonly #most: number;
  readonly #passes: (row: number) => boolean;
  readonly #least: number;
  /** Score of the last that is wanted, once there are enough: a later row must be better. */
  #worst = -Infinity;
  #found: Found[] = [];

  constructor(count: number, least: number, most: number, passes: (row: number) => boolean) {
    this.#count = count;
    this.#least = least;
    this.#most = most;
    this.#passes = passes;
  }

  /** Scores of the rows from `first` on. Rows come in ascending order: a later one of the same score is behind. */
  readonly offer = (scores: Float32Array, first: number): void => {
    let worst = this.#worst; // a field would be read again for every row
    for (let i = 0; i < scores.length; i++) {
      const score = scores[i]!;
      if (!(score > worst && score >= this.#least && score <= this.#most)) continue;
      if (!this.#passes(first + i)) continue;
      this.#found.push({ row: first + i, score });
      if (this.#found.length < 2 * this.#count) continue;
      this.#found = this.take();
      this.#worst = worst = this.#found.at(-1)!.score;
    }
  };

  take(): Found[] {
    const sorted = this.#found.toSorted((a, b) => b.score - a.score || a.row - b.row);
    return sorted.slice(0, this.#count);
  }
}
