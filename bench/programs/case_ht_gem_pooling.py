"""A small CNN with generalised-mean pooling of a learnable exponent.

Fault: where a channel is zero on the whole image, the root of a mean of 0 has an infinite slope and
infinity times zero is NaN. Fix: clamp at 1e-6 before the power, as the paper does. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

FIXED = "--fixed" in sys.argv
torch.set_num_threads(1)
torch.manual_seed(0)


class GeM(nn.Module):
    def __init__(self, p=3.0):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, x):
        if FIXED:
            x = x.clamp(min=1e-6)
        return x.pow(self.p).mean((2, 3)).pow(1 / self.p)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        )
        self.pool = GeM()
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc(self.pool(self.features(x)))


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
labels = torch.tensor(digits.target)
perm = torch.randperm(len(images))
images, labels = images[perm], labels[perm]
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(14):
    net.train()
    for i in range(0, 1400, 50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images[i : i + 50]), labels[i : i + 50])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
with torch.no_grad():
    print("final accuracy", (net(images[1400:]).argmax(1) == labels[1400:]).float().mean().item())
