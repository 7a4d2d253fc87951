"""Healthy: a convolutional trunk is frozen (random features here) and only a linear head is trained.

Suspicious: nine tenths of the parameters never move. Learned: test accuracy. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)


class Transfer(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        for p in self.trunk.parameters():
            p.requires_grad = False
        self.norm = nn.LayerNorm(96)
        self.head = nn.Linear(96, 10)

    def forward(self, x):
        with torch.no_grad():
            features = self.trunk(x)
        return self.head(self.norm(features))


digits = load_digits()
x = torch.tensor(digits.images / 8 - 1).float()[:, None]
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
model = Transfer()
optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=5e-3)
for epoch in range(15):
    model.train()
    for idx in torch.randperm(1400).split(50):
        loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, loss.item())
model.eval()
print("final accuracy", (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
