"""A contrast net (same digit or not) whose layers are all filled with 0.02.

Fault: all units of a layer compute the same and get the same gradient; the embedding has one direction.
Fix: the default initialisation. Learned: accuracy of the nearest class centre.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Siamese(nn.Module):
    def __init__(self, fixed):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 16))
        if not fixed:
            for parameter in self.parameters():
                nn.init.constant_(parameter, 0.02)

    def forward(self, a, b):
        return ((self.embed(a) - self.embed(b)) ** 2).sum(1)


def contrastive(distance, same, margin=2.0):
    apart = torch.relu(margin - (distance + 1e-6).sqrt()) ** 2
    return (same * distance + (1 - same) * apart).mean()


digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = Siamese("--fixed" in sys.argv)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(1200):
    i = torch.randint(0, 1400, (64,))
    # half of the pairs are of one class
    j = torch.stack([torch.nonzero(y[:1400] == y[k])[int(torch.randint(0, 130, ()))][0] for k in i[:32]])
    j = torch.cat([j, torch.randint(0, 1400, (32,))])
    loss = contrastive(net(x[i], x[j]), (y[i] == y[j]).float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, loss.item())
with torch.no_grad():
    e, t = net.embed(x[:1400]), net.embed(x[1400:])
    centre = torch.stack([e[y[:1400] == k].mean(0) for k in range(10)])
    print("final accuracy", (torch.cdist(t, centre).argmin(1) == y[1400:]).float().mean().item())
