/** How a model's vectors lie on the unit sphere: figures 2, 3, F.1 and G.1 of the SimCSE paper. */
import { alignment, cosineScores, uniformity } from "./measures.ts";
import type { GradedPair } from "./pairs.ts";
import { secondMoment, symmetricEigen } from "./whitening.ts";

/** Pairs graded above this are positives. */
const POSITIVE = 4;
/** Bands of grades, each with its upper end, and bins of cosines from -1 to 1. */
const BANDS = [1, 2, 3, 4, 5] as const;
const BINS = 40;

export interface Geometry {
  /** Of pairs graded above 4; lower is better, NaN without such pairs. */
  readonly alignment: number;
  /** Of all different sentences; lower is better. */
  readonly uniformity: number;
  /** Singular values of the matrix of unit vectors, falling, over the largest. */
  readonly spectrum: readonly number[];
  /** Pairs by cosine, in 40 equal bins from -1 to 1, for each band of grades from 0 to 5. */
  readonly histograms: readonly { readonly grades: string; readonly counts: readonly number[] }[];
}

/** Measures the vectors of graded pairs, of any length, given for every sentence. */
export function measureGeometry(
  pairs: readonly GradedPair[],
  rowOf: (text: string) => Float32Array,
): Geometry {
  const rows = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))].map(rowOf);
  const cosines = cosineScores(
    pairs.map(({ a }) => rowOf(a)),
    pairs.map(({ b }) => rowOf(b)),
  );
  const histograms = BANDS.map((high) => ({
    grades: `${high - 1} to ${high}`,
    counts: Array.from({ length: BINS }, () => 0),
  }));
  pairs.forEach(({ score }, i) => {
    const band = Math.min(BANDS.length, Math.max(1, Math.ceil(score))) - 1;
    const bin = Math.min(BINS - 1, Math.max(0, Math.floor(((cosines[i]! + 1) / 2) * BINS)));
    histograms[band]!.counts[bin]!++;
  });
  return {
    alignment: alignment(
      pairs
        .filter(({ score }) => score > POSITIVE)
        .map(({ a, b }) => [rowOf(a), rowOf(b)] as const),
    ),
    uniformity: uniformity(rows),
    spectrum: singularValues(rows),
    histograms,
  };
}

/** Singular values [dimension] of the matrix of rows [dimension], each made a unit vector: falling, over the largest. */
export function singularValues(rows: readonly Float32Array[]): number[] {
  const unit = rows.map((row) => {
    const length = Math.hypot(...row) || 1;
    return Float64Array.from(row, (value) => value / length);
  });
  // Rows with rows and columns with columns have the same eigenvalues, but for zeros and a factor.
  const columns = Array.from(unit[0]!, (_, j) => Float64Array.from(unit, (row) => row[j]!));
  const smaller = unit.length < columns.length ? columns : unit;
  const { values } = symmetricEigen(secondMoment(smaller, new Float64Array(smaller[0]!.length)));
  const largest = Math.sqrt(values[0]!);
  return Array.from(columns, (_, i) => Math.sqrt(Math.max(0, values[i] ?? 0)) / largest);
}
