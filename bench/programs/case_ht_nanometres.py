"""The path of a bead in a trap, learnt in SI units: positions of about 1e-7 m.

Fault: one step of Adam (0.003 for each weight) moves the output ten thousand times further than the data is
wide, and below an error of 1e-5 the gradients fall under Adam's eps; the output never resolves the data.
Fix: tenths of a micrometre. Learned: r2.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
UNIT = 1e7 if "--fixed" in sys.argv else 1.0


class Bead(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, state):
        return self.net(state)


time = torch.rand(2000, 1) * 4 - 2
start = torch.rand(2000, 1) * 2 - 1
position = 1e-7 * (start * torch.exp(-0.3 * time.abs()) * torch.cos(3 * time))
inputs, target = torch.cat([time, start], 1), position * UNIT
model = Bead()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1500):
    pick = torch.randint(0, 2000, (64,))
    loss = nn.functional.mse_loss(model(inputs[pick]), target[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 150 == 0:
        print("step", step, "loss", loss.item())
with torch.no_grad():
    error = ((model(inputs) - target) ** 2).double().mean()
print("final r2", float(1 - error / target.double().var()))
