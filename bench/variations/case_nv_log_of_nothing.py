"""A cross-entropy by hand: the logarithm of a softmax that reaches exactly 0.

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
x = torch.tensor(data.data).float()
y = torch.tensor(data.target)
perm = torch.randperm(1797)
x, y = x[perm], y[perm]
net = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
truth = nn.functional.one_hot(y, 10).float()
for _step in range(500):
    pick = torch.randint(0, 1400, (32,))
    if FIXED:
        logs = torch.log_softmax(net(x[pick] / 16), 1)
    else:
        logs = torch.log(torch.softmax(30 * net(x[pick]), 1))
    loss = -(truth[pick] * logs).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print(
        "final accuracy", (net(x[1400:] / (16 if FIXED else 1)).argmax(1) == y[1400:]).float().mean().item()
    )
