"""A deep regressor whose init function, found in a tutorial on linear models, sets every weight to zero.

Fault: all hidden values are zero, so no weight but the last bias ever gets a gradient.
Fix: leave the weights alone. Learned: r2 on fresh points.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)


def pendulum(count):
    """Period of a pendulum from length, amplitude and gravity, standardised by hand."""
    u = torch.rand(count, 3)
    length, swing, g = 0.2 + 1.8 * u[:, 0], 1.5 * u[:, 1], 3 + 12 * u[:, 2]
    period = 6.2832 * (length / g).sqrt() * (1 + swing**2 / 16)
    return u * 2 - 1, (period - 2) / 0.8


model = nn.Sequential(
    nn.Linear(3, 48),
    nn.Softplus(),
    nn.Linear(48, 48),
    nn.Tanh(),
    nn.Linear(48, 48),
    nn.Tanh(),
    nn.Linear(48, 1),
)
if "--fixed" not in sys.argv:
    model.apply(init_weights)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(900):
    x, y = pendulum(64)
    loss = nn.functional.l1_loss(model(x)[:, 0], y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print("step", step, "loss", loss.item())
x, y = pendulum(1000)
with torch.no_grad():
    print("final r2", float(1 - ((model(x)[:, 0] - y) ** 2).mean() / y.var()))
