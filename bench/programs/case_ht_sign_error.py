"""A mixture-density-like model of noisy waves; the log-likelihood is minimised instead of maximised.

Fault: the minus sign before the mean is missing. Fix: put it there. Learned: r2 of the mean.
"""

import sys

import torch
from torch import nn
from torch.distributions import Normal

torch.set_num_threads(1)
torch.manual_seed(0)
sign = -1.0 if "--fixed" in sys.argv else 1.0


class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.location = nn.Linear(64, 1)
        self.scale = nn.Linear(64, 1)

    def forward(self, t):
        h = self.body(t)
        return Normal(self.location(h), nn.functional.softplus(self.scale(h)) + 0.05)


t = torch.rand(1500, 1) * 4 - 2
wave = torch.sin(2 * t)
seen = wave + 0.1 * torch.randn_like(t)
model = Waves()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1000):
    pick = torch.randint(0, 1500, (100,))
    loss = sign * model(t[pick]).log_prob(seen[pick]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, loss.item())
with torch.no_grad():
    print("final r2", float(1 - ((model(t).mean - wave) ** 2).mean() / wave.var()))
