"""Electricity demand from five features, one of which is the Unix time in seconds.

Fault: 1.7e9 in one column; the first forward gives outputs of 1e8 and everything else is noise to it.
Fix: use hours since the start, scaled. Learned: r2 on held-out hours.
"""

import sys

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
rng = np.random.default_rng(0)
hours = np.arange(2400)
temperature = 10 + 8 * np.sin(hours / 24 / 15) + rng.normal(0, 2, 2400)
weekday = (hours // 24) % 7 >= 5
demand = 1.0 + 0.5 * np.sin(hours % 24 / 24 * 6.28) - 0.4 * weekday + 0.04 * (temperature - 10) ** 2 / 10
stamp = 1.7e9 + 3600.0 * hours
if "--fixed" in sys.argv:
    stamp = (stamp - stamp.mean()) / stamp.std()
columns = [
    stamp,
    np.sin(hours % 24 / 24 * 6.28),
    np.cos(hours % 24 / 24 * 6.28),
    (temperature - 10) / 8,
    weekday,
]
x = torch.tensor(np.stack(columns, 1), dtype=torch.float32)
y = torch.tensor(demand + 0.05 * rng.normal(size=2400), dtype=torch.float32)[:, None]
shuffled = torch.randperm(2400)
x, y = x[shuffled], y[shuffled]
model = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(25):
    for i in range(0, 2000, 50):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x[i : i + 50]), y[i : i + 50])
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    print("final r2", float(1 - ((model(x[2000:]) - y[2000:]) ** 2).mean() / y[2000:].var()))
