"""Regression that also predicts its own variance, from a plain linear output.

Fault: nothing keeps the variance positive, so its logarithm is NaN for some samples at once.
Fix: predict the log of the variance. Learned: r2 of the mean on held-out patients.
"""

import sys

import torch
from sklearn.datasets import load_diabetes
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class MeanAndVariance(nn.Module):
    def __init__(self, fixed):
        super().__init__()
        self.fixed = fixed
        self.trunk = nn.Sequential(nn.Linear(10, 24), nn.Tanh())
        self.mean = nn.Linear(24, 1)
        self.variance = nn.Linear(24, 1)

    def forward(self, x):
        h = self.trunk(x)
        spread = self.variance(h)
        return self.mean(h), spread.exp() if self.fixed else spread

    def loss(self, x, y):
        mean, variance = self(x)
        return (0.5 * torch.log(variance) + (y - mean) ** 2 / (2 * variance)).mean()


x, y = load_diabetes(return_X_y=True)
x = torch.tensor(x / x.std(0), dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
model = MeanAndVariance("--fixed" in sys.argv)
adam = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(60):
    for i in range(0, 340, 34):
        loss = model.loss(x[i : i + 34], y[i : i + 34])
        adam.zero_grad()
        loss.backward()
        adam.step()
    if epoch % 6 == 0:
        print("epoch", epoch, "nll", loss.item())
with torch.no_grad():
    rest = model(x[340:])[0] - y[340:]
print("final r2", float(1 - (rest**2).mean() / y[340:].var()))
