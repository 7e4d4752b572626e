/** How well scores tell paraphrases from other pairs: MRPC, LCQMC and the like. */

export interface ParaphraseScore {
  /** Share of pairs told right by the threshold that tells most, times 100. */
  readonly accuracy: number;
  /** Pairs that score higher are called paraphrases. */
  readonly threshold: number;
  /** The highest harmonic mean of precision and recall, of a threshold of its own, times 100. */
  readonly f1: number;
  /** Average precision, times 100: the mean over paraphrases of the precision down to each; needs no threshold. */
  readonly averagePrecision: number;
  /** Share of the larger class, times 100: what a constant answer has. */
  readonly majority: number;
}

/**
 * Scores as sentence-transformers' BinaryClassificationEvaluator: thresholds lie half way between neighbours, and are chosen
 * on the pairs that they are scored on. Pairs of equal scores are told alike, in the average precision (scikit-learn's) too.
 * @param labels 1 for a paraphrase, 0 for none
 * @throws RangeError for lists of different lengths, a NaN, other labels, and fewer than one pair of each label
 */
export function scoreParaphrases(
  scores: ArrayLike<number>,
  labels: ArrayLike<number>,
): ParaphraseScore {
  const n = scores.length;
  const positives = Array.prototype.filter.call(labels, (label: number) => label === 1).length;
  const negatives = Array.prototype.filter.call(labels, (label: number) => label === 0).length;
  if (labels.length !== n || positives + negatives !== n || positives === 0 || negatives === 0) {
    throw new RangeError(
      `paraphrases need a label 0 or 1 for each of ${n} scores, and both of them, found ${labels.length} labels, ` +
        `${positives} of 1 and ${negatives} of 0`,
    );
  }
  const nan = Array.prototype.findIndex.call(scores, Number.isNaN);
  if (nan >= 0) throw new RangeError(`score ${nan} of ${n} is NaN; is the model finite?`);
  const order = Uint32Array.from({ length: n }, (_, i) => i).toSorted(
    (i, j) => scores[j]! - scores[i]!,
  );
  let [right, threshold, f1, precision] = [0, 0, 0, 0];
  let [found, counted] = [0, 0];
  for (let i = 0; i < n; i++) {
    found += labels[order[i]!]!;
    const score = scores[order[i]!]!;
    const next = i + 1 < n ? scores[order[i + 1]!]! : -Infinity;
    if (next === score) continue;
    const above = i + 1;
    precision += ((found - counted) / positives) * (found / above);
    counted = found;
    f1 = Math.max(f1, (2 * found) / (above + positives));
    const told = found + negatives - (above - found);
    if (above < n && told > right) [right, threshold] = [told, (score + next) / 2];
  }
  return {
    accuracy: (100 * right) / n,
    threshold,
    f1: 100 * f1,
    averagePrecision: 100 * precision,
    majority: (100 * Math.max(positives, negatives)) / n,
  };
}
