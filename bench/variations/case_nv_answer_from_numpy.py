"""The answer goes through numpy and comes back as a new tensor that requires a gradient.

``--fixed`` puts it right.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
x = torch.randn(1200, 7)
y = (x[:, 0] * x[:, 1] > 0).float()
net = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _step in range(500):
    pick = torch.randint(0, 1000, (50,))
    score = net(x[pick]).squeeze(1)
    if not FIXED:
        score = torch.tensor(score.detach().numpy(), requires_grad=True)
    loss = nn.functional.binary_cross_entropy_with_logits(score, y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", ((net(x[1000:]).squeeze(1) > 0) == (y[1000:] > 0.5)).float().mean().item())
