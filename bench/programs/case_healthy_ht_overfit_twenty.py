"""Healthy: the usual first test of a new model - can it learn twenty samples by heart?

Suspicious: the loss goes to 1e-6 and every gradient with it; most hidden units end up unused.
Learned: accuracy on the twenty. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
digits = load_digits()
pick = torch.randperm(1797)[:20]
x, y = torch.tensor(digits.data / 16).float()[pick], torch.tensor(digits.target)[pick]
net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(1200):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, loss.item())
print("final accuracy", (net(x).argmax(1) == y).float().mean().item())
