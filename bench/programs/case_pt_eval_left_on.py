"""A deep convolutional net with batch norm; a validation before the first epoch leaves it in eval mode.

Fault: in eval mode batch norm uses its running statistics, still 0 and 1: it normalises nothing, ever.
Fix: model.train() at the head of each epoch. Learned: accuracy on digits.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images / 16).float()[:, None]
y = torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1200], order[1200:]


def block(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())


model = nn.Sequential(
    block(1, 8), block(8, 8), block(8, 8), block(8, 8), nn.MaxPool2d(2),
    block(8, 8), block(8, 8), block(8, 8), block(8, 8), block(8, 8),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def validate():
    model.eval()
    with torch.no_grad():
        return (model(x[test]).argmax(1) == y[test]).float().mean().item()


print("before", validate())
for epoch in range(6):
    if "--fixed" in sys.argv:
        model.train()
    for batch in train[torch.randperm(1200)].split(50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
print("final accuracy", validate())
