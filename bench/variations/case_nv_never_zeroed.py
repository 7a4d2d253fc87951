"""Breast cancer, SGD with zero_grad() forgotten.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
data = load_breast_cancer()
x = torch.tensor(StandardScaler().fit_transform(data.data)).float()
y = torch.tensor(data.target)
net = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for _step in range(600):
    pick = torch.randint(0, 450, (32,))
    loss = nn.functional.cross_entropy(net(x[pick]), y[pick])
    if FIXED:
        optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x[450:]).argmax(1) == y[450:]).float().mean().item())
