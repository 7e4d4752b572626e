/**
 * Whitening (Su et al. 2021, https://arxiv.org/abs/2103.15316): vectors are shifted, turned and scaled so that those of a
 * corpus have mean 0 and covariance 1. With Σ = U diag(λ) Uᵀ, their covariance:
 *
 *   whiten(x) = diag(λ)^(-1/2) Uᵀ (x - μ),      kept to the k directions of largest λ
 */

export interface Eigen {
  /** Falling. */
  readonly values: Float64Array;
  /** vectors[i] [n], of length 1, belongs to values[i]. */
  readonly vectors: readonly Float64Array[];
}

/** More than any matrix was seen to take; convergence is quadratic. */
const SWEEPS = 60;

/**
 * Eigenvalues and eigenvectors of a symmetric matrix, given as rows, by cyclic Jacobi rotations (Jacobi 1846): slower than
 * reduction to a tridiagonal matrix, as exact, and a page long.
 */
export function symmetricEigen(matrix: readonly Float64Array[]): Eigen {
  const n = matrix.length;
  const a = matrix.map((row) => row.slice());
  const vectors = a.map((_, i) => Float64Array.from({ length: n }, (__, j) => (i === j ? 1 : 0)));
  const norm = Math.hypot(...a.map((row) => Math.hypot(...row)));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    let rotated = false;
    for (let p = 0; p < n - 1; p++) {
      for (let q = p + 1; q < n; q++) {
        const off = a[p]![q]!;
        // Relative to the matrix: below this a rotation changes no eigenvalue's bits.
        if (Math.abs(off) <= 1e-17 * norm) continue;
        rotated = true;
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * off);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cos = 1 / Math.hypot(t, 1);
        const sin = t * cos;
        const [app, aqq] = [a[p]![p]! - t * off, a[q]![q]! + t * off];
        rotate(a[p]!, a[q]!, cos, sin);
        // The matrix stays symmetric, so its columns are copies of the rows just turned.
        for (let k = 0; k < n; k++) {
          a[k]![p] = a[p]![k]!;
          a[k]![q] = a[q]![k]!;
        }
        [a[p]![p], a[q]![q], a[p]![q], a[q]![p]] = [app, aqq, 0, 0];
        rotate(vectors[p]!, vectors[q]!, cos, sin);
      }
    }
    if (!rotated) break;
  }
  const order = a.map((_, i) => i).toSorted((i, j) => a[j]![j]! - a[i]![i]!);
  return {
    values: Float64Array.from(order, (i) => a[i]![i]!),
    vectors: order.map((i) => vectors[i]!),
  };
}

function rotate(x: Float64Array, y: Float64Array, cos: number, sin: number): void {
  for (let k = 0; k < x.length; k++) {
    const [xk, yk] = [x[k]!, y[k]!];
    x[k] = cos * xk - sin * yk;
    y[k] = sin * xk + cos * yk;
  }
}

/** Mean of x xᵀ over rows x [dimension], each less `mean`. */
export function secondMoment(
  rows: readonly ArrayLike<number>[],
  mean: ArrayLike<number>,
): Float64Array[] {
  const n = mean.length;
  const sums = Array.from({ length: n }, () => new Float64Array(n));
  const centred = new Float64Array(n);
  for (const row of rows) {
    for (let i = 0; i < n; i++) centred[i] = row[i]! - mean[i]!;
    for (let i = 0; i < n; i++) {
      const [sum, factor] = [sums[i]!, centred[i]! / rows.length];
      for (let j = 0; j <= i; j++) sum[j]! += factor * centred[j]!;
    }
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) sums[j]![i] = sums[i]![j]!;
  return sums;
}

/**
 * Learns to whiten from the vectors [dimension] of a corpus.
 * @param dimensions directions to keep, all that vary unless told
 * @returns the whitening of one vector, to be used on vectors of the same model
 * @throws RangeError where the corpus varies in fewer directions than asked for
 */
export function fitWhitening(
  rows: readonly Float32Array[],
  dimensions?: number,
): (row: Float32Array) => Float32Array {
  const n = rows[0]?.length ?? 0;
  const mean = new Float64Array(n);
  for (const row of rows) for (let j = 0; j < n; j++) mean[j]! += row[j]! / rows.length;
  const { values, vectors } = symmetricEigen(secondMoment(rows, mean));
  // Less than float32 vectors resolve is no direction of theirs but their rounding.
  const varying = values.filter((value) => value > 1e-12 * values[0]!).length;
  const kept = dimensions ?? varying;
  if (kept > varying || varying === 0) {
    throw new RangeError(
      `whitening to ${kept} dimensions: ${rows.length} vectors of ${n} vary in ${varying} directions; ` +
        `give more sentences, or keep at most as many dimensions`,
    );
  }
  const directions = vectors
    .slice(0, kept)
    .map((vector, i) => vector.map((value) => value / Math.sqrt(values[i]!)));
  return (row) =>
    Float32Array.from(directions, (direction) => {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += direction[j]! * (row[j]! - mean[j]!);
      return sum;
    });
}
