"""SentEval's logistic regression and nested folds, as published, and scikit-learn's beside them, on vectors of two classes.

    simcse encode --model MODEL --no-normalize --output neg.npy < custrev.neg
    python3 test/golden/senteval.py neg.npy pos.npy

prints the accuracy of SentEval's classifier (senteval/tools/classifier.py, validation.py: Adam, batches of 64, tenacity 5, checks
every 4 epochs) for three seeds, that of the same without its early stop, and that of scikit-learn over the same grid of λ.
docs/evaluation.md has the figures. Needs NumPy, PyTorch and scikit-learn.
"""

import copy
import sys

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import nn, optim

GRID = [1e-5, 1e-4, 1e-3, 1e-2]


def accuracy(model, rows, labels):
    with torch.no_grad():
        return (model(torch.from_numpy(rows)).argmax(1).numpy() == labels).mean()


def fit(rows, labels, l2, seed, held=None, early_stop=True):
    """Without `held`, a twentieth of the rows stops the training."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = nn.Linear(rows.shape[1], 2)
    optimizer = optim.Adam(model.parameters(), weight_decay=l2)
    if held is None:
        order = np.random.permutation(len(rows))
        twentieth = int(0.05 * len(rows))
        held = rows[order[:twentieth]], labels[order[:twentieth]]
        rows, labels = rows[order[twentieth:]], labels[order[twentieth:]]
    x, y = torch.from_numpy(rows), torch.from_numpy(labels)
    best, worse, epochs, kept = -1, 0, 0, model
    while epochs <= 200:
        for _ in range(4):
            order = np.random.permutation(len(rows))
            for at in range(0, len(rows), 64):
                batch = torch.from_numpy(order[at : at + 64])
                loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        epochs += 4
        if not early_stop:
            kept = model
            continue
        found = accuracy(model, *held)
        if found > best:
            best, kept = found, copy.deepcopy(model)
        elif worse >= 5:
            break
        else:
            worse += 1
    return kept


def nested(rows, labels, seed, train, score):
    """Mean accuracy over outer folds, each with the λ that is best over inner ones."""
    outer, inner = (StratifiedKFold(10, shuffle=True, random_state=seed) for _ in range(2))
    found = []
    for rest, fold in outer.split(rows, labels):
        x, y = rows[rest], labels[rest]
        means = []
        for l2 in GRID:
            splits = inner.split(x, y)
            scores = [score(train(x[i], y[i], l2, (x[j], y[j])), x[j], y[j]) for i, j in splits]
            means.append(round(100 * np.mean(scores), 2))
        model = train(x, y, GRID[int(np.argmax(means))], None)
        found.append(score(model, rows[fold], labels[fold]))
    return 100 * np.mean(found)


def sklearn_fit(x, y, l2, _):
    return LogisticRegression(C=1 / (l2 * len(y)), max_iter=5000).fit(x, y)


torch.set_num_threads(1)
classes = [np.load(file).astype(np.float32) for file in sys.argv[1:3]]
rows = np.concatenate(classes)
labels = np.repeat([0, 1], [len(part) for part in classes])
for seed in (1111, 1, 2):
    regression = nested(rows, labels, seed, sklearn_fit, lambda m, x, y: m.score(x, y))
    folds = StratifiedKFold(10, shuffle=True, random_state=seed).split(rows, labels)
    whole = [
        accuracy(fit(rows[i], labels[i], 1e-5, seed, early_stop=False), rows[j], labels[j])
        for i, j in folds
    ]
    published = nested(
        rows, labels, seed, lambda x, y, l2, held: fit(x, y, l2, seed, held), accuracy
    )
    print(
        f"seed {seed}: SentEval {published:.2f}, without early stop {100 * np.mean(whole):.2f}, "
        f"scikit-learn {regression:.2f}",
        flush=True,
    )
