"""Rings of points, Adam at 0.5 in place of 0.005.

``--fixed`` puts it right.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
angle, ring = 6.2832 * torch.rand(1500), torch.randint(0, 3, (1500,))
radius = 1.0 + ring + 0.15 * torch.randn(1500)
x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
net = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 3))
optimizer = torch.optim.Adam(net.parameters(), lr=0.005 if FIXED else 0.5)
for _step in range(500):
    pick = torch.randint(0, 1200, (36,))
    loss = nn.functional.cross_entropy(net(x[pick]), ring[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x[1200:]).argmax(1) == ring[1200:]).float().mean().item())
