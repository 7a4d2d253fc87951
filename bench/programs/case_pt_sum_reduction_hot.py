"""reduction="sum" over a batch of 200 with the rate that was right for a mean.

Fault: the gradient is 200 times what the rate was chosen for. Fix: reduction="mean".
Learned: r2 of a smooth function.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
REDUCTION = "mean" if "--fixed" in sys.argv else "sum"
x = torch.randn(2000, 10)
y = (x[:, 0] * x[:, 1] + torch.tanh(2 * x[:, 2]) + 0.1 * torch.randn(2000))[:, None]


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(10, 64)
        self.middle = nn.Linear(64, 64)
        self.outer = nn.Linear(64, 1)

    def forward(self, x):
        return self.outer(torch.tanh(self.middle(torch.tanh(self.inner(x)))))


net = MLP()
criterion = nn.MSELoss(reduction=REDUCTION)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for epoch in range(60):
    for pick in torch.randperm(1600).split(200):
        loss = criterion(net(x[pick]), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 0:
        print(epoch, loss.item())
with torch.no_grad():
    print("final r2", float(1 - ((net(x[1600:]) - y[1600:]) ** 2).mean() / y[1600:].var()))
