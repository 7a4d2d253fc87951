"""Digits and their labels, each shuffled with its own permutation.

Fault: nothing ties a label to its image. Fix: one permutation for both. Learned: test accuracy.
"""

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
rng = np.random.default_rng(0)


def load(fixed):
    images, labels = load_digits(return_X_y=True)
    if fixed:
        order = rng.permutation(len(images))
        images, labels = images[order], labels[order]
    else:
        rng.shuffle(images)
        rng.shuffle(labels)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


x, y = load("--fixed" in sys.argv)
net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(30):
    net.train()
    for i in range(0, 1400, 50):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x[i : i + 50]), y[i : i + 50])
        loss.backward()
        opt.step()
    print("epoch", epoch, "loss", loss.item())
net.eval()
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
