"""The loss is put into a new tensor with requires_grad=True "because backward complained".

Fault: the new tensor knows nothing of the model; backward ends at it and no parameter has a gradient.
Fix: call backward on the loss itself. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_iris
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Trainer:
    def __init__(self, model, fixed):
        self.model, self.fixed = model, fixed
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        if not self.fixed:
            loss = torch.tensor(loss.item(), requires_grad=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()


iris = load_iris()
x = torch.tensor(iris.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(iris.target)
perm = torch.randperm(150)
train, test = perm[:100], perm[100:]
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
trainer = Trainer(net, "--fixed" in sys.argv)
for epoch in range(40):
    losses = [trainer.step(x[i], y[i]) for i in train[torch.randperm(100)].split(10)]
    print(epoch, sum(losses) / len(losses))
print("final accuracy", (net(x[test]).argmax(1) == y[test]).float().mean().item())
