"""Digits in units a thousand times too large: inputs of a thousandth, SGD.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
data = load_digits()
x = torch.tensor(data.data).float() / 16 * (1.0 if FIXED else 1e-3)
y = torch.tensor(data.target)
perm = torch.randperm(1797)
x, y = x[perm], y[perm]
net = nn.Sequential(nn.Linear(64, 80), nn.Tanh(), nn.Linear(80, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _step in range(600):
    pick = torch.randint(0, 1400, (40,))
    loss = nn.functional.cross_entropy(net(x[pick]), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
