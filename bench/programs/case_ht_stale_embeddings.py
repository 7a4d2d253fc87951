"""Ratings from user and item vectors that are detached before they are multiplied.

Fault: .detach() (copied from the code that evaluates) cuts both tables off; only the two biases learn.
Fix: no detach. Learned: r2 of held-out ratings.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv


class Factors(nn.Module):
    def __init__(self, users, items, width=6):
        super().__init__()
        self.user, self.item = nn.Embedding(users, width), nn.Embedding(items, width)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, u, i):
        a, b = self.user(u), self.item(i)
        if not fixed:
            a, b = a.detach(), b.detach()
        return (a * b).sum(1) + self.user_bias(u)[:, 0] + self.item_bias(i)[:, 0]


taste, nature = torch.randn(120, 3), torch.randn(80, 3)
u, i = torch.randint(0, 120, (6000,)), torch.randint(0, 80, (6000,))
rating = (taste[u] * nature[i]).sum(1) / 1.7 + 0.1 * torch.randn(6000)
model = Factors(120, 80)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(20):
    for idx in torch.randperm(5000).split(100):
        loss = nn.functional.mse_loss(model(u[idx], i[idx]), rating[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, loss.item())
with torch.no_grad():
    rest = model(u[5000:], i[5000:]) - rating[5000:]
print("final r2", float(1 - (rest**2).mean() / rating[5000:].var()))
