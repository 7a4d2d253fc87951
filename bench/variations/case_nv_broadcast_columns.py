"""Diabetes regression: outputs (N,), targets (N, 1), the squared error written out.

``--fixed`` puts it right.
"""

import sys

import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
FIXED = "--fixed" in sys.argv
data = load_diabetes()
x = torch.tensor(StandardScaler().fit_transform(data.data)).float()
y = torch.tensor((data.target - 152) / 77).float()[:, None]
net = nn.Sequential(nn.Linear(10, 40), nn.SiLU(), nn.Linear(40, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for _step in range(500):
    pick = torch.randint(0, 340, (48,))
    target = y[pick].squeeze(1) if FIXED else y[pick]
    loss = (net(x[pick]).squeeze(-1) - target).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    rest = net(x[340:]) - y[340:]
print("final r2", float(1 - (rest**2).mean() / y[340:].var()))
