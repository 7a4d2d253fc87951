"""Two spirals with a narrow ReLU net and momentum SGD.

Fault: the first dozens of steps push most of the 16 units of each layer below zero for every point; they
never come back and the boundary stays a line. Fix: LeakyReLU, so that no unit can be lost.
Learned: accuracy on fresh points.
"""

import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1)
fixed = "--fixed" in sys.argv


def spirals(count):
    turn = torch.rand(count) * 2.2 * math.pi + 0.5
    side = torch.randint(0, 2, (count,))
    angle = turn + math.pi * side
    points = torch.stack([turn * angle.cos(), turn * angle.sin()], 1) / 2
    return points + 0.02 * torch.randn(count, 2), side


act = (lambda: nn.LeakyReLU(0.1)) if fixed else nn.ReLU
model = nn.Sequential(
    nn.Linear(2, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 2)
)
sgd = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.9)
x, y = spirals(800)
for step in range(2500):
    pick = torch.randint(0, 800, (100,))
    loss = F.cross_entropy(model(x[pick]), y[pick])
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    if step % 250 == 0:
        print(step, loss.item())
points, side = spirals(1000)
print("final accuracy", (model(points).argmax(1) == side).float().mean().item())
