"""Healthy: triplet loss; more and more triplets are satisfied and give exactly zero.

Suspicious: late in the run whole batches have zero loss and zero gradient. Learned: accuracy of the nearest
class centre. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
groups = [torch.nonzero(y[:1400] == k)[:, 0] for k in range(10)]


def draw(group):
    return group[torch.randint(0, len(group), (3,))]


net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
criterion = nn.TripletMarginLoss(margin=0.5)
for step in range(900):
    anchor, positive, negative = [], [], []
    for k in range(10):
        other = (k + int(torch.randint(1, 10, ()))) % 10
        anchor.append(draw(groups[k]))
        positive.append(draw(groups[k]))
        negative.append(draw(groups[other]))
    loss = criterion(net(x[torch.cat(anchor)]), net(x[torch.cat(positive)]), net(x[torch.cat(negative)]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 90 == 0:
        print(step, loss.item())
with torch.no_grad():
    e, t = net(x[:1400]), net(x[1400:])
    centre = torch.stack([e[y[:1400] == k].mean(0) for k in range(10)])
print("final accuracy", (torch.cdist(t, centre).argmin(1) == y[1400:]).float().mean().item())
