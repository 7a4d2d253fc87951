"""Two moons, a tanh net, SGD at 1e-5 in place of 0.2.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import make_moons
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
points, labels = make_moons(900, noise=0.1, random_state=1)
x, y = torch.tensor(points).float(), torch.tensor(labels)
net = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.2 if FIXED else 1e-5)
for _step in range(900):
    pick = torch.randint(0, 700, (16,))
    loss = nn.functional.cross_entropy(net(x[pick]), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print("final accuracy", (net(x[700:]).argmax(1) == y[700:]).float().mean().item())
