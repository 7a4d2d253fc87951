"""Sequences arrive as (time, batch, feature) and are turned with view instead of permute.

Fault: view keeps the memory and only renames it; each row is a patchwork of other samples' moments, and its
label has nothing to do with it. Fix: permute. Learned: accuracy on fresh sequences.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
TIME, FEATURES = 25, 4
fixed = "--fixed" in sys.argv


def simulator(batch):
    """Time-major, as the simulator gives it: the drift of feature 0 is up or down."""
    label = torch.randint(0, 2, (batch,))
    noise = torch.randn(TIME, batch, FEATURES)
    drift = (label * 2 - 1)[None, :] * torch.linspace(0, 1.5, TIME)[:, None]
    noise[..., 0] += drift
    return noise, label


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 16, 5)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        batch = x.shape[1]
        x = x.permute(1, 0, 2) if fixed else x.reshape(batch, TIME, FEATURES)
        return self.fc(torch.relu(self.conv(x.transpose(1, 2))).mean(2))


model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
x, y = simulator(1200)
for epoch in range(20):
    for i in range(0, 1200, 40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[:, i : i + 40]), y[i : i + 40])
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
x, y = simulator(1000)
print("final accuracy", (model(x).argmax(1) == y).float().mean().item())
