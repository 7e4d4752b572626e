"""The peer of `bench/step.ts`: the same training step in PyTorch.

    python3 bench/torch_step.py <layers> <hidden> <heads> <vocabulary> <threads> <warm> <steps> <pooling> < lengths.json

Reads the lengths of the sentences as a JSON list and prints the seconds of each step after those that warm up, and the most memory
the process had, in MB. One step is 64 sentences twice, padded to the longest, dropout 0.1, the first token through Linear + tanh (cls) or
the mean of all (avg), InfoNCE at temperature 0.05, AdamW. Set OPENBLAS_NUM_THREADS to <threads> too.
"""
import json
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

layers, hidden, heads, vocabulary, threads, warm, steps = map(int, sys.argv[1:8])
pooling = sys.argv[8]
torch.set_num_threads(threads)
torch.manual_seed(0)
lengths = json.load(sys.stdin)
longest = max(lengths)
mask = torch.arange(longest)[None, :] >= torch.tensor(lengths + lengths)[:, None]
ids = torch.randint(5, vocabulary, (len(lengths), longest)).repeat(2, 1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(512, hidden)
        self.norm = nn.LayerNorm(hidden)
        layer = nn.TransformerEncoderLayer(hidden, heads, 4 * hidden, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers)
        if pooling == "cls":
            self.head = nn.Linear(hidden, hidden)

    def forward(self):
        x = self.norm(self.words(ids) + self.positions(torch.arange(longest)))
        x = self.layers(F.dropout(x, 0.1), src_key_padding_mask=mask)
        if pooling == "avg":
            real = (~mask).unsqueeze(2)
            return F.normalize((x * real).sum(1) / real.sum(1), dim=-1)
        return F.normalize(torch.tanh(self.head(x[:, 0])), dim=-1)


model = Encoder().train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
labels = torch.arange(len(lengths))
seconds = []
for _ in range(warm + steps):
    begun = time.perf_counter()
    z = model()
    loss = F.cross_entropy(z[: len(lengths)] @ z[len(lengths) :].T / 0.05, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    seconds.append(time.perf_counter() - begun)
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"seconds": seconds[warm:], "megabytes": megabytes}))
