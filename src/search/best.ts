export interface Found {
  readonly row: number;
  readonly score: number;
}

/** Whether `a` is worse than `b`: of a lower score, or of the same and later. */
function isWorse(a: Found, b: Found): boolean {
  return a.score < b.score || (a.score === b.score && a.row > b.row);
}

/** Keeps the best of many scores. */
export class Best {
  readonly #count: number;
  readonly #most: number;
  readonly #passes: (row: number) => boolean;
  readonly #least: number;
  /** Score of the last that is wanted, once there are enough: a later row must be better. */
  #worst = -Infinity;
  /** Once there are enough a heap, the worst first. */
  readonly #found: Found[] = [];

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
    if (this.#found.length < this.#count) {
      this.#found.push({ row, score });
      if (this.#found.length < this.#count) return;
      this.#found.sort((a, b) => (isWorse(a, b) ? -1 : 1)); // sorted, it is a heap
    } else {
      this.#replaceWorst({ row, score });
    }
    this.#worst = this.#found[0]!.score;
  }

  #replaceWorst(item: Found): void {
    const heap = this.#found;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child + 1 < heap.length && isWorse(heap[child + 1]!, heap[child]!)) child++;
      if (child >= heap.length || !isWorse(heap[child]!, item)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = item;
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

  /** Best first. */
  take(): Found[] {
    return this.#found.toSorted((a, b) => (isWorse(b, a) ? -1 : 1));
  }
}
