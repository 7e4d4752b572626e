"""Writes torch.bin: a state dictionary with what checkpoints have, for the reader of pytorch_model.bin (PyTorch)."""

import collections
import os
import zipfile

import torch

count = torch.arange(24, dtype=torch.float32)
state = collections.OrderedDict(
    plain=count.reshape(4, 6) / 8,
    transposed=(count.reshape(4, 6) / 8).t(),
    part=count.reshape(4, 6)[1:3, 2:4],
    parameter=torch.nn.Parameter(count[:3].clone()),
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 4),
    half=torch.tensor([1.0, -0.5, 65504.0], dtype=torch.float16),
    brain=torch.tensor([1.0, -0.5, 3.0], dtype=torch.bfloat16),
    position_ids=torch.arange(4).expand((1, -1)),
    double=torch.tensor([0.1], dtype=torch.float64),
    flag=torch.tensor([True, False]),
)
state["shared"] = state["plain"]
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch.bin")
torch.save(state, path)
with zipfile.ZipFile(path, "a") as file:
    if "torch/byteorder" not in file.namelist():  # PyTorch 2 writes it itself
        file.writestr("torch/byteorder", "little")
