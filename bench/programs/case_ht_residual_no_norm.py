"""Forty residual blocks without normalisation on the wine table.

Fault: each block of He-initialised layers adds a branch as large as its input, so the signal doubles its
variance forty times over and one step throws the weights away. Fix: a layer norm at the start of each
branch and a last weight of zero in it. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv
torch.set_num_threads(1)
torch.manual_seed(0)


class Residual(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim) if FIXED else nn.Identity()
        self.up, self.down = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for layer in (self.up, self.down):
            nn.init.kaiming_normal_(layer.weight)
        if FIXED:
            nn.init.zeros_(self.down.weight)

    def forward(self, x):
        return x + self.down(F.relu(self.up(self.norm(x))))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(13, 32)
        self.blocks = nn.ModuleList(Residual(32) for _ in range(40))
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


table = load_wine()
x = torch.tensor(scale(table.data), dtype=torch.float32)
y = torch.tensor(table.target)
order = torch.randperm(len(x))
fit, held = order[:120], order[120:]
model = Tower()
sgd = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(50):
    total = 0.0
    for idx in fit[torch.randperm(120)].split(20):
        loss = F.cross_entropy(model(x[idx]), y[idx])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        total += loss.item()
    print("epoch", epoch, total / 6)
with torch.no_grad():
    print("final accuracy", (model(x[held]).argmax(1) == y[held]).float().mean().item())
