"""Fresh samples of a smooth function; the targets of each batch belong to other samples.

``--fixed`` puts it right.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
mix = torch.randn(6, 1)
net = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for _step in range(700):
    x = torch.randn(40, 6)
    y = torch.sin(x @ mix)
    if not FIXED:
        y = y[torch.randperm(40)]
    loss = ((net(x) - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
x = torch.randn(1000, 6)
with torch.no_grad():
    print("final r2", float(1 - ((net(x) - torch.sin(x @ mix)) ** 2).mean() / torch.sin(x @ mix).var()))
