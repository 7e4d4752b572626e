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
}
path = Path(__file__).resolve().parent / "evaluation.json"
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
