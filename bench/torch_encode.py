"""The peer of `bench/encode.ts`: a BERT of random weights in PyTorch, on texts padded to the longest, by one thread.

    python3 bench/torch_encode.py <layers> <hidden> <heads> <vocabulary> < lengths.json

Reads the lengths of the texts as a JSON list and prints the seconds of seven runs after a second of warming up.
"""
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

layers, hidden, heads, vocabulary = map(int, sys.argv[1:5])
torch.set_num_threads(1)
lengths = json.load(sys.stdin)
longest = max(lengths)
ids = torch.randint(5, vocabulary, (len(lengths), longest))
padding = torch.arange(longest)[None, :] >= torch.tensor(lengths)[:, None]
bias = padding[:, None, None, :] * torch.finfo(torch.float32).min


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.up = nn.Linear(hidden, 4 * hidden)
        self.down = nn.Linear(4 * hidden, hidden)
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, x):
        texts, tokens, _ = x.shape
        qkv = self.qkv(x).view(texts, tokens, 3, heads, hidden // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = F.softmax(q @ k.transpose(-1, -2) / (hidden // heads) ** 0.5 + bias, dim=-1)
        x = self.first(x + self.output((weights @ v).transpose(1, 2).reshape(texts, tokens, hidden)))
        return self.second(x + self.down(F.gelu(self.up(x))))


words, positions = nn.Embedding(vocabulary, hidden), nn.Embedding(512, hidden)
norm = nn.LayerNorm(hidden)
encoder = nn.Sequential(*(Layer() for _ in range(layers)))
kept = (~padding)[:, :, None].float()


def run():
    x = encoder(norm(words(ids) + positions(torch.arange(longest))))
    return F.normalize((x * kept).sum(1) / kept.sum(1), dim=-1)


seconds = []
with torch.inference_mode():
    begun = time.perf_counter()
    while time.perf_counter() - begun < 1:
        run()
    for _ in range(7):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
print(json.dumps(seconds))
