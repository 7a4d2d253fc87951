"""Low-rank adapters on a frozen network, both factors beginning at zero.

Fault: the gradient of either factor is proportional to the other, so both stay at zero for ever.
Fix: draw A, keep B at zero. Learned: r2 on the new task.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Lora(nn.Module):
    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad_(False)
        self.A = nn.Parameter(torch.zeros(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        if "--fixed" in sys.argv:
            nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def forward(self, x):
        return self.base(x) + x @ self.A.t() @ self.B.t()


def train(model, x, y, steps, lr):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for step in range(steps):
        pick = torch.randint(0, len(x), (64,))
        loss = nn.functional.mse_loss(model(x[pick]), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())


x = torch.randn(2000, 12)
new = torch.sin(x[:, 3:6] + 0.5).sum(1, keepdim=True) + 0.5 * x[:, :1]
body = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
state = torch.Generator().manual_seed(3)
for layer in body[::2]:
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=state) * layer.in_features**-0.5)
model = nn.Sequential(Lora(body[0]), nn.Tanh(), Lora(body[2]), nn.Tanh(), Lora(body[4]))
train(model, x, new, 700, 1e-2)
with torch.no_grad():
    print("final r2", float(1 - ((model(x) - new) ** 2).mean() / new.var()))
