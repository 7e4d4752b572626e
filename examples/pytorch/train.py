"""Goes on with a run of `simcse train` in PyTorch, on one process or many, and hands back what `simcse train` goes on with:

    torchrun --nproc-per-node 8 examples/pytorch/train.py RUN --adam RUN/checkpoint.safetensors --train text.txt --output OUT
    simcse train --model OUT --adam OUT/adam.safetensors --train text.txt --output NEXT

needs PyTorch (1.13 or later) and, for --train, the package `tokenizers`. A line of the text is a sentence, which is its own
positive, or two or three with tabs between them: anchor, positive, hard negative. The loss, the weights' names and the optimizer
are those of `simcse train`; dropout is PyTorch's own, so with dropout the bits are others. The learning rate is constant.

A batch is shared out among the processes. Each encodes its rows, all vectors are gathered, so that sentences of all processes
are negatives, and every process has the loss of the whole batch and its own rows' part of the gradient: these are summed.
"""

import argparse
import json
import os
import random
import shutil
import struct
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


# Files: a header of JSON, then the numbers.


def read_safetensors(path):
    """Float32 tensors by name, and the metadata."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name}: expected F32, found {entry['dtype']}")
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32) if end > begin else torch.empty(0)
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata


def write_safetensors(path, tensors, metadata):
    header, parts, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        part = tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + len(part)]}
        parts.append(part)
        offset += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = Path(f"{path}.part")
    temporary.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    temporary.replace(path)


def load_adam(path, model, optimizer):
    """Moments and their steps, from a checkpoint or from `save_adam`."""
    tensors, metadata = read_safetensors(path)
    for name, weight in model.named_parameters():
        optimizer.state[weight] = {
            "step": torch.tensor(float(metadata["adam_steps"])),
            "exp_avg": tensors[f"adam.first.{name}"].to(weight.device),
            "exp_avg_sq": tensors[f"adam.second.{name}"].to(weight.device),
        }


def save_adam(path, model, optimizer):
    state = {name: optimizer.state[weight] for name, weight in model.named_parameters()}
    first = {f"adam.first.{name}": s["exp_avg"] for name, s in state.items()}
    second = {f"adam.second.{name}": s["exp_avg_sq"] for name, s in state.items()}
    steps = {int(s["step"]) for s in state.values()}
    write_safetensors(path, {**first, **second}, {"adam_steps": str(max(steps))})


# The model: parameters by BertModel's names.


def dense_and_norm(inputs, outputs, epsilon):
    return nn.ModuleDict({"dense": nn.Linear(inputs, outputs), "LayerNorm": nn.LayerNorm(outputs, epsilon)})


class Bert(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        h, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config["vocab_size"], h),
                "position_embeddings": nn.Embedding(config["max_position_embeddings"], h),
                "token_type_embeddings": nn.Embedding(config["type_vocab_size"], h),
                "LayerNorm": nn.LayerNorm(h, epsilon),
            }
        )
        attention = lambda: nn.ModuleDict(
            {
                "self": nn.ModuleDict({part: nn.Linear(h, h) for part in ("query", "key", "value")}),
                "output": dense_and_norm(h, h, epsilon),
            }
        )
        layers = [
            nn.ModuleDict(
                {
                    "attention": attention(),
                    "intermediate": nn.ModuleDict({"dense": nn.Linear(h, inner)}),
                    "output": dense_and_norm(inner, h, epsilon),
                }
            )
            for _ in range(config["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.pooling = config["simcse_edge"]["pooling"]
        if self.pooling == "cls":
            self.pooler = nn.ModuleDict({"dense": nn.Linear(h, h)})
        elif self.pooling not in ("cls_before_pooler", "avg"):
            raise ValueError(f"pooling {self.pooling}: expected cls, cls_before_pooler or avg")

    def forward(self, sentences, device):
        """Vectors [sentences, hidden] of lists of token ids."""
        config, e = self.config, self.embeddings
        longest = max(map(len, sentences))
        ids = torch.tensor([s + [0] * (longest - len(s)) for s in sentences], device=device)
        mask = torch.tensor([[1.0] * len(s) + [0.0] * (longest - len(s)) for s in sentences], device=device)
        rate = config["hidden_dropout_prob"]
        places = torch.arange(longest, device=device)
        x = e["word_embeddings"](ids) + e["position_embeddings"](places) + e["token_type_embeddings"].weight[0]
        x = F.dropout(e["LayerNorm"](x), rate, self.training)
        heads = config["num_attention_heads"]
        apart = lambda y: y.view(*y.shape[:2], heads, -1).transpose(1, 2)
        add = lambda part, y, x: part["LayerNorm"](x + F.dropout(part["dense"](y), rate, self.training))
        for layer in self.encoder["layer"]:
            q, k, v = (apart(layer["attention"]["self"][part](x)) for part in ("query", "key", "value"))
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            scores = scores.masked_fill(mask[:, None, None] == 0, float("-inf"))
            p = F.dropout(scores.softmax(-1), config["attention_probs_dropout_prob"], self.training)
            context = (p @ v).transpose(1, 2).reshape(x.shape)
            x = add(layer["attention"]["output"], context, x)
            x = add(layer["output"], F.gelu(layer["intermediate"]["dense"](x)), x)
        if self.pooling == "avg":
            return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.tanh(self.pooler["dense"](x[:, 0])) if self.pooling == "cls" else x[:, 0]


def info_nce(vectors, ids, temperature):
    """Of anchors, positives and hard negatives [columns, rows, hidden]; equal sentences are no negatives of each other."""
    anchors, keys = F.normalize(vectors[0], dim=-1), F.normalize(vectors[1:].flatten(0, 1), dim=-1)
    own = torch.arange(len(anchors), device=vectors.device)
    same = ids[0][:, None] == ids[1:].flatten()[None]
    same[own, own] = False
    return F.cross_entropy((anchors @ keys.T / temperature).masked_fill(same, float("-inf")), own)


def read_rows(options):
    """Rows of two or three lists of token ids."""
    if options.tokens:
        return [json.loads(line) for line in Path(options.tokens).read_text().splitlines()]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(options.model, "tokenizer.json")))
    tokenizer.enable_truncation(options.max_length)
    tokenizer.no_padding()
    lines = [line.split("\t") for line in Path(options.train).read_text().splitlines() if line.strip()]
    rows = [line * 2 if len(line) == 1 else line for line in lines]
    return [[encoding.ids for encoding in tokenizer.encode_batch(row)] for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder of simcse train, of pooling cls, cls_before_pooler or avg")
    parser.add_argument("--adam", help="checkpoint.safetensors of the run, or adam.safetensors of this script")
    parser.add_argument("--train", help="text: a sentence a line, or two or three with tabs")
    parser.add_argument("--tokens", help="instead: a row a line as JSON, [[ids], [ids]] or [[ids], [ids], [ids]]")
    parser.add_argument("--output", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--max-gradient-norm", type=float, default=1.0)
    parser.add_argument("--max-length", type=int, default=32)
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()

    world = int(os.environ.get("WORLD_SIZE", 1))
    rank = int(os.environ.get("RANK", 0))
    cuda = torch.cuda.is_available()
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    device = torch.device("cuda" if cuda else "cpu")
    if options.batch_size % world:
        parser.error(f"--batch-size {options.batch_size}: expected a multiple of {world} processes")

    torch.manual_seed(options.seed + rank)
    config = json.loads(Path(options.model, "config.json").read_text())
    model = Bert(config).to(device).train(not options.no_dropout)
    weights, _ = read_safetensors(Path(options.model, "model.safetensors"))
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    decays = lambda name: name.endswith(".weight") and "LayerNorm" not in name
    groups = [[w for n, w in model.named_parameters() if decays(n) == wanted] for wanted in (True, False)]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": options.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
        lr=options.learning_rate,
    )
    if options.adam:
        load_adam(options.adam, model, optimizer)

    rows = read_rows(options)
    order = random.Random(options.seed)
    columns, share = len(rows[0]), options.batch_size // world
    left = []
    for step in range(1, options.steps + 1):
        if len(left) < options.batch_size:
            left = order.sample(rows, len(rows))
        batch, left = left[: options.batch_size], left[options.batch_size :]
        numbers = {}
        number = lambda ids: numbers.setdefault(tuple(ids), len(numbers))
        ids = torch.tensor([[number(row[c]) for row in batch] for c in range(columns)], device=device)
        own = batch[rank * share : (rank + 1) * share]
        vectors = model([row[c] for c in range(columns) for row in own], device).view(columns, share, -1)
        if world > 1:
            parts = [torch.zeros_like(vectors) for _ in range(world)]
            dist.all_gather(parts, vectors.detach().contiguous())
            parts[rank] = vectors
            vectors = torch.cat(parts, dim=1)
        loss = info_nce(vectors, ids, options.temperature)
        optimizer.zero_grad()
        loss.backward()
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            if world > 1:
                dist.all_reduce(weight.grad)
        nn.utils.clip_grad_norm_(model.parameters(), options.max_gradient_norm or float("inf"))
        optimizer.step()
        if rank == 0:
            print(f"step {step}/{options.steps}  loss {loss.item():.4f}", flush=True)

    if rank == 0:
        output = Path(options.output)
        output.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(Path(options.model, name), output / name)
        write_safetensors(output / "model.safetensors", dict(model.named_parameters()), {"format": "pt"})
        save_adam(output / "adam.safetensors", model, optimizer)


if __name__ == "__main__":
    main()
