"""Makes the training curves that a run without dropout is compared with, in PyTorch and in float64.

    python3 test/golden/make_curves.py

needs what `make_golden.py` needs, and writes `curves.json` next to itself: 50 losses for each of

    unsup, triplets        a sentence twice, or anchor, positive and hard negative
    cls, avg, …            how token vectors become a sentence vector
    mlm                    masked tokens guessed too, or (`mlm alone`) nothing else
    similarity, mse        a teacher's similarities or vectors learned too

The model has two layers of 128. Its weights, the sentences in their order, the masks and the teacher's vectors are functions of
a seed that `test/kernels/harness.ts` has too (`uniform`), so no other file is needed.
"""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import make_golden as golden

SHAPE = {
    "vocab_size": 1200,  # more than the words of a block of the cross-entropy
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 24,
}
VOCAB, HIDDEN, LONGEST = SHAPE["vocab_size"], SHAPE["hidden_size"], SHAPE["max_position_embeddings"]
MASK, FIRST_WORD = 3, 4

STEPS = 50
BATCH = 16
SENTENCES = 192
LEARNING_RATE = 5e-5
MLM_WEIGHT = 0.5
MASKED = 0.15
DISTILL_WEIGHT = 0.5
DISTILL_TEMPERATURE = 0.1
TEACHER = 64


def uniform(seed, count, low=-1.0, high=1.0):
    """Pseudorandom float32 values in [low, high): mulberry32 of the test harness, whose n-th state is a multiple of n."""
    start = np.uint32(((seed + 1) * 0x9E3779B9) & 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        s = start + np.uint32(0x6D2B79F5) * np.arange(1, count + 1, dtype=np.uint32)
        t = (s ^ (s >> np.uint32(15))) * (np.uint32(1) | s)
        t = (t + (t ^ (t >> np.uint32(7))) * (np.uint32(61) | t)) ^ t
        t ^= t >> np.uint32(14)
    return (low + (high - low) * (t / 2**32)).astype(np.float32)


def parameter_shapes():
    h = HIDDEN
    return {
        **golden.parameter_shapes(),
        "cls.predictions.transform.dense.weight": (h, h),
        "cls.predictions.transform.dense.bias": (h,),
        "cls.predictions.transform.LayerNorm.weight": (h,),
        "cls.predictions.transform.LayerNorm.bias": (h,),
        "cls.predictions.bias": (VOCAB,),
    }


def initial_weights():
    """By name, numbered in the order of the alphabet: matrices within 0.1, gains near 1, the rest within 0.05."""
    weights = {}
    for seed, (name, shape) in enumerate(sorted(parameter_shapes().items())):
        values = uniform(seed, math.prod(shape), -0.05, 0.05)
        if name.endswith("LayerNorm.weight"):
            values = np.float32(1) + values
        elif len(shape) == 2:
            values = np.float32(2) * values
        weights[name] = values.reshape(shape)
    return weights


def rows():
    """Anchor, positive and hard negative: of the anchor's words the others keep two thirds and a third."""
    lengths = (5 + np.floor(16 * uniform(100, SENTENCES, 0, 1).astype(np.float64))).astype(int)
    words = [
        FIRST_WORD + np.floor((VOCAB - FIRST_WORD) * uniform(seed, SENTENCES * LONGEST, 0, 1).astype(np.float64) ** 3)
        for seed in (101, 102, 103)
    ]
    triplets = []
    for row, length in enumerate(lengths):
        places = row * LONGEST + np.arange(length - 2)
        own, second, third = (w[places].astype(int) for w in words)
        keeps = np.arange(length - 2) % 3
        triplets.append(
            [
                [golden.CLS, *kept.tolist(), golden.SEP]
                for kept in (own, np.where(keeps < 2, own, second), np.where(keeps < 1, own, third))
            ]
        )
    return triplets


def mask(step, sentences):
    """Copies of the sentences, and the places and labels of what is to be guessed."""
    count = len(sentences) * LONGEST
    chosen, fate, other = (uniform(1000 * k + step, count, 0, 1).astype(np.float64) for k in (1, 2, 3))
    copies, places, labels, first = [], [], [], 0
    for s, sentence in enumerate(sentences):
        copy = list(sentence)
        for t in range(1, len(sentence) - 1):
            e = s * LONGEST + t
            if chosen[e] >= MASKED:
                continue
            places.append(first + t)
            labels.append(sentence[t])
            if fate[e] < 0.8:
                copy[t] = MASK
            elif fate[e] < 0.9:
                copy[t] = int(np.floor(VOCAB * other[e]))
        copies.append(copy)
        first += len(sentence)
    return copies, places, labels


def mlm_loss(weights, step, sentences):
    copies, places, labels = mask(step, sentences)
    head = "cls.predictions"
    x = golden.encode(weights, copies)[-1][places]
    dense = f"{head}.transform.dense"
    x = F.gelu(F.linear(x, weights[f"{dense}.weight"], weights[f"{dense}.bias"]))
    norm = f"{head}.transform.LayerNorm"
    x = F.layer_norm(x, (HIDDEN,), weights[f"{norm}.weight"], weights[f"{norm}.bias"], 1e-12)
    logits = F.linear(x, weights["embeddings.word_embeddings.weight"], weights[f"{head}.bias"])
    return F.cross_entropy(logits, torch.tensor(labels))


def distill_loss(kind, embeddings, taught, ids, columns):
    units = F.normalize(embeddings, dim=1)
    if kind == "mse":
        return (units - taught).square().sum(1).mean()
    n = len(ids) // columns
    own = torch.tensor([[a == b for b in ids[n:]] for a in ids[:n]])

    def logs(x):
        logits = x[:n] @ x[n:].T / DISTILL_TEMPERATURE
        return F.log_softmax(logits.masked_fill(own, -math.inf), dim=1).masked_fill(own, -1e9)

    student, teacher = logs(units), logs(taught)
    return (teacher.exp() * (teacher - student)).sum(1).mean()


def teachers(numbers, dimension, dtype):
    """Unit vectors of sentences by their numbers."""
    vectors = [uniform(5000 + number, dimension) for number in numbers]
    return F.normalize(torch.tensor(np.stack(vectors), dtype=dtype), dim=1)


def curve(kind, pooler, extra, dtype=torch.float64):
    weights = golden.trainable(initial_weights(), dtype)
    groups = [[n for n in weights if golden.is_decayed(n) == decayed] for decayed in (True, False)]
    optimizer = torch.optim.AdamW(
        [
            {"params": [weights[n] for n in names], "weight_decay": decay}
            for names, decay in zip(groups, (golden.WEIGHT_DECAY, 0.0))
        ],
        betas=golden.BETAS,
        eps=golden.EPSILON,
    )
    data, columns = rows(), 3 if kind == "triplets" else 2
    losses = []
    for step in range(1, STEPS + 1):
        first = (step - 1) * BATCH % SENTENCES
        batch = range(first, first + BATCH)
        # The number of a sentence: its column, then its row; a sentence is its own positive without supervision.
        numbers = [(c if columns == 3 else 0) * SENTENCES + row for c in range(columns) for row in batch]
        sentences = [data[number % SENTENCES][number // SENTENCES] for number in numbers]
        loss = torch.zeros((), dtype=dtype)
        if extra != "mlm alone":
            embeddings = golden.embed(weights, sentences, pooler)
            parts = embeddings.split(BATCH)
            loss = golden.contrastive_loss(*parts)
        if extra == "mlm alone":
            loss = mlm_loss(weights, step, sentences[:BATCH])
        elif extra == "mlm":
            loss = loss + MLM_WEIGHT * mlm_loss(weights, step, sentences)
        elif extra is not None:
            taught = teachers(numbers, HIDDEN if extra == "mse" else TEACHER, dtype)
            loss = loss + DISTILL_WEIGHT * distill_loss(extra, embeddings, taught, numbers, columns)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - (step - 1) / STEPS)
        optimizer.zero_grad()
        loss.backward()
        used = [w for w in weights.values() if w.grad is not None]
        nn.utils.clip_grad_norm_(used, golden.MAX_GRADIENT_NORM)
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    torch.set_num_threads(1)
    golden.CONFIG.update(SHAPE)
    golden.HIDDEN, golden.LAYERS, golden.HEADS = HIDDEN, 2, 2
    curves = {}
    cases = [
        (kind, pooler, extra)
        for kind in ("unsup", "triplets")
        for pooler in ("cls", "avg")
        for extra in (None, "mlm")
    ]
    cases += [("unsup", "avg", "mlm alone"), ("unsup", "cls", "similarity")]
    cases += [("triplets", "avg", "similarity"), ("triplets", "avg", "mse")]
    cases += [("unsup", "avg_first_last", None), ("triplets", "avg_first_last", None)]
    for case in cases:
        name = ", ".join(part for part in case if part)
        exact, single = curve(*case), curve(*case, torch.float32)
        curves[name] = [golden.rounded(loss, 10) for loss in exact]
        error = max(abs(a / b - 1) for a, b in zip(single, exact))
        print(f"{name}: {exact[0]:.4f} to {exact[-1]:.4f}; PyTorch's float32 is within {error:.1e}")
    result = {
        "config": golden.CONFIG,
        "steps": STEPS,
        "batchSize": BATCH,
        "sentences": SENTENCES,
        "temperature": golden.TEMPERATURE,
        "learningRate": LEARNING_RATE,
        "betas": list(golden.BETAS),
        "epsilon": golden.EPSILON,
        "weightDecay": golden.WEIGHT_DECAY,
        "maxGradientNorm": golden.MAX_GRADIENT_NORM,
        "mlmWeight": MLM_WEIGHT,
        "masked": MASKED,
        "distill": {
            "weight": DISTILL_WEIGHT,
            "temperature": DISTILL_TEMPERATURE,
            "dimension": TEACHER,
        },
        "curves": curves,
    }
    text = golden.to_json(result)
    (golden.FOLDER / "curves.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
