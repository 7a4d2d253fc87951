"""Healthy: cosine annealing with warm restarts; the loss jumps up at each restart.

Suspicious: a saw-tooth loss, and a rate of zero just before each tooth. Learned: r2 on the training
table. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
x, y = load_diabetes(return_X_y=True)
x = torch.tensor(x / x.std(0)).float()
y = torch.tensor((y - y.mean()) / y.std()).float()
net = nn.Sequential(
    nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1), nn.Flatten(0)
)
optimizer = torch.optim.SGD(net.parameters(), lr=0.08, momentum=0.9)
schedule = CosineAnnealingWarmRestarts(optimizer, T_0=150, T_mult=2)
for step in range(1050):
    pick = torch.randint(0, 442, (32,))
    loss = nn.functional.mse_loss(net(x[pick]), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 50 == 0:
        print(step, loss.item(), schedule.get_last_lr()[0])
with torch.no_grad():
    print("final r2", float(1 - ((net(x) - y) ** 2).mean() / y.var()))
