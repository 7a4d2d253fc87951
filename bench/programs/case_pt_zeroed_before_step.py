"""backward, zero_grad, step: in that order.

Fault: the gradients are thrown away before the optimiser sees them. Fix: zero_grad first.
Learned: accuracy on wine.
"""

import sys

import torch
from sklearn.datasets import load_wine
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
wine = load_wine()
x = torch.tensor((wine.data - wine.data.mean(0)) / wine.data.std(0)).float()
y = torch.tensor(wine.target)
order = torch.randperm(len(x))
train, test = order[:130], order[130:]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(13, 32), nn.Linear(32, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


model = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(60):
    for batch in train[torch.randperm(130)].split(26):
        if "--fixed" in sys.argv:
            optimizer.zero_grad()
        loss = criterion(model(x[batch]), y[batch])
        loss.backward()
        if "--fixed" not in sys.argv:
            optimizer.zero_grad()
        optimizer.step()
    if epoch % 10 == 0:
        print(epoch, loss.item())
with torch.no_grad():
    print("final accuracy", (model(x[test]).argmax(1) == y[test]).float().mean().item())
