"""Transfer: a trunk pre-trained on digits 0-4 is frozen and a new head for 5-9 is attached.

Fault: the optimiser was built before the head was replaced; it holds the old head, and the new one stays as
it was drawn. Fix: build it afterwards. Learned: accuracy on held-out digits 5-9.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.trunk(x))


def fit(model, optimizer, x, y, epochs):
    for epoch in range(epochs):
        for idx in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", loss.item())


digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
low, high = y < 5, y >= 5
x_new, y_new = x[high], y[high] - 5
model = Classifier()
# the pre-training is done with plain tensors so that the script has one optimiser
for _ in range(120):
    loss = nn.functional.cross_entropy(model(x[low]), y[low])
    for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
        p.data -= 0.3 * g
optimizer = torch.optim.Adam(model.head.parameters(), lr=5e-3)
model.head = nn.Linear(64, 5)
model.trunk.requires_grad_(False)
if "--fixed" in sys.argv:
    optimizer = torch.optim.Adam(model.head.parameters(), lr=5e-3)
fit(model, optimizer, x_new[:700], y_new[:700], 30)
print("final accuracy", (model(x_new[700:]).argmax(1) == y_new[700:]).float().mean().item())
