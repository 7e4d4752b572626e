/** Rank correlation as SciPy computes it: ties share the mean of their ranks (graded pairs are full of ties). */

export interface BootstrapOptions {
  /** Resamples drawn. */
  readonly samples?: number;
  readonly seed?: number;
  /** Probability that the interval holds. */
  readonly level?: number;
}

/**
 * The rank of every value, counted from 1; equal values share the mean of their ranks.
 * @throws RangeError for a NaN, which has no rank
 */
export function ranks(values: ArrayLike<number>): Float64Array {
  return midranks(values, ascending(values), new Uint32Array(values.length).fill(1));
}

/**
 * Pearson's correlation of pairs (x[i], y[i]), in [-1, 1]; NaN where x or y does not vary, as it is undefined there.
 * @throws RangeError for lists of different lengths and for values that are not finite
 */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>): number {
  expectPaired(x, y);
  for (const values of [x, y]) {
    const i = Array.prototype.findIndex.call(values, (value: number) => !Number.isFinite(value));
    if (i >= 0) {
      throw new RangeError(
        `value ${i} of ${values.length} is ${values[i]}; Pearson's correlation needs finite numbers`,
      );
    }
    // Asked of the values themselves: their mean may round, and so give a constant list a variance.
    if (Array.prototype.every.call(values, (value: number) => value === values[0])) return NaN;
  }
  return correlation(x, y, new Uint32Array(x.length).fill(1));
}

/**
 * Spearman's correlation: Pearson's of the ranks (Spearman 1904); NaN where x or y does not vary.
 * @throws RangeError for lists of different lengths and for a NaN
 */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>): number {
  expectPaired(x, y);
  return pearson(ranks(x), ranks(y));
}

/**
 * The percentile bootstrap interval of Spearman's correlation (Efron 1979): pairs are drawn with replacement, the same
 * ones for the same seed. Draws in which x or y does not vary are left out; [NaN, NaN] where no other is left.
 * @returns [low, high], for 1000 draws and 95 % unless told otherwise
 * @throws RangeError as `spearman`, for less than one sample, and for a level outside (0, 1)
 */
export function bootstrapInterval(
  x: ArrayLike<number>,
  y: ArrayLike<number>,
  { samples = 1000, seed = 0, level = 0.95 }: BootstrapOptions = {},
): [low: number, high: number] {
  expectPaired(x, y);
  if (!Number.isInteger(samples) || samples < 1) {
    throw new RangeError(`samples must be a whole number from 1, found ${samples}`);
  }
  if (!(level > 0 && level < 1)) throw new RangeError(`level must lie in (0, 1), found ${level}`);
  const random = mulberry32(seed);
  const n = x.length;
  // A sample is how often it holds each pair, so the lists are sorted once and not once a sample.
  const byX = ascending(x);
  const byY = ascending(y);
  const counts = new Uint32Array(n);
  const found = new Float64Array(samples);
  let varied = 0;
  for (let s = 0; s < samples; s++) {
    counts.fill(0);
    for (let draw = 0; draw < n; draw++) counts[Math.floor(random() * n)]!++;
    const value = correlation(midranks(x, byX, counts), midranks(y, byY, counts), counts);
    if (!Number.isNaN(value)) found[varied++] = value;
  }
  const sorted = found.subarray(0, varied).toSorted();
  return [quantile(sorted, (1 - level) / 2), quantile(sorted, (1 + level) / 2)];
}

/**
 * How much better `x` orders `y` than `base` does: the difference of Spearman's correlations, its percentile interval when
 * the same pairs are drawn for both (paired bootstrap), and the share of draws in which `x` is not better.
 * @throws RangeError as `spearman`
 */
export function pairedBootstrap(
  x: ArrayLike<number>,
  base: ArrayLike<number>,
  y: ArrayLike<number>,
  { samples = 1000, seed = 0, level = 0.95 }: BootstrapOptions = {},
): { difference: number; interval: [low: number, high: number]; notBetter: number } {
  const difference = spearman(x, y) - spearman(base, y);
  const random = mulberry32(seed);
  const [byX, byBase, byY] = [ascending(x), ascending(base), ascending(y)];
  const counts = new Uint32Array(x.length);
  const found: number[] = [];
  for (let s = 0; s < samples; s++) {
    counts.fill(0);
    for (let draw = 0; draw < x.length; draw++) counts[Math.floor(random() * x.length)]!++;
    const grades = midranks(y, byY, counts);
    const value =
      correlation(midranks(x, byX, counts), grades, counts) -
      correlation(midranks(base, byBase, counts), grades, counts);
    if (!Number.isNaN(value)) found.push(value);
  }
  const sorted = Float64Array.from(found).toSorted();
  return {
    difference,
    interval: [quantile(sorted, (1 - level) / 2), quantile(sorted, (1 + level) / 2)],
    notBetter: found.filter((value) => value <= 0).length / found.length,
  };
}

/** Indices that sort the values. */
function ascending(values: ArrayLike<number>): Uint32Array {
  const i = Array.prototype.findIndex.call(values, Number.isNaN);
  if (i >= 0) throw new RangeError(`value ${i} of ${values.length} is NaN, which has no rank`);
  return Uint32Array.from(values, (_, index) => index).toSorted((a, b) => values[a]! - values[b]!);
}

/** Ranks within the list that holds values[i] counts[i] times. */
function midranks(
  values: ArrayLike<number>,
  order: Uint32Array,
  counts: Uint32Array,
): Float64Array {
  const result = new Float64Array(order.length);
  let below = 0;
  let first = 0;
  while (first < order.length) {
    let last = first;
    let tied = 0;
    while (last < order.length && values[order[last]!] === values[order[first]!]) {
      tied += counts[order[last]!]!;
      last++;
    }
    for (; first < last; first++) result[order[first]!] = below + (tied + 1) / 2;
    below += tied;
  }
  return result;
}

/** Pearson's correlation of the list that holds (x[i], y[i]) counts[i] times. */
function correlation(x: ArrayLike<number>, y: ArrayLike<number>, counts: Uint32Array): number {
  let n = 0;
  let sumX = 0;
  let sumY = 0;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    n += count;
    sumX += count * x[i]!;
    sumY += count * y[i]!;
  }
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    const dx = x[i]! - sumX / n;
    const dy = y[i]! - sumY / n;
    xx += count * dx * dx;
    yy += count * dy * dy;
    xy += count * dx * dy;
  }
  return Math.min(1, Math.max(-1, xy / Math.sqrt(xx * yy)));
}

/** Linear between the two nearest of the sorted values; NaN of none. */
function quantile(sorted: Float64Array, probability: number): number {
  const position = probability * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? NaN;
  const above = sorted[Math.ceil(position)] ?? NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/** Uniform in [0, 1): Mulberry32 (Tommy Ettinger 2017, public domain). */
function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

function expectPaired(x: ArrayLike<number>, y: ArrayLike<number>): void {
  if (x.length !== y.length) {
    throw new RangeError(
      `a correlation needs two lists of one length, found ${x.length} and ${y.length}`,
    );
  }
}

/** The arithmetic mean; NaN of no values. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The standard deviation of a sample; NaN of one value. */
export function deviation(values: readonly number[]): number {
  const center = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1));
}
