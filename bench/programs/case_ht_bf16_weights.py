"""Digits with the whole model in bfloat16 and a careful learning rate.

Fault: a step of 5e-5 is less than half the spacing of bfloat16 numbers near most weights, so the sum rounds
back to the old weight. Fix: weights in float32, autocast for the arithmetic. Learned: test accuracy.
"""

import contextlib
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

fixed = "--fixed" in sys.argv
torch.set_num_threads(1)
torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(), nn.Linear(128, 10))
if not fixed:
    model, x = model.bfloat16(), x.bfloat16()
mixed = torch.autocast("cpu", dtype=torch.bfloat16) if fixed else contextlib.nullcontext()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
for epoch in range(45):
    for i in range(0, 1400, 70):
        with mixed:
            logits = model(x[i : i + 70])
        loss = nn.functional.cross_entropy(logits.float(), y[i : i + 70])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 4))
with torch.no_grad():
    print("final accuracy", (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
