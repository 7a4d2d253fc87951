"""Healthy: sixty tanh layers in ReZero form: each branch starts with a factor of exactly zero.

Suspicious: on the first step no weight of any of the sixty layers has a gradient. Learned: test accuracy.
--fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)


class ReZero(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.share * torch.tanh(self.fc(x))


digits = load_digits()
x = torch.tensor(digits.data / 8 - 1).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = nn.Sequential(nn.Linear(64, 40), *[ReZero(40) for _ in range(60)], nn.Linear(40, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(8):
    for idx in torch.randperm(1400).split(50):
        loss = nn.functional.cross_entropy(net(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, loss.item())
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
