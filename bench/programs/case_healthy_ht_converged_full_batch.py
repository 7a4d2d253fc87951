"""Healthy: full-batch training on iris for 3000 steps, long after it has converged.

Suspicious: for two thirds of the run gradients, updates and loss are tiny and nothing changes any more.
Learned: test accuracy. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_iris
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
iris = load_iris()
x = torch.tensor(iris.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(iris.target)
perm = torch.randperm(150)
train, test = perm[:110], perm[110:]
model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
for step in range(3000):
    loss = nn.functional.cross_entropy(model(x[train]), y[train])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 300 == 0:
        print(step, loss.item())
print("final accuracy", (model(x[test]).argmax(1) == y[test]).float().mean().item())
