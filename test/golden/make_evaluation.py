"""Makes evaluation.json: correlations by SciPy and a linear classifier by scikit-learn, for the tests of src/evaluate.

    python3 test/golden/make_evaluation.py

needs NumPy, SciPy and scikit-learn. Inputs come from a fixed seed and are rounded before use, so the file is the same each
time. Subsets have many ties, in grades and in cosines, as STS files do.
"""

import json
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve

random = np.random.default_rng(7)


def subset(pairs, noise):
    grades = np.round(random.uniform(0, 5, pairs) * 5) / 5
    cosines = np.round(np.clip(grades / 5 + random.normal(0, noise, pairs), -1, 1), 2)
    return {
        "grades": grades.tolist(),
        "cosines": cosines.tolist(),
        "spearman": spearmanr(cosines, grades).statistic,
        "pearson": pearsonr(cosines, grades).statistic,
    }


subsets = {"first": subset(40, 0.1), "second": subset(25, 0.4), "third": subset(90, 0.8)}
grades = np.concatenate([s["grades"] for s in subsets.values()])
cosines = np.concatenate([s["cosines"] for s in subsets.values()])
spearmans = [s["spearman"] for s in subsets.values()]
sizes = [len(s["grades"]) for s in subsets.values()]

# Three classes that overlap, so that no classifier is perfect.
means = np.array([[1, 0, 0, 0.5, 0, 0], [0, 1, 0, 0, -0.5, 0], [0, 0, -1, 0, 0, 0.5]])
labels = random.integers(0, 3, 600)
rows = np.round(means[labels] + random.normal(0, 0.7, (600, 6)), 2)
model = LogisticRegression(C=1e3).fit(rows[:300], labels[:300])

# Paraphrases as sentence-transformers' BinaryClassificationEvaluator tells them, without ties; and with ties, for scikit-learn.
pair_labels = random.integers(0, 2, 200)
pair_scores = np.clip(0.3 * pair_labels + random.normal(0.4, 0.25, 200), -1, 1)


def best_accuracy(scores, labels):
    found = sorted(zip(scores.tolist(), labels.tolist()), key=lambda row: row[0], reverse=True)
    best, threshold, positives, negatives = 0, -1, 0, int(np.sum(labels == 0))
    for (score, label), (following, _) in zip(found, found[1:]):
        positives, negatives = positives + label, negatives - (1 - label)
        if (positives + negatives) / len(labels) > best:
            best, threshold = (positives + negatives) / len(labels), (score + following) / 2
    return best, threshold


def best_f1(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9)))


accuracy, threshold = best_accuracy(pair_scores, pair_labels)
tied = np.round(pair_scores, 1)

golden = {
    "subsets": subsets,
    "spearman": spearmanr(cosines, grades).statistic,
    "pearson": pearsonr(cosines, grades).statistic,
    "mean": float(np.mean(spearmans)),
    "wmean": float(np.average(spearmans, weights=sizes)),
    "classifier": {
        "rows": rows.tolist(),
        "labels": labels.tolist(),
        "train": 300,
        "accuracy": model.score(rows[300:], labels[300:]),
    },
    "paraphrase": {
        "scores": pair_scores.tolist(),
        "labels": pair_labels.tolist(),
        "accuracy": accuracy,
        "threshold": threshold,
        "f1": best_f1(pair_scores, pair_labels),
        "averagePrecision": average_precision_score(pair_labels, pair_scores),
        "tied": {
            "scores": tied.tolist(),
            "f1": best_f1(tied, pair_labels),
            "averagePrecision": average_precision_score(pair_labels, tied),
        },
    },
}
path = Path(__file__).resolve().parent / "evaluation.json"
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
