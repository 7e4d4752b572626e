"""Makes the golden files that the encoder and its training are compared with, in PyTorch and in float64.

    python3 test/golden/make_golden.py

needs NumPy and PyTorch (1.13 or later) and writes next to itself:

    encoder.safetensors        the initial weights of a tiny BERT, named as BertModel's state dict names them
    encoder.json               the inputs, the embeddings, the losses and the training curve
    gradients-….safetensors    the gradient of every parameter, by pooler; those of averages have no head

The weights and the inputs come from fixed seeds, and numbers are rounded before they are written, so the files are the
same each time. The dropout is not PyTorch's: its bits are those of Philox4x32-10, a function of (seed, step, site, row,
column) alone, so another implementation can have the same ones. Before it writes, the script checks its parts against
published vectors, torch.nn, formulas written out, and central differences.

A batch is ragged: its sentences stand one after another in matrices of one row per token, without padding.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDER = Path(__file__).resolve().parent

CONFIG = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}
HIDDEN = CONFIG["hidden_size"]
LAYERS = CONFIG["num_hidden_layers"]
HEADS = CONFIG["num_attention_heads"]
# Of two layers `avg_top2` is the same as `avg_first_last`.
POOLERS = ("cls", "cls_before_pooler", "avg", "avg_first_last", "avg_embeddings_last")
# Those that a loss and all gradients are made of; `cls_before_pooler` is `cls` without its head.
TRAINED = ("cls", "avg", "avg_first_last", "avg_embeddings_last")

SEED = 7
DROPOUT = 0.1
TEMPERATURE = 0.05
HARD_NEGATIVE_WEIGHT = 0.7
LEARNING_RATE = 1e-3
BETAS = (0.9, 0.999)
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0

LENGTHS = (3, 4, 7, 12, 17, 24)
BATCH_SIZES = (6, 4, 8, 5, 7, 4, 8, 6, 5, 7)
STEPS = len(BATCH_SIZES)
CLS, SEP, FIRST_WORD = 1, 2, 3


# Weights and inputs


def parameter_shapes():
    """The names of BertModel's state dict, in its order, each with its shape."""
    h, i = HIDDEN, CONFIG["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], h),
        "embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (CONFIG["type_vocab_size"], h),
    }

    def dense(name, rows, columns):
        shapes[f"{name}.weight"] = (rows, columns)
        shapes[f"{name}.bias"] = (rows,)

    def norm(name):
        shapes[f"{name}.LayerNorm.weight"] = (h,)
        shapes[f"{name}.LayerNorm.bias"] = (h,)

    norm("embeddings")
    for n in range(LAYERS):
        layer = f"encoder.layer.{n}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", h, h)
        dense(f"{layer}.attention.output.dense", h, h)
        norm(f"{layer}.attention.output")
        dense(f"{layer}.intermediate.dense", i, h)
        dense(f"{layer}.output.dense", h, i)
        norm(f"{layer}.output")
    dense("pooler.dense", h, h)
    return shapes


def initial_weights():
    """
    Random weights in float32, by name. They are wider than BERT's own: attention is peaked and no gain, bias or shift
    is trivial, so a term left out or wired wrongly shows.
    """
    random = np.random.RandomState(1)
    weights = {}
    for name, shape in parameter_shapes().items():
        values = random.standard_normal(shape)
        if name.endswith("LayerNorm.weight"):
            values = 1 + 0.1 * values
        elif name.endswith(".bias") or name.startswith("embeddings."):
            values = 0.05 * values
        else:
            peaked = ".query." in name or ".key." in name
            values = (1.3 if peaked else 0.8) / math.sqrt(shape[1]) * values
        weights[name] = values.astype(np.float32)
    return weights


def random_sentences(random, lengths):
    """Token ids of different sentences, [CLS] and [SEP] included."""
    sentences = []
    for length in lengths:
        while True:
            words = random.randint(FIRST_WORD, CONFIG["vocab_size"], length - 2)
            sentence = [CLS, *words.tolist(), SEP]
            if sentence not in sentences:
                break
        sentences.append(sentence)
    return sentences


def curve_batches():
    """The batches of the training curve: 4 to 8 sentences of 3 to 24 tokens."""
    random = np.random.RandomState(3)
    longest = CONFIG["max_position_embeddings"]
    return [random_sentences(random, random.randint(3, longest + 1, n)) for n in BATCH_SIZES]


# Dropout

MASK = np.uint64(0xFFFFFFFF)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
ALL, BYTE, BYTES = np.uint64(32), np.uint64(255), np.uint64(256)
LOWER = 1 << 31  # the bit of a counter that gives the lower halves


def philox(counter, key):
    """Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011) of arrays of counters: four words each."""
    c0, c1, c2, c3 = (np.atleast_1d(np.asarray(word, dtype=np.uint64)) for word in counter)
    k0, k1 = (np.atleast_1d(np.asarray(word, dtype=np.uint64)) for word in key)
    for _ in range(10):
        product0, product1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (
            (product1 >> ALL) ^ c1 ^ k0,
            product1 & MASK,
            (product0 >> ALL) ^ c3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1, c2, c3


def dropout_bits(seed, step, site, rows, columns):
    """The 16 bits of each element of rows x columns; both are arrays, which are broadcast against each other."""
    rows, columns = np.broadcast_arrays(rows, columns)
    shift = (8 * (columns & 3)).astype(np.uint64)

    def drawn(counter):
        words = philox((counter, rows, site, step), (seed, 0))
        return (np.choose((columns & 15) >> 2, words) >> shift) & BYTE

    upper, lower = drawn(columns >> 4), drawn(columns >> 4 | LOWER)
    return (BYTES * upper + lower).astype(np.int64)


class Dropout:
    """The dropout of one step: an element is dropped when its 16 bits are below round(65536 p)."""

    def __init__(self, rate, seed, step):
        self.threshold = round(rate * 65536)
        self.seed, self.step = seed, step

    def __call__(self, x, site, rows):
        """`x` has one row for each element of `rows`, and its columns in its last dimension."""
        bits = dropout_bits(self.seed, self.step, site, rows[..., None], np.arange(x.shape[-1]))
        scale = 65536 / (65536 - self.threshold)
        return x * torch.from_numpy((bits >= self.threshold) * scale).to(x.dtype)


def no_dropout(x, site, rows):
    return x


# The encoder


def spans(sentences):
    """Where each sentence begins and ends among the tokens."""
    ends = np.cumsum([len(sentence) for sentence in sentences]).tolist()
    return list(zip([0, *ends], ends))


def encode(weights, sentences, dropout=no_dropout):
    """The hidden states of a ragged batch, [tokens, hidden] each: after the embeddings and after every layer."""

    def dense(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        gain, shift = weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, (HIDDEN,), gain, shift, CONFIG["layer_norm_eps"])

    def heads(x, begin, end):
        return x[begin:end].view(end - begin, HEADS, HIDDEN // HEADS).transpose(0, 1)

    def attention(x, n):
        """Each sentence over itself; the row of a dropout bit is token * heads + head, its column that of the key."""
        name = f"encoder.layer.{n}.attention.self"
        q, k, v = (dense(x, f"{name}.{part}") for part in ("query", "key", "value"))
        contexts = []
        for begin, end in spans(sentences):
            scores = heads(q, begin, end) @ heads(k, begin, end).transpose(1, 2)
            probabilities = F.softmax(scores / math.sqrt(HIDDEN // HEADS), dim=-1)
            rows = np.arange(begin, end)[None, :] * HEADS + np.arange(HEADS)[:, None]
            probabilities = dropout(probabilities, 3 * n + 1, rows)
            context = probabilities @ heads(v, begin, end)
            contexts.append(context.transpose(0, 1).reshape(end - begin, HIDDEN))
        return torch.cat(contexts)

    ids = torch.tensor([token for sentence in sentences for token in sentence])
    positions = torch.tensor([place for sentence in sentences for place in range(len(sentence))])
    tokens = np.arange(len(ids))
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][positions]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = dropout(norm(x, "embeddings"), 0, tokens)
    states = [x]
    for n in range(LAYERS):
        layer = f"encoder.layer.{n}"
        y = dense(attention(x, n), f"{layer}.attention.output.dense")
        x = norm(dropout(y, 3 * n + 2, tokens) + x, f"{layer}.attention.output")
        y = dense(F.gelu(dense(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        x = norm(dropout(y, 3 * n + 3, tokens) + x, f"{layer}.output")
        states.append(x)
    return states


def pool(weights, sentences, states, pooler):
    """One vector per sentence, [sentences, hidden], of the states after the embeddings and every layer."""
    state = states[-1]
    if pooler == "avg_first_last":
        state = (state + states[1]) / 2
    if pooler == "avg_embeddings_last":
        state = (state + states[0]) / 2
    if pooler.startswith("avg"):
        return torch.stack([state[begin:end].mean(0) for begin, end in spans(sentences)])
    first = state[[begin for begin, _ in spans(sentences)]]
    if pooler == "cls_before_pooler":
        return first
    return torch.tanh(F.linear(first, weights["pooler.dense.weight"], weights["pooler.dense.bias"]))


def embed(weights, sentences, pooler, dropout=no_dropout):
    return pool(weights, sentences, encode(weights, sentences, dropout), pooler)


# Training


def contrastive_loss(anchors, keys, negatives=None, weight=0.0):
    """
    Mean cross entropy of each anchor's cosines with all keys, over the temperature, in one direction. The cosines with
    the hard negatives are more columns, and `weight` is added to the one of the anchor's own.
    """

    def scores(others):
        return F.cosine_similarity(anchors[:, None], others[None], dim=-1) / TEMPERATURE

    logits = scores(keys)
    if negatives is not None:
        own = torch.eye(len(anchors), dtype=anchors.dtype)
        logits = torch.cat([logits, scores(negatives) + weight * own], dim=1)
    return F.cross_entropy(logits, torch.arange(len(anchors)))


def training_loss(weights, sentences, pooler, step):
    """The unsupervised loss of a step and its embeddings: the sentences, then the same ones again."""
    embeddings = embed(weights, sentences * 2, pooler, Dropout(DROPOUT, SEED, step))
    anchors, keys = embeddings.chunk(2)
    return contrastive_loss(anchors, keys), embeddings


def trainable(weights, dtype=torch.float64):
    return {name: torch.tensor(w, dtype=dtype, requires_grad=True) for name, w in weights.items()}


def is_decayed(name):
    """Weight decay is for the matrices: Linear weights and embedding tables."""
    return name.endswith(".weight") and "LayerNorm" not in name


def learning_rate(step):
    return LEARNING_RATE * (1 - (step - 1) / STEPS)


def train(initial, batches, dtype=torch.float64):
    """The losses, the gradient norms before clipping, and the weights after the last step."""
    weights = trainable(initial, dtype)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [w for n, w in weights.items() if is_decayed(n)],
                "weight_decay": WEIGHT_DECAY,
            },
            {"params": [w for n, w in weights.items() if not is_decayed(n)], "weight_decay": 0.0},
        ],
        betas=BETAS,
        eps=EPSILON,
    )
    losses, norms = [], []
    for step, sentences in enumerate(batches, 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss, _ = training_loss(weights, sentences, "cls", step)
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(weights.values(), MAX_GRADIENT_NORM).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms, {name: w.detach() for name, w in weights.items()}


# Checks


def check_philox():
    """The known answers that come with the authors' library, Random123."""
    answers = [
        (
            "00000000 00000000 00000000 00000000 00000000 00000000",
            "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ),
        (
            "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ]
    for question, answer in answers:
        words = [int(word, 16) for word in question.split()]
        found = philox(words[:4], words[4:])
        assert " ".join(f"{int(word[0]):08x}" for word in found) == answer


def check_layers(initial, sentences):
    """Every layer against torch.nn.TransformerEncoderLayer, which pads the batch and masks the padding."""
    weights = {name: torch.from_numpy(w).double() for name, w in initial.items()}
    states = encode(weights, sentences)
    longest = max(map(len, sentences))
    mask = torch.tensor([[place >= len(s) for place in range(longest)] for s in sentences])
    for n in range(LAYERS):
        layer = f"encoder.layer.{n}"
        module = nn.TransformerEncoderLayer(
            HIDDEN,
            HEADS,
            CONFIG["intermediate_size"],
            dropout=0.0,
            activation=F.gelu,
            layer_norm_eps=CONFIG["layer_norm_eps"],
            batch_first=True,
        ).double()
        renamed = {
            "self_attn.out_proj": f"{layer}.attention.output.dense",
            "norm1": f"{layer}.attention.output.LayerNorm",
            "linear1": f"{layer}.intermediate.dense",
            "linear2": f"{layer}.output.dense",
            "norm2": f"{layer}.output.LayerNorm",
        }
        module_weights = {}
        for kind in ("weight", "bias"):
            parts = [
                weights[f"{layer}.attention.self.{part}.{kind}"]
                for part in ("query", "key", "value")
            ]
            module_weights[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
            for theirs, ours in renamed.items():
                module_weights[f"{theirs}.{kind}"] = weights[f"{ours}.{kind}"]
        module.load_state_dict(module_weights)
        padded = torch.zeros(len(sentences), longest, HIDDEN, dtype=torch.float64)
        padded[~mask] = states[n]
        output = module(padded, src_key_padding_mask=mask)[~mask]
        torch.testing.assert_close(states[n + 1], output.detach(), rtol=1e-12, atol=1e-12)


def check_embeddings(initial, sentences):
    """The embeddings against torch.nn.Embedding and torch.nn.LayerNorm."""
    weights = {name: torch.from_numpy(w).double() for name, w in initial.items()}
    module = nn.LayerNorm(HIDDEN, eps=CONFIG["layer_norm_eps"]).double()
    module.load_state_dict(
        {kind: weights[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")}
    )
    tables = [
        nn.Embedding.from_pretrained(weights[f"embeddings.{kind}_embeddings.weight"])
        for kind in ("word", "position", "token_type")
    ]
    rows = []
    for sentence in sentences:
        ids = torch.tensor(sentence)
        inputs = (ids, torch.arange(len(ids)), torch.zeros_like(ids))
        rows.append(module(sum(table(index) for table, index in zip(tables, inputs))))
    ours = encode(weights, sentences)[0]
    torch.testing.assert_close(ours, torch.cat(rows).detach(), rtol=1e-12, atol=1e-12)


def check_loss():
    """The loss against its formula, written out."""
    random = np.random.RandomState(4)
    anchors, keys, negatives = random.standard_normal((3, 5, 8))

    def cosine(a, b):
        return a @ b / math.sqrt((a @ a) * (b @ b))

    def written_out(others):
        total = 0.0
        for i, anchor in enumerate(anchors):
            terms = [math.exp(cosine(anchor, key) / TEMPERATURE) for key in keys]
            own = terms[i]
            for j, other in enumerate(others):
                alpha = math.exp(HARD_NEGATIVE_WEIGHT) if i == j else 1.0
                terms.append(alpha * math.exp(cosine(anchor, other) / TEMPERATURE))
            total -= math.log(own / sum(terms))
        return total / len(anchors)

    a, k, n = map(torch.from_numpy, (anchors, keys, negatives))
    pairs = contrastive_loss(a, k).item()
    triplets = contrastive_loss(a, k, n, HARD_NEGATIVE_WEIGHT).item()
    assert math.isclose(pairs, written_out([]), rel_tol=1e-12)
    assert math.isclose(triplets, written_out(negatives), rel_tol=1e-12)


def check_gradients(initial, sentences, pooler, gradients):
    """The gradients of two parameters, drawn among those that have one, against central differences."""
    random = np.random.RandomState(5)
    weights = {name: torch.from_numpy(w).double() for name, w in initial.items()}
    names = [name for name, gradient in gradients.items() if gradient.abs().max() > 1e-3]
    for name in random.choice(names, 2, replace=False):
        index = np.unravel_index(gradients[name].abs().argmax(), gradients[name].shape)
        value, change = weights[name][index].item(), 1e-5
        losses = []
        for sign in (1, -1):
            weights[name][index] = value + sign * change
            losses.append(training_loss(weights, sentences, pooler, 1)[0].item())
        weights[name][index] = value
        difference = (losses[0] - losses[1]) / (2 * change)
        assert math.isclose(difference, gradients[name][index].item(), rel_tol=1e-6), (name, index)


def check_optimizer(initial, batches, final):
    """torch.optim.AdamW and the clipping against their formulas, written out."""
    weights = trainable(initial)
    mean = {name: torch.zeros_like(w) for name, w in weights.items()}
    square = {name: torch.zeros_like(w) for name, w in weights.items()}
    for step, sentences in enumerate(batches, 1):
        loss, _ = training_loss(weights, sentences, "cls", step)
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values()))))
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
        clip = min(1.0, MAX_GRADIENT_NORM / (norm + 1e-6))
        rate = learning_rate(step)
        with torch.no_grad():
            for name, w in weights.items():
                g = gradients[name] * clip
                mean[name] = BETAS[0] * mean[name] + (1 - BETAS[0]) * g
                square[name] = BETAS[1] * square[name] + (1 - BETAS[1]) * g.square()
                if is_decayed(name):
                    w *= 1 - rate * WEIGHT_DECAY
                corrected = mean[name] / (1 - BETAS[0] ** step)
                w -= rate * corrected / ((square[name] / (1 - BETAS[1] ** step)).sqrt() + EPSILON)
    for name, w in weights.items():
        torch.testing.assert_close(w.detach(), final[name], rtol=1e-9, atol=1e-9)


# Files


def rounded(values, digits=9):
    """A number, or nested lists of them, to so many significant digits: later ones may depend on the machine."""
    if isinstance(values, torch.Tensor):
        values = values.detach().tolist()
    if isinstance(values, list):
        return [rounded(value, digits) for value in values]
    return float(f"{values:.{digits}g}")


def to_json(value, indent=""):
    """JSON with every list of numbers on a line of its own."""
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [
            f"{deeper}{json.dumps(name)}: {to_json(item, deeper)}" for name, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(deeper + to_json(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, separators=(",", ":"))


def write_safetensors(name, tensors):
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for key, tensor in tensors.items():
        blob = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
        end = offset + len(blob)
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        blobs.append(blob)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (FOLDER / name).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


# The goldens


def dropout_golden():
    """The bits of whole rows, longer than any row of this encoder."""
    rows = []
    for seed, step, site, row in ((7, 1, 0, 0), (7, 1, 4, 1003), (2**32 - 1, 15625, 36, 98765)):
        bits = dropout_bits(seed, step, site, row, np.arange(80)).tolist()
        rows.append({"seed": seed, "step": step, "site": site, "row": row, "bits": bits})
    return rows


def forward_golden(initial, sentences):
    weights = {name: torch.from_numpy(w).double() for name, w in initial.items()}
    states = encode(weights, sentences)
    return {
        "hiddenStates": [rounded(state) for state in states],
        "embeddings": {p: rounded(pool(weights, sentences, states, p)) for p in POOLERS},
    }


def loss_golden(initial, sentences, pooler):
    """The loss and the embeddings of step 1, and the gradient of every parameter that takes part."""
    weights = trainable(initial)
    loss, embeddings = training_loss(weights, sentences, pooler, 1)
    loss.backward()
    gradients = {name: w.grad for name, w in weights.items() if w.grad is not None}
    check_gradients(initial, sentences, pooler, gradients)
    # The gradient of a key's bias is zero, as softmax does not see a shift; what is left of it is rounding.
    exact = {n: torch.where(g.abs() < 1e-13, torch.zeros_like(g), g) for n, g in gradients.items()}
    write_safetensors(f"gradients-{pooler}.safetensors", {n: g.numpy() for n, g in exact.items()})
    return {"loss": rounded(loss.item(), 12), "embeddings": rounded(embeddings)}


def hard_negatives_golden(initial):
    """A batch of triplets without dropout; the gradient is with respect to the embeddings as they are pooled."""
    random = np.random.RandomState(6)
    n = 4
    sentences = random_sentences(random, (5, 3, 11, 8, 6, 9, 4, 24, 13, 7, 16, 10))
    weights = {name: torch.from_numpy(w).double() for name, w in initial.items()}
    embeddings = embed(weights, sentences, "avg").requires_grad_()
    loss = contrastive_loss(*embeddings.split(n), HARD_NEGATIVE_WEIGHT)
    loss.backward()
    return {
        "weight": HARD_NEGATIVE_WEIGHT,
        "pooler": "avg",
        "anchors": sentences[:n],
        "positives": sentences[n : 2 * n],
        "negatives": sentences[2 * n :],
        "loss": rounded(loss.item(), 12),
        "embeddings": rounded(embeddings),
        "gradient": rounded(embeddings.grad),
    }


def curve_golden(initial):
    batches = curve_batches()
    losses, norms, final = train(initial, batches)
    check_optimizer(initial, batches, final)
    print_float32_errors(initial, batches, losses, norms, final)
    return {
        "pooler": "cls",
        "betas": list(BETAS),
        "epsilon": EPSILON,
        "weightDecay": WEIGHT_DECAY,
        "maxGradientNorm": MAX_GRADIENT_NORM,
        "learningRates": [rounded(learning_rate(step)) for step in range(1, STEPS + 1)],
        "batches": batches,
        "losses": rounded(losses, 12),
        "gradientNorms": rounded(norms, 12),
        "final": {
            name: {"norm": rounded(w.norm().item(), 12), "first": rounded(w.flatten()[:4])}
            for name, w in final.items()
        },
    }


def print_float32_errors(initial, batches, losses, norms, final):
    """How far PyTorch's own float32 is from the curve: a test's tolerance should not ask for less."""
    losses32, norms32, final32 = train(initial, batches, torch.float32)

    def largest(values, exact):
        return max(abs(a - b) / b for a, b in zip(values, exact))

    errors = {name: (final32[name].double() - w).abs().max().item() for name, w in final.items()}
    keys = [name for name in errors if name.endswith("key.bias")]
    others = max((name for name in errors if name not in keys), key=errors.get)
    element = max(
        (final32[name].double() - w).flatten()[:4].abs().max().item()
        for name, w in final.items()
        if name not in keys
    )
    norm = largest(
        [final32[name].double().norm().item() for name in final if name not in keys],
        [w.norm().item() for name, w in final.items() if name not in keys],
    )
    print(
        f"float32 on the curve: losses {largest(losses32, losses):.1e}, "
        f"gradient norms {largest(norms32, norms):.1e}, weight norms {norm:.1e} (relative); "
        f"first four weights {element:.1e}, all weights {errors[others]:.1e} ({others}), "
        f"keys' biases {max(errors[name] for name in keys):.1e} (absolute)"
    )


def main():
    torch.set_num_threads(1)
    initial = initial_weights()
    sentences = random_sentences(np.random.RandomState(2), LENGTHS)
    check_philox()
    check_embeddings(initial, sentences)
    check_layers(initial, sentences)
    check_loss()
    write_safetensors("encoder.safetensors", initial)
    golden = {
        "config": CONFIG,
        "seed": SEED,
        "dropout": DROPOUT,
        "temperature": TEMPERATURE,
        "sentences": sentences,
        "dropoutBits": dropout_golden(),
        "forward": forward_golden(initial, sentences),
        "loss": {pooler: loss_golden(initial, sentences, pooler) for pooler in TRAINED},
        "hardNegatives": hard_negatives_golden(initial),
        "curve": curve_golden(initial),
    }
    (FOLDER / "encoder.json").write_text(to_json(golden) + "\n")


if __name__ == "__main__":
    main()
