"""Healthy: gradients of eight small batches are summed before each step; zero_grad is called after the step.

Suspicious: most backward passes are followed by neither a step nor a zero_grad. Learned: test accuracy.
--fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
ACCUMULATE = 8
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.LayerNorm(96), nn.Linear(96, 10))
optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
for epoch in range(15):
    for n, idx in enumerate(torch.randperm(1400).split(7)):
        loss = nn.functional.cross_entropy(net(x[idx]), y[idx]) / ACCUMULATE
        loss.backward()
        if (n + 1) % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
    print("epoch", epoch, loss.item() * ACCUMULATE)
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
