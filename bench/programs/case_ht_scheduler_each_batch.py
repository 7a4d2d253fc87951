"""ExponentialLR with gamma 0.9, stepped after every batch instead of after every epoch.

Fault: the learning rate falls by a thousand within 66 batches, before anything is learnt, and stays there.
Fix: step the schedule at the end of the epoch. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

torch.set_num_threads(1)
torch.manual_seed(0)
per_epoch = "--fixed" in sys.argv
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
schedule = ExponentialLR(optimizer, gamma=0.9)
for epoch in range(25):
    for i in range(0, 1400, 35):
        loss = nn.functional.cross_entropy(net(x[i : i + 35]), y[i : i + 35])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not per_epoch:
            schedule.step()
    if per_epoch:
        schedule.step()
    print(epoch, loss.item(), schedule.get_last_lr()[0])
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
