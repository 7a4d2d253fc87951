"""A hand-written smooth activation whose backward forgot a factor's sign.

Fault: the gradient below each use of it points away from the minimum, so the first layers climb.
Fix: the true derivative. Learned: r2 on held-out points.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
FIXED = "--fixed" in sys.argv


class Gauss(torch.autograd.Function):
    """exp(-x^2), whose derivative is -2 x exp(-x^2)."""

    @staticmethod
    def forward(ctx, x):
        out = torch.exp(-(x**2))
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return grad * (-2 if FIXED else 2) * x * out


class Radial(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 40)
        self.second = nn.Linear(40, 10)
        self.last = nn.Linear(10, 1)

    def forward(self, x):
        return self.last(Gauss.apply(self.second(Gauss.apply(self.first(x)))))


def target(x):
    return torch.sin(2 * x[:, :1]) * x[:, 1:2] + torch.cos(3 * x[:, 2:])


x = torch.randn(2000, 3)
y = target(x)
net = Radial()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for step in range(1500):
    pick = torch.randint(0, 2000, (100,))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(x[pick]), y[pick])
    loss.backward()
    optimizer.step()
    if step % 150 == 0:
        print(step, loss.item())
fresh = torch.randn(1000, 3)
with torch.no_grad():
    print("final r2", float(1 - ((net(fresh) - target(fresh)) ** 2).mean() / target(fresh).var()))
