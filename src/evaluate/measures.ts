import { type GradedPair, wordOverlap } from "./pairs.ts";
import { type ParaphraseScore, scoreParaphrases } from "./paraphrase.ts";
import { type BootstrapOptions, bootstrapInterval, pearson, spearman } from "./statistics.ts";

/** How well the cosines of a model order graded pairs, and how its sentences lie on the unit sphere. */
export interface PairReport {
  /** Correlation of cosine and grade, times 100: the figure STS tables give. */
  readonly spearman: number;
  readonly pearson: number;
  /** 95 % bootstrap interval of `spearman`, times 100. */
  readonly interval: readonly [low: number, high: number];
  readonly pairs: number;
  /** Of the pairs graded as positive; NaN where there are none. Lower is better. */
  readonly alignment: number;
  /** Of the different sentences of all pairs. Lower is better. */
  readonly uniformity: number;
  /** Spearman, times 100, of the share of common words: the floor under `spearman`. */
  readonly overlapSpearman: number;
  /** Where all grades are labels, 0 or 1, and both are there. */
  readonly paraphrase?: ParaphraseScore;
}

export interface PairOptions extends BootstrapOptions {
  /**
   * The lowest grade of a positive pair, 4 unless told otherwise. Gao et al. 2021 take pairs graded above 4 of the real
   * numbers from 0 to 5; where grades are whole numbers that would leave only those graded 5.
   */
  readonly positive?: number;
  /** The most sentences that uniformity compares with each other, all unless told otherwise. */
  readonly most?: number;
}

/**
 * Cosine of row i of `a` and row i of `b` [dimension]; 0 where a row is zero, as SentEval has it. Rounded to float32, the
 * precision of the rows, so that the last bits of the sum do not rank pairs of equal vectors.
 * @throws RangeError for lists or rows of different lengths
 */
export function cosineScores(
  a: readonly Float32Array[],
  b: readonly Float32Array[],
): Float64Array<ArrayBuffer> {
  if (a.length !== b.length) {
    throw new RangeError(
      `cosines need two lists of one length, found ${a.length} and ${b.length} rows`,
    );
  }
  return Float64Array.from(a, (row, i) => {
    const x = normalized(row);
    const y = normalized(b[i]!);
    expectSameDimension(x, y);
    return Math.fround(x.reduce((sum, value, j) => sum + value * y[j]!, 0));
  });
}

/**
 * Mean of |f(x) - f(y)|^α over positive pairs of rows [dimension], which are normalised here (Wang & Isola 2020,
 * https://arxiv.org/abs/2005.10242); 0 where all pairs coincide, NaN of no pairs.
 * @throws RangeError for rows of different lengths
 */
export function alignment(
  pairs: readonly (readonly [Float32Array, Float32Array])[],
  alpha = 2,
): number {
  let sum = 0;
  for (const [x, y] of pairs) {
    sum += squaredDistance(normalized(x), normalized(y)) ** (alpha / 2);
  }
  return sum / pairs.length;
}

/**
 * Log of the mean of exp(-t |f(x) - f(y)|²) over all pairs of two different rows [dimension], which are normalised here
 * (Wang & Isola 2020); 0 where all rows coincide, about -2 t for random directions, NaN of fewer than two rows. Of more rows
 * than `most`, so many at equal distances stand for all: with 1000 of STS-B dev the standard error is 0.01 to 0.02.
 * @throws RangeError for rows of different lengths
 */
export function uniformity(rows: readonly Float32Array[], t = 2, most: number = Infinity): number {
  const n = Math.min(rows.length, most);
  const unit = Array.from({ length: n }, (_, i) =>
    normalized(rows[Math.floor((i * rows.length) / n)]!),
  );
  let sum = 0;
  for (let i = 1; i < n; i++) {
    for (let j = 0; j < i; j++) sum += Math.exp(-t * squaredDistance(unit[i]!, unit[j]!));
  }
  return Math.log(sum / ((n * (n - 1)) / 2));
}

/**
 * Measures a model on graded pairs as the SimCSE paper does (Gao et al. 2021, https://arxiv.org/abs/2104.08821). `encode`
 * is called once, with every different sentence, and gives a row [dimension] for each.
 * @throws RangeError for fewer than two pairs, and for an `encode` that gives too few rows or values that are NaN
 */
export async function evaluatePairs(
  pairs: readonly GradedPair[],
  encode: (texts: string[]) => Promise<Float32Array[]>,
  { positive = 4, most = Infinity, ...bootstrap }: PairOptions = {},
): Promise<PairReport> {
  if (pairs.length < 2) {
    throw new RangeError(`a correlation needs at least 2 graded pairs, found ${pairs.length}`);
  }
  const texts = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))];
  const rows = await encode(texts);
  if (rows.length !== texts.length) {
    throw new RangeError(
      `encode must give a row for each of ${texts.length} sentences, gave ${rows.length}`,
    );
  }
  const rowOf = new Map(texts.map((text, i) => [text, rows[i]!]));
  const embedded = pairs.map(({ a, b }) => [rowOf.get(a)!, rowOf.get(b)!] as const);
  const grades = pairs.map(({ score }) => score);
  const cosines = cosineScores(
    embedded.map(([a]) => a),
    embedded.map(([, b]) => b),
  );
  const broken = cosines.findIndex(Number.isNaN);
  if (broken >= 0) {
    throw new RangeError(
      `the cosine of pair ${broken} is NaN: ${JSON.stringify(pairs[broken])}; the model gives values that are not finite`,
    );
  }
  const [low, high] = bootstrapInterval(cosines, grades, bootstrap);
  const labelled =
    grades.every((grade) => grade === 0 || grade === 1) && new Set(grades).size === 2;
  const overlaps = pairs.map(({ a, b }) => wordOverlap(a, b));
  return {
    spearman: 100 * spearman(cosines, grades),
    pearson: 100 * pearson(cosines, grades),
    interval: [100 * low, 100 * high],
    pairs: pairs.length,
    alignment: alignment(embedded.filter((_, i) => grades[i]! >= (labelled ? 1 : positive))),
    uniformity: uniformity(rows, 2, most),
    overlapSpearman: 100 * spearman(overlaps, grades),
    ...(labelled && { paraphrase: scoreParaphrases(cosines, grades) }),
  };
}

/** The row over its length, in float64; a zero row stays zero. */
function normalized(row: Float32Array): Float64Array {
  const length = Math.hypot(...row) || 1;
  return Float64Array.from(row, (value) => value / length);
}

/** In four sums, so that an addition need not wait for the one before it. */
function squaredDistance(x: Float64Array, y: Float64Array): number {
  expectSameDimension(x, y);
  let [a, b, c, d] = [0, 0, 0, 0];
  let j = 0;
  for (; j + 4 <= x.length; j += 4) {
    a += (x[j]! - y[j]!) ** 2;
    b += (x[j + 1]! - y[j + 1]!) ** 2;
    c += (x[j + 2]! - y[j + 2]!) ** 2;
    d += (x[j + 3]! - y[j + 3]!) ** 2;
  }
  for (; j < x.length; j++) a += (x[j]! - y[j]!) ** 2;
  return a + b + (c + d);
}

function expectSameDimension(x: Float64Array, y: Float64Array): void {
  if (x.length !== y.length) {
    throw new RangeError(
      `rows must have one dimension, found ${x.length} and ${y.length}; do they come from one model?`,
    );
  }
}
