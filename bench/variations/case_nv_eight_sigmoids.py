"""Wine through eight sigmoid layers.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
data = load_wine()
x = torch.tensor(StandardScaler().fit_transform(data.data)).float()
y = torch.tensor(data.target)
perm = torch.randperm(178)
x, y = x[perm], y[perm]
kind = nn.ReLU if FIXED else nn.Sigmoid
layers = [nn.Linear(13, 24), kind()]
for _ in range(7):
    layers += [nn.Linear(24, 24), kind()]
net = nn.Sequential(*layers, nn.Linear(24, 3))
optimizer = (
    torch.optim.Adam(net.parameters(), lr=2e-3) if FIXED else torch.optim.SGD(net.parameters(), lr=0.05)
)
for _step in range(500):
    pick = torch.randint(0, 130, (26,))
    loss = nn.functional.cross_entropy(net(x[pick]), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x[130:]).argmax(1) == y[130:]).float().mean().item())
