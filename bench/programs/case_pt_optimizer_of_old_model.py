"""Cross-validation: each fold makes a new model, and the optimiser was made once before the folds.

Fault: the optimiser goes on stepping the first model's weights; the later folds' models never change.
Fix: a new optimiser for each fold. Learned: mean accuracy over the later folds.
"""

import sys

import torch
from sklearn.datasets import load_iris
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
iris = load_iris()
x = torch.tensor((iris.data - iris.data.mean(0)) / iris.data.std(0)).float()
y = torch.tensor(iris.target)
order = torch.randperm(150)


def make():
    return nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 3))


model = make()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scores = []
for fold in range(5):
    held = order[fold * 30 : fold * 30 + 30]
    train = order[~torch.isin(order, held)]
    model = make()
    if "--fixed" in sys.argv:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(25):
        for batch in train[torch.randperm(120)].split(20):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        scores.append((model(x[held]).argmax(1) == y[held]).float().mean().item())
    print(fold, loss.item(), scores[-1])
print("final accuracy", sum(scores) / 5)
