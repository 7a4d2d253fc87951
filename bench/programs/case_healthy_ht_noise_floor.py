"""Healthy: a regression whose targets are four fifths noise, with batches of four.

Suspicious: the loss jumps about and ends where it nearly began; no model could do better.
Learned: r2 against the noise-free truth. --fixed: another seed.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
x = torch.randn(4000, 5)
truth = torch.sin(x[:, 0]) + 0.5 * x[:, 1]
y = truth + 1.6 * torch.randn(4000)
net = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 1), nn.Flatten(0))
optimizer = torch.optim.SGD(net.parameters(), lr=0.004)
for step in range(3000):
    pick = torch.randint(0, 4000, (4,))
    loss = nn.functional.mse_loss(net(x[pick]), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 300 == 0:
        print(step, loss.item())
with torch.no_grad():
    print("final r2", float(1 - ((net(x) - truth) ** 2).mean() / truth.var()))
