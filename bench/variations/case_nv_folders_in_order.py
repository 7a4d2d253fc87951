"""Six blobs, batches in the order of their folders.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import make_blobs
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
points, labels = make_blobs(2400, n_features=12, centers=6, cluster_std=4.0, random_state=0)
order = labels.argsort()
x = torch.tensor(points[order] / 6).float()
y = torch.tensor(labels[order]).long()
net = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 6))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for _epoch in range(8):
    perm = torch.randperm(2400) if FIXED else torch.arange(2400)
    for pick in perm.split(25):
        loss = nn.functional.cross_entropy(net(x[pick]), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x).argmax(1) == y).float().mean().item())
