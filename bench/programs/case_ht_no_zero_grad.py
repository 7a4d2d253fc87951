"""A plain loop over digits that never clears its gradients.

Fault: each step goes along the sum of all gradients so far; soon it is many times too long and mostly stale.
Fix: optimizer.zero_grad(). Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
model = nn.Sequential(
    nn.Conv2d(1, 8, 3),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(72, 32),
    nn.ReLU(),
    nn.Linear(32, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
for epoch in range(12):
    for i in range(0, 1400, 28):
        if fixed:
            optimizer.zero_grad()
        loss = criterion(model(x[i : i + 28]), y[i : i + 28])
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    print("final accuracy", (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
