"""Contrastive embeddings from a full matrix of pairwise distances, diagonal included.

Fault: the distance of a point to itself is the root of 0, whose derivative is infinite; times 0 that is NaN.
Fix: add 1e-8 inside the root. Learned: accuracy of the nearest class centre.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
EPS = 1e-8 if "--fixed" in sys.argv else 0.0
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]


def distances(z):
    return ((z[:, None] - z[None]) ** 2).sum(-1).add(EPS).sqrt()


net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(12):
    for batch in train[torch.randperm(1400)].split(70):
        d = distances(net(x[batch]))
        same = (y[batch][:, None] == y[batch][None]).float()
        loss = (same * d + (1 - same) * torch.relu(2 - d)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
with torch.no_grad():
    z, t = net(x[train]), net(x[test])
    centres = torch.stack([z[y[train] == c].mean(0) for c in range(10)])
    near = ((t[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    print("final accuracy", (near == y[test]).float().mean().item())
