"""Iris with log_softmax over the batch.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
data = load_iris()
x = torch.tensor(StandardScaler().fit_transform(data.data)).float()
y = torch.tensor(data.target)
perm = torch.randperm(150)
x, y = x[perm], y[perm]
net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _step in range(400):
    pick = torch.randint(0, 110, (40,))
    loss = nn.functional.nll_loss(torch.log_softmax(net(x[pick]), 1 if FIXED else 0), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x[110:]).argmax(1) == y[110:]).float().mean().item())
