"""nn.Dropout(0.95): the writer came from a framework where the number was the share to keep.

Fault: 95 % of each hidden layer is wiped out on every step; what is left is noise. Fix: 0.05.
Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
P = 0.05 if "--fixed" in sys.argv else 0.95
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = nn.Sequential(
    *[nn.Linear(64, 48), nn.ReLU(), nn.Dropout(P)],
    *[nn.Linear(48, 48), nn.ReLU(), nn.Dropout(P)],
    *[nn.Linear(48, 48), nn.ReLU(), nn.Dropout(P)],
    nn.Linear(48, 10),
)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(25):
    net.train()
    for idx in torch.randperm(1400).split(50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[idx]), y[idx])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
net.eval()
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
