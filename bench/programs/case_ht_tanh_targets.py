"""Wheel angles in degrees (-25 to 25) learnt by a net that ends in tanh.

Fault: the output is held within 1; the unit sits in the flat part with the right sign at best.
Fix: divide the angles by 30. Learned: r2 of the angle.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
RANGE = 30.0 if "--fixed" in sys.argv else 1.0


class Pilot(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 8, 5, stride=2)
        self.conv2 = nn.Conv1d(8, 16, 5, stride=2)
        self.fc1 = nn.Linear(16 * 5, 32)
        self.steer = nn.Linear(32, 1)

    def forward(self, scan):
        h = torch.relu(self.conv1(scan[:, None]))
        h = torch.relu(self.conv2(h)).flatten(1)
        return torch.tanh(self.steer(torch.relu(self.fc1(h))))[:, 0]


def scans(count):
    offset = torch.rand(count) * 2 - 1
    angle = torch.linspace(-1, 1, 32)
    wall = torch.exp(-((angle[None] - offset[:, None]) ** 2) / 0.1)
    return wall + 0.05 * torch.randn(count, 32), 25 * offset


scan, degrees = scans(2000)
net = Pilot()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(800):
    pick = torch.randint(0, 2000, (50,))
    loss = nn.functional.mse_loss(net(scan[pick]), degrees[pick] / RANGE)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, loss.item())
scan, degrees = scans(500)
with torch.no_grad():
    print("final r2", float(1 - ((net(scan) * RANGE - degrees) ** 2).mean() / degrees.var()))
