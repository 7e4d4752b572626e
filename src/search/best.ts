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

  /** No lower score can be among the best any more. */
  get bar(): number {
    return Math.max(this.#worst, this.#least);
  }

  /** Rows come in ascending order: a later one of the same score is behind. */
  offer(score: number, row: number): void {
    if (!(score > this.#worst && score >= this.#least && score <= this.#most)) return;
    if (!this.#passes(row)) return;
    this.#found.push({ row, score });
    if (this.#found.length < 2 * this.#count) return;
    this.#found = this.take();
    this.#worst = this.#found.at(-1)!.score;
  }

  /** Scores of all rows. */
  offerAll(scores: Float32Array): void {
    let bar = this.bar; // a field would be read again for every row
    for (let row = 0; row < scores.length; row++) {
      if (!(scores[row]! >= bar)) continue;
      this.offer(scores[row]!, row);
      bar = this.bar;
    }
  }

  take(): Found[] {
    const sorted = this.#found.toSorted((a, b) => b.score - a.score || a.row - b.row);
    return sorted.slice(0, this.#count);
  }
}
