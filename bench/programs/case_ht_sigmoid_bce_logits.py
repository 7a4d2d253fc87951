"""Rare events (5 %): the model ends in a sigmoid and the loss is BCEWithLogitsLoss.

Fault: the loss squashes the probability a second time; it can only say between 0.5 and 0.73, wants the lowest
for nearly everything, and the rare class is never found. Fix: no sigmoid in the model. Learned: F1.
"""

import sys

import torch
from sklearn.datasets import make_classification
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Detector(nn.Module):
    def __init__(self, squash):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
        self.squash = nn.Sigmoid() if squash else nn.Identity()

    def forward(self, x):
        return self.squash(self.net(x)).view(-1)


x, y = make_classification(
    3000, 12, n_informative=6, weights=[0.95], class_sep=1.6, flip_y=0.0, random_state=4
)
x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=0)
x_train, y_train = torch.tensor(x_train).float(), torch.tensor(y_train).float()
fixed = "--fixed" in sys.argv
model = Detector(squash=not fixed)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(10):
    for idx in torch.randperm(len(x_train)).split(64):
        loss = loss_fn(model(x_train[idx]), y_train[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
with torch.no_grad():
    said = model(torch.tensor(x_test).float()) > (0.0 if fixed else 0.5)
print("final f1", f1_score(y_test, said.numpy()))
