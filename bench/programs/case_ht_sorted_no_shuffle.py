"""Digits sorted by class (as the folders were read) and a loader without shuffle.

Fault: for a whole tenth of an epoch every label is the same; the net learns to say that class and forgets the
rest, round and round. Fix: shuffle=True. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
test, train = perm[:397], perm[397:]
train = train[y[train].argsort()]
loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=20, shuffle="--fixed" in sys.argv)


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.l3(torch.relu(self.l2(torch.relu(self.l1(x)))))


model = MLP()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(12):
    total = 0.0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total / len(loader))
print("final accuracy", (model(x[test]).argmax(1) == y[test]).float().mean().item())
